"""A fit row by row: means, residuals, influence."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.estimates import Estimates

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.inference.influence import Influence

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

    def influence(self, groups: str | Sequence[str] | np.ndarray | None = None) -> Influence:
        """How much single rows, or whole groups, decide the fit.

        Parameters
        ----------
        groups : str, sequence of str or array, shape (n,), optional
            What to leave out, by fitting again without it: a grouping factor of the model, any
            column of the data, the combinations of several, labels of the rows, or ``"rows"`` for
            single rows. By default single rows with the variances held, in closed form.

        Returns
        -------
        Influence
            ``frame`` (Cook's distance and more), ``dfbeta`` and ``dfbetas`` for each unit and
            coefficient, and after refits ``components`` and their ``change``. Its documentation
            says what each is; ``plot()`` draws it.

        Raises
        ------
        DataError
            There is no such column, or it is missing at rows of the fit.
        LmmError
            There is a single unit.

        Notes
        -----
        Cook's distance of a group is ``d'V^-1 d / p``, d the change of the coefficients and V their
        covariance, as in influence.ME (lme4's ``cooks.distance`` of groups is (J - p) / J times
        it, J the number of groups); that of a row is of fixed and random effects together, as
        lme4's for rows. DFBETAS are the estimate with the unit less that without it, over the
        standard error without it (lme4's have the other sign). A unit without which the fixed
        effects cannot be told is NaN. Whole groups are taken off the sums that the likelihood
        needs, so each costs a warm-started fit; single rows, and levels of a factor that crosses
        others, are prepared anew, which takes several times longer.

        Source: Belsley, Kuh & Welsch (1980), Regression Diagnostics, chapter 2; Nieuwenhuis, te
        Grotenhuis & Pelzer (2012), R Journal 4(2), 38-47; Demidenko & Stukel (2005), Stat. Med.
        24, 893-909.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> found = fit.influence("Subject")
        >>> found.frame["cooksd"].nlargest(2).round(3).to_dict()
        {'309': 0.149, '335': 0.129}
        >>> found.change["sd_Days|Subject"].nsmallest(1).round(3).to_dict()
        {'335': -0.146}
        >>> fit.influence().frame.loc[[0], ["hat", "cooksd", "rstudent"]].round(3)
             hat  cooksd  rstudent
        0  0.229   0.005    -0.182
        """
        from lmmjax.inference.influence import influence

        return influence(self._fit, groups)
