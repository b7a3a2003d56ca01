"""What a bootstrap tells."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from lmmjax.arguments import check_whole
from lmmjax.bootstrap.cases import case_estimates
from lmmjax.bootstrap.estimable import estimable
from lmmjax.bootstrap.intervals import check_type, interval
from lmmjax.bootstrap.refits import refit_responses
from lmmjax.bootstrap.schemes import (
    KINDS,
    Kind,
    outermost,
    residual_responses,
    wild_responses,
)
from lmmjax.bootstrap.statistic import Statistic, evaluate
from lmmjax.bootstrap.wild import INSTEAD, REASON, of_variances
from lmmjax.errors import ConvergenceWarning, LmmError, LmmWarning, warn
from lmmjax.keywords import methods_know_keywords
from lmmjax.many.fit_many import fit_many
from lmmjax.many.fits import ManyFits
from lmmjax.reading.coefficients import check_level
from lmmjax.studies.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult


@methods_know_keywords
@dataclass(frozen=True, eq=False, repr=False)
class Bootstrap:
    """Bootstrap replicates of a fit; made by :meth:`lmmjax.LinearMixedModelResult.bootstrap`.

    Attributes
    ----------
    fit : LinearMixedModelResult
    kind : str
    fits : ManyFits
        All replicates, those without estimates too (their numbers are NaN).
    statistic : callable or None
    lost : int
        Draws of whole groups that do not determine the model, as when no group with one level of a
        predictor was drawn. They have no fit and are left out.
    """

    fit: LinearMixedModelResult
    kind: str
    fits: ManyFits
    statistic: Statistic | None = None
    lost: int = 0

    @cached_property
    def replicates(self) -> pd.DataFrame:
        """A row for each replicate that converged, a column for each statistic.

        Raises
        ------
        LmmError
            Fewer than two converged.
        """
        import pandas as pd

        done = self.fits.converged
        if np.count_nonzero(done) < 2:
            raise LmmError(
                f"{np.count_nonzero(done)} of {len(done)} replicates could be fitted "
                f"({self._failures()}): there is nothing to see from. Use kind='parametric', or a "
                "smaller model"
            )
        if not done.all():
            columns = evaluate(self.statistic, _some(self.fits, done))
        else:
            columns = evaluate(self.statistic, self.fits)
        return pd.DataFrame(columns)

    @cached_property
    def original(self) -> pd.Series:
        """The statistics of the fit itself."""
        import pandas as pd

        values = {name: x[0] for name, x in evaluate(self.statistic, self._one).items()}
        return pd.Series(values, name="original")

    @cached_property
    def _one(self) -> ManyFits:
        """The fit itself, as one of many."""
        raw = self.fit.raw
        estimate = jax.tree.map(lambda x: np.asarray(x)[None], raw.estimate)
        return ManyFits(self.fit.design, raw.prepared, self.fit.reml, estimate)

    @cached_property
    def refused(self) -> tuple[str, ...]:
        """Statistics of which these replicates do not tell how they vary.

        Those of variances in the wild bootstrap (:mod:`lmmjax.bootstrap.wild`).
        """
        if self.kind != "wild":
            return ()
        original = dict(zip(self.original.index, self.original.to_numpy(), strict=True))
        return tuple(of_variances(self.statistic, self._one, original))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """``original``, ``bias`` and ``std_error`` of each statistic; NaN for those ``refused``."""
        import pandas as pd

        drawn = self.replicates
        spread = {"bias": drawn.mean() - self.original, "std_error": drawn.std(ddof=1)}
        table = pd.DataFrame({"original": self.original, **spread})
        table.loc[list(self.refused), list(spread)] = np.nan
        return table

    @cached_property
    def jackknife(self) -> pd.DataFrame:
        """The statistics without each of the groups, one row a group.

        NaN where the model cannot be estimated without the group, or the fit did not converge.

        Raises
        ------
        LmmError
            Groups are crossed.
        """
        import pandas as pd

        index, count = outermost(self.fit, "another type of interval")
        possible = estimable(self.fit, index, count, 1.0 - np.eye(count))
        y = self.fit.design.y
        # What is left may be one value, over and over: there is nothing to fit.
        varied = [np.ptp(y[index != g]) > 0 for g in range(count) if possible[g]]
        groups = np.flatnonzero(possible)[varied]
        table = pd.DataFrame(np.nan, index=range(count), columns=self.original.index)
        if groups.size:
            fits = fit_many(self.fit, np.where(index[None] == groups[:, None], np.nan, y))
            done = fits.converged
            if done.any():
                table.iloc[groups[done]] = pd.DataFrame(evaluate(self.statistic, _some(fits, done)))
        return table

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
            `level` or `type` is not possible; or BCa is asked for where it can be had for no
            statistic, or groups are crossed; or all statistics are of variances, of which the wild
            bootstrap gives no interval.

        Warns
        -----
        ConvergenceWarning
            Some statistics have no BCa interval, and are NaN.
        LmmWarning
            Some statistics are of variances, and the bootstrap is the wild one: they are NaN.

        Notes
        -----
        R's ``boot::boot.ci``: Davison & Hinkley (1997), chapter 5; Efron (1987) for BCa.
        """
        import pandas as pd

        check_level(level)
        check_type(type)
        if self.refused:
            said = f"the wild bootstrap has no interval of {', '.join(self.refused)}: {REASON}; "
            if len(self.refused) == len(self.original):
                raise LmmError(said + INSTEAD)
            warn(f"{said}{INSTEAD} for these, which are NaN", LmmWarning)
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
        found = pd.DataFrame.from_dict(rows, orient="index", columns=["lower", "upper"])
        found.loc[list(self.refused)] = np.nan
        if jackknife is not None:
            asked = self.original.notna() & ~self.original.index.isin(self.refused)
            _say_missing(found.loc[asked], jackknife)
        return found

    def plot(self, statistics: Any = None) -> Any:
        """Histograms of the replicates; see :func:`lmmjax.plot.bootstrap`."""
        from lmmjax.plot import bootstrap

        return bootstrap(self, statistics)

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__}: {self.kind}, {len(self.fits)} replicates>"

    def _failures(self) -> str:
        """What is left out, in words."""
        lost, failed = self.lost, int(np.count_nonzero(~self.fits.converged)) - self.lost
        notes = []
        if lost:
            notes.append(
                f"{lost} drew groups that do not determine the model and "
                f"{'is' if lost == 1 else 'are'} left out"
            )
        if failed:
            notes.append(f"{failed} did not converge and {'is' if failed == 1 else 'are'} left out")
        return ", ".join(notes)

    def __str__(self) -> str:
        singular = int(np.count_nonzero(self.fits.singular))
        table = self.frame.to_string(float_format=lambda x: f"{x:.4g}")
        said = f"{self.kind.capitalize()} bootstrap, {len(self.fits)} replicates"
        refused = "no spread of variances, which it does not tell" if self.refused else ""
        notes = ", ".join(filter(None, [f"{singular} singular", self._failures(), refused]))
        return f"{said} ({notes})\n{table}"


