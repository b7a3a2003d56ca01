"""Means and slopes that a fit's fixed effects imply, at values of the predictors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from lmmjax.estimates import Estimates

if TYPE_CHECKING:
    from lmmjax.inference.joint_tests import JointTests
    from lmmjax.inference.marginal_estimates import MarginalEstimates


class MarginalMeans(Estimates):
    """Methods that average over the predictors."""

    def emmeans(
        self,
        specs: str | Sequence[str],
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        weights: str | Sequence[float] = "equal",
        ddf: Literal["satterthwaite", "kenward-roger", "asymptotic"] = "satterthwaite",
        level: float = 0.95,
    ) -> MarginalEstimates:
        """Estimated marginal means (least-squares means), as R's emmeans has them.

        Parameters
        ----------
        specs : str or sequence of str
            Predictors at whose levels the means are: ``"recipe"``, ``["recipe", "temp"]``,
            ``"~ recipe | temp"``; ``"~ 1"`` for the overall mean.
        by : str or sequence of str, optional
            Predictors whose levels stand apart, as those behind ``|``.
        at : mapping, optional
            Values of numbers, or some of the levels of factors: ``{"Days": [0, 5]}``. Otherwise
            factors stand at all their levels, numbers at their mean over the rows used (numbers
            with two values count as factors).
        weights : str or sequence of float, default "equal"
            How to average over the levels of other factors: ``"equal"``; ``"proportional"`` to how
            often each combination occurs; ``"outer"``, to the product of how often each level does;
            ``"cells"``, by the rows in each cell (means of what was observed); ``"flat"``, equally
            over cells that occur; or a weight for each combination, the first factor's levels
            running fastest. Rows count alike, whatever their prior weights, as in R.
        ddf : {"satterthwaite", "kenward-roger", "asymptotic"}, default "satterthwaite"
            As in :meth:`contest`.
        level : float, default 0.95
            Of the intervals.

        Returns
        -------
        MarginalEstimates
            Prints as in R; ``frame`` has the table, and ``pairs()``, ``contrast(...)``,
            ``test(...)``, ``conf_int(...)`` and ``plot()`` go on from there.

        Raises
        ------
        LmmError
            A name is no predictor, a value no level, or an argument not one of its choices.

        Notes
        -----
        Means that the data do not determine (empty cells) are NaN, and print as ``nonEst``.
        An offset in the formula is computed at the grid's values; one given as an argument stands
        at its mean.
        Nested factors are not looked for: a level that only occurs within some levels of another
        factor is taken as if it could occur in all.

        Source: Searle, Speed & Milliken (1980), Am. Stat. 34, 216-221.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("angle ~ recipe + temp + (1 | recipe:replicate)", lj.datasets.load("cake"))
        >>> fit.emmeans("recipe")
         recipe emmean   SE df lower.CL upper.CL
         A        33.1 1.74 42     29.6     36.6
         B        31.6 1.74 42     28.1     35.1
         C        31.6 1.74 42     28.1     35.1
        <BLANKLINE>
        Degrees-of-freedom method: satterthwaite
        Confidence level used: 0.95
        >>> fit.emmeans("~ temp | recipe", at={"temp": [180, 200], "recipe": "A"}).frame.round(2)
            temp recipe  emmean    SE     df  lower.CL  upper.CL
        0  180.0      A   29.96  1.77  44.97     26.40     33.52
        1  200.0      A   33.12  1.74  42.00     29.62     36.63
        """
        from lmmjax.inference.marginal_means import emmeans

        return emmeans(self._fit, specs, by=by, at=at, weights=weights, ddf=ddf, level=level)

    def emtrends(
        self,
        specs: str | Sequence[str],
        var: str,
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        weights: str | Sequence[float] = "equal",
        ddf: Literal["satterthwaite", "kenward-roger", "asymptotic"] = "satterthwaite",
        level: float = 0.95,
    ) -> MarginalEstimates:
        """Estimated marginal slopes by a number, as R's emmeans has them.

        Parameters
        ----------
        specs : str or sequence of str
            Predictors at whose levels the slopes are, as in :meth:`emmeans`.
        var : str
            The number by which the slopes are.
        by, at, weights, ddf, level
            As in :meth:`emmeans`. A slope of a curve is at the mean of `var` unless `at` says
            where.

        Returns
        -------
        MarginalEstimates

        Raises
        ------
        LmmError
            As :meth:`emmeans`; or `var` is no number.

        Notes
        -----
        Derivatives of the model matrix by central differences of fourth order; R's emmeans has
        one-sided differences, which are off by a thousandth of the curvature over the data's range.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("angle ~ recipe * temp + (1 | recipe:replicate)", lj.datasets.load("cake"))
        >>> fit.emtrends("recipe", var="temp")
         recipe temp.trend     SE  df lower.CL upper.CL
         A           0.154 0.0282 222   0.0981    0.209
         B           0.165 0.0282 222   0.1090    0.220
         C           0.156 0.0282 222   0.1002    0.211
        <BLANKLINE>
        Degrees-of-freedom method: satterthwaite
        Confidence level used: 0.95
        """
        from lmmjax.inference.marginal_means import emtrends

        return emtrends(self._fit, specs, var, by=by, at=at, weights=weights, ddf=ddf, level=level)

    def joint_tests(
        self,
        by: str | Sequence[str] | None = None,
        *,
        at: Mapping[str, Any] | None = None,
        ddf: Literal["satterthwaite", "kenward-roger", "asymptotic"] = "satterthwaite",
    ) -> JointTests:
        """F tests of each term from marginal means, within levels of other factors if asked.

        Parameters
        ----------
        by : str or sequence of str, optional
            Predictors within whose levels to test: simple effects.
        at, ddf
            As in :meth:`emmeans`. Numbers are seen near their mean, so that units do not matter.

        Returns
        -------
        JointTests

        Notes
        -----
        Without `by`, and without numbers that interact, these are the tests of
        ``anova(type="III")``. As R's ``emmeans::joint_tests``, but for the denominator's degrees of
        freedom where single functions have different ones: see :meth:`MarginalEstimates.test`.
        Here they do not depend on the order of levels; those of a type III table, which are
        lmerTest's, can in unbalanced data (in the fourth digit where only intercepts vary).

        Where combinations of levels have no rows, a term's test is that of the part of its
        hypothesis that the data determine. A last row, ``(confounded)``, tests what the data say of
        differences between the combinations that there are beyond the terms' own rows.

        Examples
        --------
        >>> import lmmjax as lj
        >>> cake = lj.datasets.load("cake")
        >>> fit = lj.lmm("angle ~ recipe * temperature + (1 | recipe:replicate)", cake)
        >>> fit.joint_tests(by="recipe")
        recipe = A:
         model term  df1 df2 F.ratio p.value
         temperature   5 210   8.576  <.0001
        ...
        """
        from lmmjax.inference.marginal_means import joint_tests

        return joint_tests(self._fit, by, at=at, ddf=ddf)
