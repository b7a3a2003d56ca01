"""Tests of a fit's fixed effects and of its random terms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from lmmjax.estimates import Estimates

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.inference.anova import AnovaTable
    from lmmjax.inference.kenward_roger import KenwardRoger
    from lmmjax.inference.restricted_lrt import SimulatedTest
    from lmmjax.inference.singularity import RandomEffectsPCA, SingularityReport
    from lmmjax.inference.stepwise import Elimination


class Testing(Estimates):
    """Methods that test hypotheses."""

    @cached_property
    def kenward_roger(self) -> KenwardRoger:
        """Kenward and Roger's adjusted covariance of the fixed effects, and what df need."""
        from lmmjax.inference.kenward_roger import kenward_roger

        return kenward_roger(self.raw)

    def contest(
        self,
        L: Any,
        rhs: Any = None,
        *,
        joint: bool = True,
        ddf: Literal["satterthwaite", "kenward-roger", "asymptotic"] = "satterthwaite",
        adjust: Literal["none", "bonferroni", "holm", "fdr_bh", "fdr_by"] = "none",
        level: float = 0.95,
    ) -> pd.DataFrame:
        """Test linear hypotheses about the fixed effects: ``L beta = rhs``.

        Parameters
        ----------
        L : str, sequence of str, or array, shape (p,) or (q, p)
            Hypotheses as text (``"recipeB - recipeC = 0"``, several with commas or as a list), or
            the contrasts' weights.
        rhs : float or array, shape (q,), optional
            Right-hand sides of an array `L`; zeros by default.
        joint : bool, default True
            Whether to test all of them in one F test, or each of them in a t test.
        ddf : {"satterthwaite", "kenward-roger", "asymptotic"}, default "satterthwaite"
            How to find the denominator's degrees of freedom. Kenward and Roger's method also
            adjusts the standard errors, and needs a REML fit; asymptotic tests are normal and chi².
        adjust : {"none", "bonferroni", "holm", "fdr_bh", "fdr_by"}, default "none"
            Adjustment of the p values of several t tests.
        level : float, default 0.95
            Of the t tests' intervals, which are not adjusted.

        Returns
        -------
        pandas.DataFrame
            lmerTest's columns: ``Sum Sq``, ``Mean Sq``, ``NumDF``, ``DenDF``, ``F value``,
            ``Pr(>F)`` of the joint test; else ``Estimate``, ``Std. Error``, ``df``, ``t value``,
            ``lower``, ``upper``, ``Pr(>|t|)``, a row for each hypothesis.

        Raises
        ------
        LmmError
            The hypotheses cannot be read or contradict each other, an argument is not one of its
            choices, or the method does not go with the fit.

        Notes
        -----
        Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13); Kenward & Roger (1997),
        Biometrics 53, 983-997.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("angle ~ recipe + temp + (1 | recipe:replicate)", lj.datasets.load("cake"))
        >>> fit.contest("recipeB = 0, recipeC = 0").round(4)
                                   Sum Sq  Mean Sq  NumDF  DenDF  F value  Pr(>F)
        recipeB = 0, recipeC = 0  10.3035   5.1518      2   42.0   0.2488  0.7809
        >>> fit.contest(["recipeB - recipeC", "10 * temp = 1"], joint=False).iloc[:, :4].round(3)
                           Estimate  Std. Error     df  t value
        recipeB - recipeC     0.044       2.456   42.0    0.018
        10 * temp = 1         1.580       0.162  224.0    3.579
        """
        from lmmjax.inference.contrasts import contest

        return contest(self._fit, L, rhs, joint=joint, ddf=ddf, adjust=adjust, level=level)

    def anova(
        self,
        type: Literal["I", "II", "III"] | int = "III",
        ddf: Literal["satterthwaite", "kenward-roger", "asymptotic"] = "satterthwaite",
    ) -> AnovaTable:
        """Test each term of the fixed effects by an F test.

        Parameters
        ----------
        type : {"I", "II", "III"} or {1, 2, 3}, default "III"
            I: each term adjusted for those before it. II: for all terms that do not contain it.
            III: for all others, as lmerTest and SAS define it.
        ddf : {"satterthwaite", "kenward-roger", "asymptotic"}, default "satterthwaite"
            As in :meth:`contest`.

        Returns
        -------
        AnovaTable
            Prints as in lmerTest; ``frame`` has ``Sum Sq``, ``Mean Sq``, ``NumDF``, ``DenDF``,
            ``F value`` and ``Pr(>F)``, and ``hypotheses`` the contrasts.

        Raises
        ------
        LmmError
            An argument is not one of its choices, or the method does not go with the fit.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> print(fit.anova())
        Type III Analysis of Variance Table with Satterthwaite's method
             Sum Sq Mean Sq NumDF DenDF F value   Pr(>F)
        Days  30031   30031     1    17  45.853 3.26e-06 ***
        ---
        Signif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1
        """
        from lmmjax.inference.anova import anova_of_terms

        return anova_of_terms(self._fit, type, ddf)

    def drop1(
        self,
        scope: str | Sequence[str] | None = None,
        *,
        test: Literal["F", "Chisq"] = "F",
        ddf: Literal["satterthwaite", "kenward-roger", "asymptotic"] = "satterthwaite",
    ) -> AnovaTable:
        """Test each fixed-effects term that may be dropped: those that no other term contains.

        Parameters
        ----------
        scope : str or sequence of str, optional
            Terms to test; by default all that may be dropped.
        test : {"F", "Chisq"}, default "F"
            F tests in this fit, as lmerTest's ``drop1``; or likelihood ratios against the smaller
            models, all fitted by ML, as lme4's.
        ddf : {"satterthwaite", "kenward-roger", "asymptotic"}, default "satterthwaite"
            Of the F tests, as in :meth:`contest`.

        Returns
        -------
        AnovaTable
            The columns of :meth:`anova`; or ``npar`` (that are dropped), ``AIC``, ``LRT`` and
            ``Pr(>Chisq)``.

        Raises
        ------
        LmmError
            `scope` names what is no term, or a term that another one contains; or an argument is
            not one of its choices.

        Notes
        -----
        Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13).

        Examples
        --------
        >>> import lmmjax as lj
        >>> df = lj.datasets.load("cake")
        >>> fit = lj.lmm("angle ~ recipe * temp + (1 | recipe:replicate)", df)
        >>> fit.drop1().frame[["NumDF", "DenDF", "F value"]].round(4)
                     NumDF  DenDF  F value
        recipe:temp      2  222.0   0.0417
        >>> fit.drop1(test="Chisq").frame.round(3)
                     npar       AIC    LRT  Pr(>Chisq)
        <none>        NaN  1712.073    NaN         NaN
        recipe:temp   2.0  1708.158  0.084       0.959
        """
        from lmmjax.inference.drop_terms import drop1

        return drop1(self._fit, scope, test, ddf)

    def ranova(self, reduce_terms: bool = True) -> AnovaTable:
        """Test each random-effects term by a likelihood ratio.

        Parameters
        ----------
        reduce_terms : bool, default True
            Whether a term with slopes is made smaller by one of them at a time
            (``(Days | Subject)`` becomes ``(1 | Subject)``), or is dropped as a whole.

        Returns
        -------
        AnovaTable
            lmerTest's columns ``npar``, ``logLik``, ``AIC``, ``LRT``, ``Df``, ``Pr(>Chisq)``, and
            ``Pr(>mixture)``; the fit itself comes first.

        Notes
        -----
        A REML fit is compared by restricted likelihoods: the fixed effects are the same. Where a
        variance is zero the null value lies on the boundary, and the p value from chi² is too large
        (for one variance, about twice). ``Pr(>mixture)`` is from the 50:50 mixture of chi² with one
        df less and chi² with `Df`, for many independent groups and other variances above zero; it
        is given where one variance (with its covariances) is dropped. :meth:`exact_rlrt` holds for
        few groups too.

        As in lmerTest, ``(0 + x | g)`` is compared with ``(1 | g)`` when terms are reduced, which
        is no test (``Df`` 0). The columns of ``(1 + x || g)`` are terms of their own where they are
        numbers. A factor with a covariance structure of its own is dropped as a whole.

        Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13); Self & Liang (1987), J.
        Am. Statist. Assoc. 82, 605-610; Stram & Lee (1994), Biometrics 50, 1171-1177.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> fit.ranova().frame.iloc[:, :5].round(2)
                                      npar  logLik      AIC    LRT   Df
        <none>                           6 -871.81  1755.63    NaN  NaN
        Days in (1 + Days | Subject)     4 -893.23  1794.47  42.84  2.0
        """
        from lmmjax.inference.random_terms import ranova

        return ranova(self._fit, reduce_terms)

    def step(
        self,
        *,
        ddf: Literal["satterthwaite", "kenward-roger", "asymptotic"] = "satterthwaite",
        alpha_random: float = 0.1,
        alpha_fixed: float = 0.05,
        keep: str | Sequence[str] = (),
    ) -> Elimination:
        """Eliminate terms backwards: first random effects (:meth:`ranova`), then fixed effects.

        Parameters
        ----------
        ddf : {"satterthwaite", "kenward-roger", "asymptotic"}, default "satterthwaite"
            Of the fixed effects' F tests (:meth:`drop1`).
        alpha_random, alpha_fixed : float, default 0.1 and 0.05
            The term of the largest p value goes while that is above; 1 keeps all.
        keep : str or sequence of str
            Fixed-effects terms that stay whatever their p values.

        Returns
        -------
        Elimination
            Prints as in lmerTest; ``random`` and ``fixed`` are the tables' frames, ``final`` is the
            model found (a least-squares fit where no random effects are left).

        Raises
        ------
        LmmError
            An argument is not one of its choices, or `keep` names no term.

        Notes
        -----
        P values and intervals of a model that was found in this way are too optimistic: they do
        not know of the search.

        Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13).

        Examples
        --------
        >>> import lmmjax as lj
        >>> df = lj.datasets.load("cake")
        >>> found = lj.lmm("angle ~ recipe * temp + (1 | recipe:replicate)", df).step()
        >>> found.fixed[["Eliminated", "F value"]].round(3)
                     Eliminated  F value
        recipe:temp         1.0    0.042
        recipe              2.0    0.249
        temp                0.0   94.976
        >>> found.final.formula
        'angle ~ 1 + temp + (1 | recipe:replicate)'
        """
        from lmmjax.inference.stepwise import step

        return step(
            self._fit, ddf=ddf, alpha_random=alpha_random, alpha_fixed=alpha_fixed, keep=keep
        )

    def exact_rlrt(
        self, term: str | None = None, *, n: int = 10_000, seed: int = 0
    ) -> SimulatedTest:
        """Test one variance by its restricted likelihood ratio, with the null simulated exactly.

        Parameters
        ----------
        term : str, optional
            The random effect, where there are several: ``"(1 | Subject)"``, or the name of a
            grouping factor with one.
        n : int, default 10000
            Number of draws.
        seed : int, default 0

        Returns
        -------
        SimulatedTest
            ``statistic``, ``p_value``, ``standard_error`` (of the p value, from simulation) and the
            ``sample``.

        Raises
        ------
        LmmError
            `term` is not given among several, is none of them, or has more than one variance.

        Notes
        -----
        The distribution is exact for any number of groups if this is the only variance beside the
        residual one. With others it is that of the model without them (Greven et al. 2008), an
        approximation that RLRsim makes too.

        Crainiceanu & Ruppert (2004), J. R. Statist. Soc. B 66, 165-185; Greven, Crainiceanu,
        Küchenhoff & Peters (2008), J. Comput. Graph. Statist. 17, 870-891.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
        >>> test = fit.exact_rlrt()
        >>> round(test.statistic, 3), 0.002 < test.p_value < 0.008
        (6.369, True)
        """
        from lmmjax.inference.restricted_lrt import exact_rlrt

        return exact_rlrt(self._fit, term, n=n, seed=seed)

    def exact_lrt(
        self, drop: str | Sequence[str] = (), *, n: int = 10_000, seed: int = 0
    ) -> SimulatedTest:
        """Test the only variance, and fixed terms with it, with the null simulated exactly.

        Parameters
        ----------
        drop : str or sequence of str
            Fixed-effects terms that the null model does not have, in an order in which they may be
            dropped.
        n : int, default 10000
            Number of draws.
        seed : int, default 0

        Returns
        -------
        SimulatedTest
            As of :meth:`exact_rlrt`, by full likelihoods.

        Raises
        ------
        LmmError
            The model has several variances, or a term cannot be dropped.

        Notes
        -----
        Crainiceanu & Ruppert (2004), J. R. Statist. Soc. B 66, 165-185.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"), method="ML")
        >>> round(fit.exact_lrt().statistic, 3)
        5.403
        """
        from lmmjax.inference.restricted_lrt import exact_lrt

        return exact_lrt(self._fit, drop, n=n, seed=seed)

    def repca(self) -> RandomEffectsPCA:
        """Principal components of the random effects' covariance, by grouping factor.

        Returns
        -------
        RandomEffectsPCA
            Maps a grouping factor's name to a frame with ``sd`` (relative to the residual's),
            ``proportion`` and ``cumulative`` of each component; ``rotation`` has their directions.
            Components near zero are more random effects than the data support.

        Notes
        -----
        lme4's ``rePCA``, in the columns' own units. Bates, Kliegl, Vasishth & Baayen (2015),
        Parsimonious mixed models, arXiv:1506.04967.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> fit.repca()["Subject"].round(4)
                 sd  proportion  cumulative
        PC1  0.9669      0.9461      0.9461
        PC2  0.2309      0.0539      1.0000
        """
        from lmmjax.inference.singularity import random_effects_pca

        return random_effects_pca(self)

    def singularity(self) -> SingularityReport:
        """What of the random effects has collapsed, in words, and a simpler model.

        Returns
        -------
        SingularityReport
            Prints in words; ``directions`` are the combinations of effects that do not vary, and
            ``simpler`` is a formula without them (None where nothing is to be left out). It is
            false where nothing is singular.

        Notes
        -----
        A variance of zero takes its term out. Where all variances are above zero it is a
        correlation that collapsed, and ``||`` leaves the correlations out: that is a model of
        fewer parameters, not the same fit, and may be singular again.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> fit.singularity()
        Not singular: every variance is above zero and no correlation is ±1.
        """
        from lmmjax.inference.singularity import singularity

        return singularity(self._fit)
