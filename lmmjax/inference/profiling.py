"""A fit's profile: lanes for every parameter, followed in batches, read back in data units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from lmmjax.compiled import Kernel
from lmmjax.errors import ConvergenceWarning, LmmError, warn
from lmmjax.fitting import Fitted, fit_response
from lmmjax.inference.profile import SIGMA, Lane, Point, profile_lanes
from lmmjax.inference.profile_lanes import Lanes, ProfiledParameter, profiled_parameters
from lmmjax.likelihood.crossed import Crossed
from lmmjax.optimize.solution import Status

if TYPE_CHECKING:
    from lmmjax.estimates import Estimates

#: Points from the estimate to the wanted level, in each direction.
STEPS = 6
#: Lanes in a batch, at least and at most; in between, powers of two.
SMALLEST_BATCH, LARGEST_BATCH = 16, 128
#: An end of a profile this close to where it should be, in zeta, is extended by its slope.
CLOSE = 0.01
#: Deviance that could still be gained at a point that counts as found.
TOLERANCE = 1e-6

_profile_lanes = Kernel(profile_lanes)


@dataclass(frozen=True)
class Curve:
    """One parameter's profile: points in order of the parameter's value.

    Attributes
    ----------
    parameter : ProfiledParameter
    estimate : float
        Maximum likelihood; NaN for a correlation with a standard deviation of zero.
    value, zeta, slope : ndarray, shape (s,)
        Slope is d value / d zeta.
    others : ndarray, shape (s, number of parameters)
        All parameters at each point.
    lower, upper : float
        Range of the parameter.
    """

    parameter: ProfiledParameter
    estimate: float
    value: np.ndarray
    zeta: np.ndarray
    slope: np.ndarray
    others: np.ndarray
    lower: float
    upper: float

    @property
    def monotone(self) -> bool:
        """Whether zeta never falls as the parameter grows, up to the search's tolerance."""
        # Nor at a point, on its way into another optimum's valley; at the estimate the slope is
        # only what its neighbours say.
        away = self.zeta != 0.0
        with np.errstate(divide="ignore"):
            rise = (self.value[-1] - self.value[0]) / self.slope[away]
        return bool(np.all(np.diff(self.zeta) > -1e-4) and not np.any(rise < -1e-2))


def profile_curves(fit: Estimates, level: float, names: Sequence[str] | None) -> list[Curve]:
    """Profiles of the parameters of the given names (all by default), as far as `level` needs.

    Raises
    ------
    LmmError
        The model cannot be profiled, or has no parameter of a name.
    """
    from scipy.special import ndtri

    parameters = profiled_parameters(fit)
    known = [p.name for p in parameters]
    for name in names or ():
        if name not in known:
            raise LmmError(f"{name!r} is no parameter of the model: they are {', '.join(known)}")
    chosen = [p for p in parameters if names is None or p.name in names]
    model = _maximum_likelihood(fit.raw, chosen)
    lanes = model.lanes(chosen)
    cutoff = float(ndtri(0.5 + 0.5 * level))
    even = np.linspace(0.0, cutoff, STEPS + 1)[1:]
    # The end is gone to three times: by then the interval's limits are exact.
    targets = np.concatenate([even, [cutoff, cutoff, cutoff]])
    followed = _follow(lanes, model, targets) if lanes else []
    out, at = [], 0
    for p in chosen:
        value = model.estimate(p)
        if np.isnan(value):
            out.append(_flat(p, model, parameters))
            continue
        pair = [(lanes[i], followed[i]) for i in (at, at + 1)]
        at += 2
        out.append(_curve(p, value, pair, model, parameters, cutoff))
    _warn_about(out, cutoff)
    return out


#: Shapes for which lanes have been compiled, or are being.
_asked: set[Any] = set()


def _maximum_likelihood(raw: Fitted, chosen: list[ProfiledParameter]) -> Lanes:
    """The fit by maximum likelihood; while one by REML is refitted, lanes are compiled."""
    if not raw.reml:
        return Lanes(raw)
    compiling = None
    shapes = (Kernel._key((raw.data,), {}), len(chosen))
    if shapes not in _asked:
        _asked.add(shapes)
        model = Lanes(raw)
        lanes = model.lanes(chosen)
        if lanes:
            batch, in_turn = _batches(lanes, model)
            targets = np.zeros(STEPS + 3)
            compiling = _profile_lanes.prefetch(
                batch[0], model.data, np.float64(0.0), targets, in_turn=in_turn
            )
    raw = fit_response(raw.prepared, raw.y, reml=False)
    if compiling is not None:
        compiling.join()
    status = Status(int(raw.estimate.solution.status))
    if status != Status.CONVERGED:
        warn(
            f"the maximum likelihood fit that profiles start from did not converge: "
            f"{status.message}",
            ConvergenceWarning,
        )
    return Lanes(raw)