def _some(many: ManyFits, chosen: np.ndarray) -> ManyFits:
    """Some of many fits."""
    estimate = jax.tree.map(lambda x: np.asarray(x)[chosen], many.estimate)
    present = None if many.present is None else many.present[chosen]
    return replace(many, estimate=estimate, present=present)


def _say_missing(found: pd.DataFrame, jackknife: pd.DataFrame) -> None:
    """Warn, once, of BCa intervals that are not there; raise if that is all of them."""
    missing = found["lower"].isna().to_numpy()
    if not missing.any():
        return
    names = list(found.index[missing])
    gaps = jackknife[names].isna().to_numpy()
    reasons = []
    if gaps.any():
        groups, count = np.count_nonzero(gaps.any(axis=1)), len(gaps)
        reasons.append(
            f"of the {count} groups left out one at a time, {groups} leave no value (the model "
            "cannot be estimated without them, or does not converge, or a correlation is of a "
            "variance of zero)"
        )
    if not gaps.any(axis=0).all():
        reasons.append("no replicate lies below the estimate or none above it, as at a boundary")
    said = f"no BCa interval for {', '.join(names)}: {'; '.join(reasons)}. "
    remedy = "Use type='percentile' or 'basic'"
    if missing.all():
        raise LmmError(said + remedy)
    warn(said + remedy + " for these", ConvergenceWarning)


def bootstrap(
    fit: LinearMixedModelResult,
    n: int,
    kind: Kind,
    statistic: Statistic | None,
    re: Literal["new", "fitted"],
    key: Any,
    progress: bool = False,
) -> Bootstrap:
    """Do the work of :meth:`lmmjax.LinearMixedModelResult.bootstrap`, which documents it."""
    if kind not in KINDS:
        raise LmmError(f"kind must be one of {', '.join(map(repr, KINDS))}, not {kind!r}")
    n = check_whole("the number of replicates", n, 2)
    if kind != "parametric" and re != "new":
        raise LmmError("re='fitted' is for the parametric bootstrap")
    lost = 0
    with closing(Progress(n, f"{kind} bootstrap", progress)) as bar:
        if kind == "cases":
            estimate, dropped = case_estimates(fit, n, _generator(key), bar)
            lost = int(np.count_nonzero(dropped))
            many = ManyFits(fit.design, fit.raw.prepared, fit.reml, estimate)
        else:
            if kind == "parametric":
                Y = fit.simulate(n, key, re=re)
            else:
                scheme = residual_responses if kind == "residual" else wild_responses
                Y = scheme(fit, n, _generator(key))
            many = refit_responses(fit, Y, bar)
    made = Bootstrap(fit, kind, many, statistic, lost)
    # A statistic that cannot be used shows now.
    _ = made.original, made.replicates
    return made


def _generator(key: Any) -> np.random.Generator:
    from lmmjax.simulation.normals import as_key

    return np.random.default_rng(np.asarray(jax.random.key_data(as_key(key))).tolist())
