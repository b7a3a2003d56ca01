"""Functions of a fit's parameters, with standard errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from lmmjax.estimates import Estimates

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.inference.delta import DeltaEstimate
    from lmmjax.inference.parameters import ModelParameters


class Delta(Estimates):
    """Methods that put a standard error on what follows from the parameters."""

    @cached_property
    def parameters(self) -> ModelParameters:
        """All parameters by name: what functions given to :meth:`delta` take."""
        from lmmjax.inference.parameters import model_parameters

        return model_parameters(self)

    def delta(
        self,
        function: Callable[[ModelParameters], Any],
        level: float = 0.95,
        *,
        scale: Literal["identity", "log", "logit", "atanh"] | Sequence[str] = "identity",
    ) -> DeltaEstimate:
        """Standard errors of any function of the parameters, by the delta method.

        Parameters
        ----------
        function : callable
            Takes :class:`~lmmjax.inference.parameters.ModelParameters` (``p.beta``,
            ``p.coef("Days")``, ``p.cov["Subject"]``, ``p.sd``, ``p.corr``,
            ``p.variance("Subject", "Days")``, ``p.theta``, ``p.sigma``), and returns a scalar, an
            array, or a pytree of them. Written with ``jax.numpy``.
        level : float, default 0.95
            Of the intervals.
        scale : {"identity", "log", "logit", "atanh"}, default "identity"
            Scale on which the intervals are symmetric: the logarithm for what is positive, the
            logit for what lies between 0 and 1, Fisher's z for correlations. A sequence gives each
            entry its own.

        Returns
        -------
        DeltaEstimate
            ``estimate`` and ``se`` in the form that the function returns, ``frame`` (with
            intervals) and ``covariance`` of all entries; prints as a table.

        Raises
        ------
        LmmError
            The function cannot be differentiated, or an argument is not one of its choices.

        Notes
        -----
        ``Var(h) = g'C g``: g is the exact gradient, C the covariance of the coefficients beside
        twice the inverse of the exact Hessian of the criterion in the variance parameters (the
        two are asymptotically independent). Quantiles are normal. With few groups such intervals
        are too short; where the function depends on a variance or correlation at its boundary,
        there is no standard error, and NaN says so.

        Source: Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.3;
        Oehlert (1992), Am. Stat. 46, 27-29.

        Examples
        --------
        The day on which the mean reaction time reaches 300 ms, and the subjects' coefficient of
        variation at the start:

        >>> import jax.numpy as jnp
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> found = fit.delta(lambda p: {
        ...     "day": (300 - p.beta[0]) / p.coef("Days"),
        ...     "cv": p.sd["Subject"][0] / p.coef("(Intercept)"),
        ... })
        >>> found.frame.round(3)
             estimate     se  lower  upper
        cv      0.098  0.023  0.053  0.144
        day     4.643  0.879  2.920  6.365
        >>> round(found.se["day"], 3)
        0.879
        """
        from lmmjax.inference.delta import delta

        return delta(self, function, level=level, scale=scale)

    def variance_components(
        self, level: float = 0.95, *, scale: Literal["sd", "variance"] = "sd"
    ) -> pd.DataFrame:
        """Standard errors and Wald intervals of the variance components.

        Parameters
        ----------
        level : float, default 0.95
        scale : {"sd", "variance"}, default "sd"
            Standard deviations and correlations, or variances and covariances.

        Returns
        -------
        pandas.DataFrame
            The rows of ``fit.varcorr.to_frame()``, in its order: ``grp``, ``var1``, ``var2``,
            ``estimate``, ``se``, ``lower``, ``upper``. NaN where a variance is on its boundary:
            there is no such interval.

        Raises
        ------
        LmmError
            If `level` does not lie between 0 and 1, or the scale is unknown.

        Notes
        -----
        As :meth:`delta`. Intervals are symmetric on the logarithmic scale for standard deviations
        and variances, on Fisher's z for correlations, so that they respect the parameters' ranges;
        those of covariances are symmetric as they are. Few groups make them too short: they are
        approximations, and profile or bootstrap intervals are better.

        Source: Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4.3, who
        use these scales in ``nlme::intervals``.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
        >>> fit.variance_components()[["grp", "estimate", "se", "lower", "upper"]].round(1)
                grp  estimate    se  lower  upper
        0     Batch      42.0  17.1   18.9   93.1
        1  Residual      49.5   7.1   37.3   65.7
        """
        from lmmjax.reading.components import variance_component_intervals

        return variance_component_intervals(self, level, scale)
