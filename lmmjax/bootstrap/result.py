"""What a bootstrap tells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmmjax.bootstrap.intervals import interval
from lmmjax.bootstrap.schemes import (
    KINDS,
    Kind,
    case_estimates,
    outermost,
    residual_responses,
    wild_responses,
)
from lmmjax.bootstrap.statistic import Statistic, evaluate
from lmmjax.errors import LmmError
from lmmjax.many.fit_many import fit_many
from lmmjax.many.fits import ManyFits
from lmmjax.reading.coefficients import check_level

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult


@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap:
    """Bootstrap replicates of a fit; made by :meth:`lmmjax.LinearMixedModelResult.bootstrap`.

    Attributes
    ----------
    fit : LinearMixedModelResult
    kind : str
    fits : ManyFits
        All replicates, those that did not converge too.
    statistic : callable or None
    """

    fit: LinearMixedModelResult
    kind: str
    fits: ManyFits
    statistic: Statistic | None = None

    @cached_property
    def replicates(self) -> pd.DataFrame:
        """A row for each replicate that converged, a column for each statistic."""
        import pandas as pd

        columns = evaluate(self.statistic, self.fits)
        done = self.fits.converged
        return pd.DataFrame({name: x[done] for name, x in columns.items()})

    @cached_property
    def original(self) -> pd.Series:
        """The statistics of the fit itself."""
        import pandas as pd

        one = fit_many(self.fit, self.fit.design.y[None])
        values = {name: x[0] for name, x in evaluate(self.statistic, one).items()}
        return pd.Series(values, name="original")

    @cached_property
    def frame(self) -> pd.DataFrame:
        """``original``, ``bias`` and ``std_error`` of each statistic."""
        import pandas as pd

        drawn = self.replicates
        return pd.DataFrame(
            {
                "original": self.original,
                "bias": drawn.mean() - self.original,
                "std_error": drawn.std(ddof=1),
            }
        )

    @cached_property
    def jackknife(self) -> pd.DataFrame:
        """The statistics without each of the groups, one row a group."""
        import pandas as pd

        index, count = outermost(self.fit)
        y = self.fit.design.y
        without = np.where(index[None] == np.arange(count)[:, None], np.nan, y)
        return pd.DataFrame(evaluate(self.statistic, fit_many(self.fit, without)))

    def conf_int(
        self,
        level: float = 0.95,
        type: Literal["percentile", "basic", "normal", "bca"] = "percentile",
    ) -> pd.DataFrame:
        """Intervals of all statistics.

        Parameters
        ----------
        level : float, default 0.95
        type : {"percentile", "basic", "normal", "bca"}, default "percentile"
            BCa corrects for bias and for skewness; its acceleration comes from leaving out each
            group in turn, so it needs a factor that all others are nested in.

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper``.

        Raises
        ------
        LmmError
            `level` or `type` is not possible.

        Notes
        -----
        R's ``boot::boot.ci``: Davison & Hinkley (1997), chapter 5; Efron (1987) for BCa.
        """
        import pandas as pd

        check_level(level)
        jackknife = self.jackknife if type == "bca" else None
        original = dict(zip(self.original.index, self.original.to_numpy(), strict=True))
        rows = {
            name: interval(
                float(original[name]),
                self.replicates[name].to_numpy(),
                level,
                type,
                None if jackknife is None else jackknife[name].to_numpy(),
            )
            for name in self.replicates
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=["lower", "upper"])

    def plot(self, statistics: Any = None) -> Any:
        """Histograms of the replicates; see :func:`lmmjax.plot.bootstrap`."""
        from lmmjax.plot import bootstrap

        return bootstrap(self, statistics)

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__}: {self.kind}, {len(self.fits)} replicates>"

    def __str__(self) -> str:
        failed = int(np.count_nonzero(~self.fits.converged))
        singular = int(np.count_nonzero(self.fits.singular))
        table = self.frame.to_string(float_format=lambda x: f"{x:.4g}")
        said = f"{self.kind.capitalize()} bootstrap, {len(self.fits)} replicates"
        notes = [f"{singular} singular"]
        if failed:
            notes.append(f"{failed} did not converge and are left out")
        return f"{said} ({', '.join(notes)})\n{table}"


def bootstrap(
    fit: LinearMixedModelResult,
    n: int,
    kind: Kind,
    statistic: Statistic | None,
    re: Literal["new", "fitted"],
    key: Any,
) -> Bootstrap:
    """Do the work of :meth:`lmmjax.LinearMixedModelResult.bootstrap`, which documents it."""
    if kind not in KINDS:
        raise LmmError(f"kind must be one of {', '.join(map(repr, KINDS))}, not {kind!r}")
    if not isinstance(n, int | np.integer) or n < 2:
        raise LmmError(f"the number of replicates must be an int of at least 2, not {n!r}")
    if kind == "parametric":
        many = fit_many(fit, fit.simulate(int(n), key, re=re))
    elif re != "new":
        raise LmmError("re='fitted' is for the parametric bootstrap")
    elif kind == "cases":
        parts = case_estimates(fit, int(n), _generator(key))
        many = ManyFits.collect(
            fit.design, fit.raw.prepared, fit.reml, [_stacked(part) for part in parts]
        )
    else:
        scheme = residual_responses if kind == "residual" else wild_responses
        many = fit_many(fit, scheme(fit, int(n), _generator(key)))
    made = Bootstrap(fit, kind, many, statistic)
    # A statistic that cannot be used shows now.
    _ = made.original, made.replicates
    return made


def _generator(key: Any) -> np.random.Generator:
    import jax

    from lmmjax.simulation.normals import as_key

    return np.random.default_rng(np.asarray(jax.random.key_data(as_key(key))).tolist())


def _stacked(estimate: Any) -> Any:
    """One estimate with a replicates' axis."""
    import jax

    return jax.tree.map(lambda x: np.asarray(x)[None], estimate)
