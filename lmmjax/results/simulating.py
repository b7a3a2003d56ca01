"""New data from a fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmmjax.estimates import Estimates

if TYPE_CHECKING:
    from lmmjax.bootstrap.result import Bootstrap
    from lmmjax.bootstrap.statistic import Statistic


class Simulating(Estimates):
    """Methods that simulate."""

    def simulate(
        self, n: int = 1, key: Any = 0, *, re: Literal["new", "fitted"] = "new"
    ) -> np.ndarray:
        """Simulate responses from the fitted model.

        Parameters
        ----------
        n : int, default 1
            How many data sets.
        key : int or Array, default 0
            A seed, or a JAX random key. Data set r depends on the key and on r alone: the first
            ten of a hundred are those that ``n=10`` gives.
        re : {"new", "fitted"}, default "new"
            Draw new random effects for every data set, or keep the conditional modes and draw the
            residuals alone.

        Returns
        -------
        ndarray, shape (n, rows used)
            A data set a row, in the order of ``design.row_index``; :meth:`refit` takes one of them.

        Raises
        ------
        LmmError
            If an argument is not possible.

        Notes
        -----
        lme4's ``simulate(fit, use.u = )``: parameters are the estimates, without their uncertainty.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> y = fit.simulate(200, key=1)
        >>> y.shape
        (200, 180)
        >>> bool(abs(y.mean() - fit.marginal_mean.mean()) < 3)
        True
        """
        from lmmjax.simulation.rows import simulate_from_fit

        return simulate_from_fit(self._fit, n, key, re)

    def bootstrap(
        self,
        n: int = 1000,
        kind: Literal["parametric", "residual", "wild", "cases"] = "parametric",
        statistic: Statistic | None = None,
        *,
        re: Literal["new", "fitted"] = "new",
        key: Any = 0,
        progress: bool = False,
    ) -> Bootstrap:
        """Fit many data sets made from this one, and see how the estimates vary.

        Parameters
        ----------
        n : int, default 1000
            Replicates.
        kind : {"parametric", "residual", "wild", "cases"}, default "parametric"
            ``"parametric"``: simulated from the fitted model. ``"residual"``: reflated random
            effects and residuals, drawn with replacement. ``"wild"``: each group's marginal
            residuals times a random number; for fixed effects, as it does not tell how
            variances vary. ``"cases"``: whole groups drawn with replacement. The
            last two need a factor that all others are nested in.
        statistic : callable, optional
            ``ManyFits -> array`` of shape (replicates,) or (replicates, s), or a dict of columns;
            by default all standard deviations, correlations, sigma and fixed effects. It is given
            the fits that converged.
        re : {"new", "fitted"}, default "new"
            In the parametric bootstrap, whether random effects are drawn anew or kept.
        key : int or Array, default 0
            A seed, or a JAX random key.
        progress : bool, default False
            Whether to show how far it is, with tqdm where that is installed.

        Returns
        -------
        Bootstrap
            Prints bias and standard errors; ``replicates``, ``frame``, ``conf_int()``, ``plot()``.

        Raises
        ------
        LmmError
            An argument is not one of its choices, the statistic has the wrong shape, groups are
            crossed and would have to be drawn whole, or fewer than two replicates could be fitted.

        Notes
        -----
        Whole groups drawn with replacement may lack a level of a predictor: such draws have no fit,
        are left out, and are counted in what is printed.

        lme4's ``bootMer``; Carpenter, Goldstein & Rasbash (2003), Appl. Statist. 52, 431-443
        (residual); Modugno & Giannerini (2015), Commun. Statist. Theory Methods 44, 4812-4825
        (wild).

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> boot = fit.bootstrap(500, key=1)
        >>> boot
        <Bootstrap: parametric, 500 replicates>
        >>> bool(abs(boot.frame.loc["Days", "std_error"] - fit.bse["Days"]) < 0.2)
        True
        """
        from lmmjax.bootstrap.result import bootstrap

        return bootstrap(self._fit, n, kind, statistic, re, key, progress)
