"""What a fit can tell. The class names things; the work is done in :mod:`lmmjax.reading`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmmjax.elsewhere import ON_FIT, advice_on_name
from lmmjax.errors import DataError
from lmmjax.fitting import refit_response
from lmmjax.keywords import methods_know_keywords
from lmmjax.messages import warn_about
from lmmjax.results.diagnostics import Diagnostics
from lmmjax.results.intervals import Intervals
from lmmjax.results.means import MarginalMeans
from lmmjax.results.shares import Shares
from lmmjax.results.simulating import Simulating
from lmmjax.results.testing import Testing

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.reading.ranef import RandomEffects
    from lmmjax.reading.summary import Summary


@methods_know_keywords
@dataclass(frozen=True, eq=False, repr=False)
class LinearMixedModelResult(Testing, MarginalMeans, Intervals, Shares, Diagnostics, Simulating):
    """A fitted linear mixed model.

    Made by :func:`lmmjax.lmm`. Nothing is computed beyond the fit until it is asked for, and what
    was computed is kept. Results can be pickled and copied.

    Attributes
    ----------
    design : Design
        The arrays that the model was fitted to, and the coding for new data.
    raw : Fitted
        The fit as arrays.
    formula : str
        As it was given.
    data : data frame
        The data as they were given, all rows.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (1 + Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> fit
    <LinearMixedModelResult: Reaction ~ Days + (1 + Days | Subject), REML, 180 obs, converged>
    >>> print(fit)
    Linear mixed model fit by REML
    Formula: Reaction ~ Days + (1 + Days | Subject)
    REML criterion at convergence: 1743.6
    Random effects:
     Groups   Name        Std.Dev. Corr
     Subject  (Intercept) 24.740
              Days         5.922   0.07
     Residual             25.592
    Number of obs: 180, groups:  Subject, 18
    Fixed effects:
    (Intercept)        Days
         251.41       10.47
    >>> round(fit.criterion, 3), round(fit.aic, 3), round(fit.bic, 3)
    (1743.628, 1755.628, 1774.786)
    >>> fit.pvalues.round(6).to_dict()
    {'(Intercept)': 0.0, 'Days': 3e-06}
    """

    def __repr__(self) -> str:
        state = "converged" if self.converged else "not converged"
        if self.is_singular:
            state += ", singular"
        return f"<{type(self).__name__}: {self.formula}, {self.method}, {self.nobs} obs, {state}>"

    def __str__(self) -> str:
        from lmmjax.reading.summary import overview

        return overview(self)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Answer a name that a fit does not have with the one that it has."""
            if name.startswith("_") or hasattr(type(self), name):
                # What a property of this name raised itself is not to be hidden.
                return object.__getattribute__(self, name)
            advice = advice_on_name(name, ON_FIT, dir(type(self)))
            raise AttributeError(f"a fit has no attribute {name!r}{advice}")

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()

    # --- random effects --------------------------------------------------------------------------
    def ranef(self, condvar: bool = False) -> RandomEffects:
        """Conditional modes of the random effects (BLUPs), by grouping factor.

        Parameters
        ----------
        condvar : bool, default False
            Whether to compute their conditional covariance matrices too, given the fixed effects
            and the variances (lme4's ``postVar``).

        Returns
        -------
        RandomEffects
            Maps a grouping factor's name to a frame: levels by effects.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
        >>> fit.ranef()["Batch"].round(2).loc[["A", "B"]]
               (Intercept)
        Batch
        A           -17.61
        B             0.39
        """
        from lmmjax.reading.ranef import random_effects

        return random_effects(self, condvar)

    def coef(self) -> dict[str, pd.DataFrame]:
        """Coefficients of each level: fixed plus random effects.

        Returns
        -------
        dict of str to pandas.DataFrame
            By grouping factor, levels by coefficients.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> fit.coef()["Subject"].head(2).round(2)
                 (Intercept)    Days
        Subject
        308               253.66  19.67
        309               211.01   1.85
        """
        from lmmjax.reading.ranef import cluster_coefficients

        return cluster_coefficients(self)

    def predict(
        self,
        newdata: Any = None,
        *,
        include_re: bool | str | Sequence[str] = True,
        allow_new_levels: bool = False,
        interval: Literal["confidence", "prediction"] | None = None,
        level: float = 0.95,
        se: bool = False,
        offset: Any = None,
        weights: Any = None,
    ) -> pd.Series | pd.DataFrame:
        """Predict the response.

        Parameters
        ----------
        newdata : data frame, optional
            New rows in any form that :func:`lmmjax.lmm` takes; by default the rows of the fit.
        include_re : bool, str or sequence of str, default True
            Random effects to include: all, none (the population line), or those of the named
            grouping factors.
        allow_new_levels : bool, default False
            Whether levels that the fit did not see are allowed. Their effect is zero, and their
            variance counts in standard errors.
        interval : {"confidence", "prediction"}, optional
            Interval for the mean, or for a new observation.
        level : float, default 0.95
            Of the interval.
        se : bool, default False
            Whether to give standard errors of the mean too.
        offset : array or str, optional
            Offset of the new rows, where the fit's was given as an array.
        weights : array or str, optional
            Prior weights of the new rows, for prediction intervals; ones by default.

        Returns
        -------
        pandas.Series or pandas.DataFrame
            One value a row, NaN where a predictor is missing or the data do not determine the
            prediction (a combination of levels without rows); a frame with the columns ``fit``,
            ``se`` (if asked for), ``lower`` and ``upper`` (with an interval) if more than the
            prediction is asked for.

        Raises
        ------
        DataError
            For an absent column, an unseen level of a factor, or of a grouping factor unless
            allowed.
        LmmError
            If an argument is not one of its choices.

        Warns
        -----
        RankWarning
            Which rows the data do not determine.

        Notes
        -----
        Standard errors are those of ``x'beta + z'b - (x'beta_hat + z'b_hat)``, from the joint
        covariance of random and fixed effects (Henderson's mixed model equations) at the
        estimated variances. The prediction interval adds the residual variance and, for random
        effects that are left out, their variance: it is for a new observation in a group that was
        not observed. Quantiles are Student's t with Satterthwaite's degrees of freedom for the
        population line's confidence interval (as in :meth:`conf_int`), and normal otherwise.

        Source: Henderson (1975), Biometrics 31, 423-447; Robinson (1991), Statist. Sci. 6, 15-32.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> new = {"Days": [0.0, 10.0], "Subject": ["308", "308"]}
        >>> fit.predict(new).round(2).tolist()
        [253.66, 450.33]
        >>> fit.predict(new, include_re=False, interval="confidence").round(2)
              fit   lower   upper
        0  251.41  237.01  265.80
        1  356.08  322.29  389.87
        """
        from lmmjax.reading.predict import predict

        return predict(
            self,
            newdata,
            include_re=include_re,
            allow_new_levels=allow_new_levels,
            interval=interval,
            level=level,
            se=se,
            offset=offset,
            weights=weights,
        )

    # --- again -----------------------------------------------------------------------------------

    def refit(self, y: Any) -> LinearMixedModelResult:
        """Fit a new response on the same design; nothing but the response is prepared again.

        Parameters
        ----------
        y : array, shape (n,) or (number of rows given,)
            The response at the rows used, or at all rows of the data (those that were dropped are
            dropped again).

        Returns
        -------
        LinearMixedModelResult
            A new result; its ``data`` are still the given ones, with the old response.

        Raises
        ------
        DataError
            If `y` does not fit the rows, or is not finite.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> again = fit.refit(fit.design.y / 1000)   # in seconds
        >>> again.fixef.round(4).to_dict()
        {'(Intercept)': 0.2514, 'Days': 0.0105}
        """
        design = self.design
        values = np.asarray(y)
        if values.dtype.kind not in "iuf":
            raise DataError(f"the new response must be numeric, not {values.dtype}")
        if values.shape == (design.n + design.n_dropped,) and design.n_dropped:
            values = values[design.row_index]
        if values.shape != design.y.shape:
            raise DataError(
                f"the new response has shape {values.shape}; the fit has {design.n} rows"
                + (f" (of {design.n + design.n_dropped} given)" if design.n_dropped else "")
            )
        values = values.astype(np.float64)
        low, high = float(values.min()), float(values.max())
        if not math.isfinite(high - low):
            row = int(np.argmin(np.isfinite(values)))
            raise DataError(f"the new response is not finite at row {row}: {values[row]}")
        if low == high:
            raise DataError(f"the new response has no variance: every value is {low:g}")
        raw = refit_response(self.raw, values)
        fit = type(self)(design.with_response(values), raw, self.formula, self.data)
        warn_about(fit)
        return fit

    # --- tables ----------------------------------------------------------------------------------

    def summary(
        self,
        ddf: Literal["satterthwaite", "kenward-roger", "asymptotic"] = "satterthwaite",
    ) -> Summary:
        """Everything at a glance; prints in the layout of lme4 and lmerTest.

        Parameters
        ----------
        ddf : {"satterthwaite", "kenward-roger", "asymptotic"}, default "satterthwaite"
            Of the fixed effects' t tests; as in :meth:`contest`.

        Returns
        -------
        Summary
            Shown as text by ``print``, as tables in a notebook; its parts are attributes.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
        >>> fit.summary().coefficients.round(3)
                     Estimate  Std. Error   df  t value  Pr(>|t|)
        (Intercept)    1527.5      19.383  5.0   78.804       0.0
        """
        from lmmjax.reading.summary import summary

        return summary(self, ddf)

    def tidy(
        self,
        effects: str | Sequence[str] = ("fixed", "ran_pars"),
        *,
        conf_int: bool = False,
        level: float = 0.95,
    ) -> pd.DataFrame:
        """One row an estimate, with broom.mixed's columns.

        Parameters
        ----------
        effects : sequence of {"fixed", "ran_pars", "ran_vals"}
            Fixed effects, standard deviations and correlations, conditional modes.
        conf_int : bool, default False
            Whether to add ``conf.low`` and ``conf.high`` (Wald; none for ``"ran_pars"``).
        level : float, default 0.95

        Returns
        -------
        pandas.DataFrame
            Columns ``effect``, ``group``, ``level`` (with ``"ran_vals"``), ``term``, ``estimate``,
            ``std.error``, ``statistic``, ``df``, ``p.value``.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> fit.tidy()[["effect", "group", "term", "estimate"]].round(3)
             effect     group                   term  estimate
        0     fixed      None            (Intercept)   251.405
        1     fixed      None                   Days    10.467
        2  ran_pars   Subject        sd__(Intercept)    24.740
        3  ran_pars   Subject               sd__Days     5.922
        4  ran_pars   Subject  cor__(Intercept).Days     0.066
        5  ran_pars  Residual        sd__Observation    25.592
        """
        from lmmjax.reading.tidy import tidy

        return tidy(self, effects, conf_int=conf_int, level=level)

    def glance(self) -> pd.DataFrame:
        """One row for the model, with broom.mixed's columns.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> list(fit.glance().columns)
        ['nobs', 'sigma', 'logLik', 'AIC', 'BIC', 'REMLcrit', 'df.residual']
        """
        from lmmjax.reading.tidy import glance

        return glance(self)