def _batches(lanes: list[Lane], model: Lanes) -> tuple[list[Lane], bool]:
    """Lanes stacked into batches of one shape; and whether each batch's lanes go in turn."""
    engine = model.data.elimination
    in_turn = isinstance(engine, Crossed) or bool(engine.rest_levels)
    size = min(len(lanes), LARGEST_BATCH)
    if not in_turn:
        # Few sizes, so that few are compiled: a lane more costs next to nothing.
        size = max(SMALLEST_BATCH, 1 << (size - 1).bit_length())
    out = []
    for at in range(0, len(lanes), size):
        part = lanes[at : at + size]
        part += [part[-1]] * (size - len(part))
        out.append(jax.tree.map(lambda *x: np.stack([np.asarray(each) for each in x]), *part))
    return out, in_turn


def _follow(lanes: list[Lane], model: Lanes, targets: np.ndarray) -> list[Point]:
    """Run the lanes, batch by batch."""
    batches, in_turn = _batches(lanes, model)
    base = np.float64(model.base())
    out: list[Point] = []
    for batch in batches:
        points = _profile_lanes(batch, model.data, base, targets, in_turn=in_turn)
        out += [Point(*(leaf[j] for leaf in points)) for j in range(points.value.shape[0])]
    return out[: len(lanes)]


def _curve(
    p: ProfiledParameter,
    estimate: float,
    pair: list[tuple[Lane, Point]],
    model: Lanes,
    parameters: list[ProfiledParameter],
    cutoff: float,
) -> Curve:
    place = parameters.index(p)
    unit = model.unit(p)
    rows = []
    for lane, points in pair:
        others = model.everything(lane, points, parameters)
        moved = points.value != lane.value
        points = points._replace(value=points.value / unit, slope=points.slope / unit)
        others[:, place] = points.value
        found = np.isfinite(points.zeta) & (np.abs(points.decrement) < TOLERANCE)
        # The end is gone to several times: the closest is kept.
        miss = np.abs(np.abs(points.zeta) - cutoff)
        found &= (miss > 0.02 * cutoff) | (miss == np.min(miss, where=found, initial=np.inf))
        rows.append(
            np.column_stack([points.value, points.zeta, points.slope, others])[found & moved]
        )
    center = np.array([model.estimate(other) for other in parameters])
    middle = np.concatenate([[estimate, 0.0, np.nan], center])
    # In order of value; a point gone to twice (a bound) is kept once.
    table = np.vstack([*rows, middle])
    table = table[np.argsort(table[:, 0], kind="stable")]
    gap = np.diff(table[:, 0])
    span = table[-1, 0] - table[0, 0]
    again = np.append(False, gap <= 1e-9 * span) & (table[:, 0] != estimate)
    table = table[~again]
    value, zeta, slope, others = table[:, 0], table[:, 1], table[:, 2].copy(), table[:, 3:]
    center_at = int(np.flatnonzero(value == estimate)[0])
    slope[center_at] = _central_slope(center_at, value, zeta, slope)
    lane = pair[0][0]
    lower = 0.0 if p.kind == SIGMA else float(lane.lower)
    return Curve(p, estimate, value, zeta, slope, others, lower, float(lane.upper))


def _central_slope(i: int, value: np.ndarray, zeta: np.ndarray, slope: np.ndarray) -> float:
    """Slope at the estimate, where the profile's own formula is 0 / 0: from its neighbours."""
    # Quadratic from each neighbour: its slope at 0 is twice the secant less its own.
    near = [j for j in (i - 1, i + 1) if 0 <= j < zeta.size]
    near = [j for j in near if np.isfinite(slope[j]) and zeta[j] != 0.0]
    if not near:
        return np.nan
    ends = [2.0 * (value[j] - value[i]) / zeta[j] - slope[j] for j in near]
    if len(ends) == 1:
        return ends[0]
    # Their errors, of third derivatives, are as the squares of zeta.
    weights = [1.0 / zeta[j] ** 2 for j in near]
    return float(np.average(ends, weights=weights))


def _flat(p: ProfiledParameter, model: Lanes, parameters: list[ProfiledParameter]) -> Curve:
    """A correlation that the likelihood says nothing of: one of its variances is zero."""
    others = np.array([[model.estimate(other) for other in parameters]])
    nothing = np.array([np.nan])
    return Curve(p, np.nan, nothing, np.zeros(1), nothing, others, -1.0, 1.0)


def _warn_about(curves: list[Curve], cutoff: float) -> None:
    """One warning for all profiles that are not to be trusted."""
    said = []
    for curve in curves:
        if np.isnan(curve.estimate):
            continue
        if not curve.monotone:
            said.append(f"{curve.parameter.name} (not monotone)")
            continue
        ends = (
            (curve.zeta[0], curve.value[0] <= curve.lower),
            (
                curve.zeta[-1],
                curve.value[-1] >= curve.upper,
            ),
        )
        if any(abs(zeta) < cutoff - CLOSE and not bound for zeta, bound in ends):
            said.append(f"{curve.parameter.name} (not followed to the end)")
    if said:
        warn(
            f"profiles that could not be found in full: {', '.join(said)}. Their intervals are "
            "missing (NaN) where the profile does not determine them; a bootstrap may",
            ConvergenceWarning,
        )
