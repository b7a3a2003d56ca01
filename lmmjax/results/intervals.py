"""Intervals of a fit's parameters and of what follows from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lmmjax.estimates import Estimates

if TYPE_CHECKING:
    import pandas as pd


class Intervals(Estimates):
    """Methods that say how sure an estimate is."""

    def conf_int(
        self, level: float = 0.95, method: Literal["wald", "wald-z"] = "wald"
    ) -> pd.DataFrame:
        """Confidence intervals of the fixed effects.

        Parameters
        ----------
        level : float, default 0.95
        method : {"wald", "wald-z"}, default "wald"
            Estimate ± quantile x standard error, with the quantile of Student's t with
            Satterthwaite's degrees of freedom, which agrees with the p values; or, for
            ``"wald-z"``, of the normal distribution, as ``confint(method = "Wald")`` in lme4.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper``, one row a coefficient.

        Raises
        ------
        LmmError
            If `level` does not lie between 0 and 1, or the method is unknown.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> fit.conf_int().round(2)
                      lower   upper
        (Intercept)  237.01  265.80
        Days           7.21   13.73
        """
        from lmmjax.reading.coefficients import wald_interval

        return wald_interval(self, level, method)
