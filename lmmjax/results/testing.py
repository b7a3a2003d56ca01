"""Tests of a fit's fixed effects and of its random terms."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from lmmjax.estimates import Estimates

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.inference.anova import AnovaTable
    from lmmjax.inference.kenward_roger import KenwardRoger


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
