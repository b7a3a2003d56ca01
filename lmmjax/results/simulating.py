"""New data from a fit."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from lmmjax.estimates import Estimates


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
