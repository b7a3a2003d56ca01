"""Whose variance it is: intraclass correlation, R², repeatability, design effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lmmjax.results.delta import Delta

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.reading.icc import IntraclassCorrelation
    from lmmjax.reading.r2 import ExplainedVariance


class Shares(Delta):
    """Methods that share the variance out, with standard errors by the delta method."""

    def icc(self, level: float = 0.95) -> IntraclassCorrelation:
        """Intraclass correlations: how much of the variance lies between groups.

        Parameters
        ----------
        level : float, default 0.95
            Of the intervals.

        Returns
        -------
        IntraclassCorrelation
            ``adjusted``, ``conditional`` and ``by_group``; ``frame`` has standard errors and
            intervals too. Its documentation has the definitions.

        Raises
        ------
        LmmError
            If `level` does not lie between 0 and 1.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
        >>> round(fit.icc().adjusted, 3)
        0.418
        """
        from lmmjax.reading.icc import icc

        return icc(self, level)

    def r2(self, level: float = 0.95) -> ExplainedVariance:
        """Nakagawa and Schielzeth's R²: marginal (fixed effects) and conditional (both parts).

        Parameters
        ----------
        level : float, default 0.95
            Of the intervals.

        Returns
        -------
        ExplainedVariance
            ``marginal``, ``conditional``, and ``frame`` with standard errors and intervals.

        Raises
        ------
        LmmError
            If `level` does not lie between 0 and 1.

        Notes
        -----
        Variance of ``X beta`` over the rows (marginal), and that plus the random effects' mean
        variance over the rows (conditional), over the sum of both and of ``sigma**2``: as
        ``performance::r2_nakagawa`` and ``MuMIn::r.squaredGLMM``. Intervals are symmetric on the
        logit scale.

        Source: Nakagawa & Schielzeth (2013), Methods Ecol. Evol. 4, 133-142; Johnson (2014), ibid.
        5, 944-946, for random slopes.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> print(fit.r2())
        R² (Nakagawa)
                      estimate     se  95% interval
          marginal       0.279  0.077  0.15 to 0.45
          conditional    0.799  0.044  0.70 to 0.87
        """
        from lmmjax.reading.r2 import r2

        return r2(self, level)

    def repeatability(self, level: float = 0.95, *, adjusted: bool = True) -> pd.DataFrame:
        """Each grouping factor's share of the variance, as rptR gives it.

        Parameters
        ----------
        level : float, default 0.95
            Of the intervals.
        adjusted : bool, default True
            Whether the fixed effects' variance is left out of the whole.

        Returns
        -------
        pandas.DataFrame
            ``estimate``, ``se``, ``lower`` and ``upper``, one row a grouping factor; NaN where a
            variance is at its boundary.

        Raises
        ------
        LmmError
            If `level` does not lie between 0 and 1.

        Notes
        -----
        Variance of the group over that of all groups, the residual and, unless adjusted, the
        fixed part: ``rptR::rptGaussian`` with its argument of the same name. rptR bootstraps its
        intervals; these are by the delta method, symmetric on the logit scale.

        Source: Nakagawa & Schielzeth (2010), Biol. Rev. 85, 935-956; Stoffel, Nakagawa &
        Schielzeth (2017), Methods Ecol. Evol. 8, 1639-1644.

        Examples
        --------
        >>> import lmmjax as lj
        >>> formula = "diameter ~ 1 + (1 | plate) + (1 | sample)"
        >>> fit = lj.lmm(formula, lj.datasets.load("Penicillin"))
        >>> fit.repeatability().round(3)
                estimate     se  lower  upper
        plate      0.151  0.085  0.046  0.396
        sample     0.785  0.113  0.495  0.932
        """
        from lmmjax.reading.icc import repeatability

        return repeatability(self, level, adjusted)

    def design_effect(
        self, level: float = 0.95, *, size: Literal["weighted", "mean"] = "weighted"
    ) -> pd.DataFrame:
        """How much grouping inflates the variance of a mean, as against independent rows.

        Parameters
        ----------
        level : float, default 0.95
            Of the intervals.
        size : {"weighted", "mean"}, default "weighted"
            The groups' size m: weighted by itself, ``sum m**2 / sum m``, which is right for
            unequal groups, or the plain mean.

        Returns
        -------
        pandas.DataFrame
            One row a grouping factor: ``size``, ``icc``, ``deff``, ``se``, ``lower``, ``upper``
            (the last three of ``deff``), and ``n_effective``, the rows over ``deff``.

        Raises
        ------
        LmmError
            If `size` is not one of its choices, or `level` does not lie between 0 and 1.

        Notes
        -----
        ``1 + (m - 1) icc`` (Kish 1965, Survey Sampling, section 5.4; with unequal groups, Kish
        1987, The Survey Statistician 17), with the group's own share of random plus residual
        variance. It is for what does not vary within groups, such as a treatment given to whole
        groups; what varies within them can be known better, not worse, for the grouping.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
        >>> fit.design_effect()[["size", "icc", "deff", "n_effective"]].round(2)
               size   icc  deff  n_effective
        Batch   5.0  0.42  2.67        11.22
        """
        from lmmjax.reading.icc import design_effect

        return design_effect(self, level, size)
