"""A fit row by row: means, residuals, influence."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.estimates import Estimates

if TYPE_CHECKING:
    import pandas as pd

RESIDUAL_TYPES = ("response", "pearson", "scaled", "marginal")


class Diagnostics(Estimates):
    """Methods that look at rows and groups."""

    @cached_property
    def marginal_mean(self) -> np.ndarray:
        """``X beta`` plus the offset, shape (n,)."""
        return self.design.X @ self.beta + self.design.offset

    @cached_property
    def conditional_mean(self) -> np.ndarray:
        """``X beta + Z b`` plus the offset, shape (n,)."""
        total = self.marginal_mean.copy()
        for term, modes in zip(self.design.terms, self.raw.modes, strict=True):
            total += np.sum(term.Z * modes[term.index], axis=1)
        return total

    @cached_property
    def fittedvalues(self) -> pd.Series:
        """Fitted values, random effects included, by row label."""
        import pandas as pd

        return pd.Series(self.conditional_mean, index=self.index, name="fitted")

    @cached_property
    def scaled_residuals(self) -> np.ndarray:
        """Residuals of ``type="scaled"`` as an array, shape (n,)."""
        residual = self.design.y - self.conditional_mean
        return np.sqrt(self.design.weights) * residual / self.sigma

    def resid(
        self, type: Literal["response", "pearson", "scaled", "marginal"] = "response"
    ) -> pd.Series:
        """Residuals.

        Parameters
        ----------
        type : {"response", "pearson", "scaled", "marginal"}, default "response"
            ``"response"``: response minus fitted value. ``"pearson"``: that times the root of the
            weight. ``"scaled"``: that over sigma, so that its variance is one. ``"marginal"``:
            response minus the population line.

        Returns
        -------
        pandas.Series
            By row label.

        Raises
        ------
        LmmError
            If the type is unknown.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> fit.resid().head(2).round(3).tolist()
        [-4.104, -14.625]
        """
        import pandas as pd

        if type not in RESIDUAL_TYPES:
            raise LmmError(
                f"type must be one of {', '.join(map(repr, RESIDUAL_TYPES))}, not {type!r}"
            )
        if type == "scaled":
            values = self.scaled_residuals
        elif type == "marginal":
            values = self.design.y - self.marginal_mean
        else:
            values = self.design.y - self.conditional_mean
            if type == "pearson":
                values = values * np.sqrt(self.design.weights)
        return pd.Series(values, index=self.index, name="resid")

    def augment(self) -> pd.DataFrame:
        """The data used, and what the fit says of each row, with broom.mixed's columns.

        Returns
        -------
        pandas.DataFrame
            The given columns at the rows used, then ``.fitted``, ``.resid``, ``.fixed`` (the
            population line), ``.hat`` (leverage), ``.cooksd`` (Cook's distance), ``.offset`` and
            ``.weights``.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> fit.augment()[["Reaction", ".fitted", ".resid", ".fixed", ".hat"]].head(2).round(3)
           Reaction  .fitted  .resid   .fixed   .hat
        0   249.560  253.664  -4.104  251.405  0.229
        1   258.705  273.330 -14.625  261.872  0.170
        """
        from lmmjax.reading.tidy import augment

        return augment(self._fit)
