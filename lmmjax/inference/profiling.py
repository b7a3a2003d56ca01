"""A fit's profile: lanes for every parameter, followed in batches, read back in data units."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from lmmjax.compiled import Kernel
from lmmjax.covariance import Diagonal, Unstructured, canonical_factor
from lmmjax.errors import ConvergenceWarning, LmmError
from lmmjax.fitting import Fitted, fit_response
from lmmjax.inference.profile import (
    COEFFICIENT,
    CORRELATION,
    SD,
    SIGMA,
    Lane,
    Point,
    profile_lanes,
)
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
#: A relative standard deviation, for a column of unit scale, that is zero.
ZERO_SD = 1e-6
#: Deviance that could still be gained at a point that counts as found.
TOLERANCE = 1e-6

_profile_lanes = Kernel(profile_lanes)


@dataclass(frozen=True)
class ProfiledParameter:
    """A parameter on the scale on which it is profiled.

    Attributes
    ----------
    name : str
        As lme4 prints it with ``oldNames = FALSE``.
    kind : int
    term, effects : int, tuple of int
        Of a standard deviation (one effect) or a correlation (two: the later one first).
    block : tuple of int
        The effects that it is correlated with, itself included.
    coefficient : int
        Of a fixed effect.
    """

    name: str
    kind: int
    term: int = -1
    effects: tuple[int, ...] = ()
    block: tuple[int, ...] = ()
    coefficient: int = -1


def profiled_parameters(fit: Estimates) -> list[ProfiledParameter]:
    """All parameters of a fit, in lme4's order.

    Raises
    ------
    LmmError
        A covariance structure is not one whose standard deviations and correlations are free.
    """
    out = []
    for t, (term, bars) in enumerate(
        zip(fit.design.terms, fit.raw.prepared.structures, strict=True)
    ):
        at = 0
        for structure in bars:
            if not isinstance(structure, (Diagonal, Unstructured)):
                raise LmmError(
                    f"the covariance structure {type(structure).__name__} of {term.group!r} has "
                    "no free standard deviations and correlations to profile: profiles are for "
                    "unstructured and diagonal covariances"
                )
            own = tuple(range(at, at + structure.size))
            blocks = [(i,) for i in own] if isinstance(structure, Diagonal) else [own]
            for block in blocks:
                for j, later in enumerate(block):
                    name = f"sd_{term.columns[later]}|{term.group}"
                    out.append(ProfiledParameter(name, SD, t, (later,), block))
                    for i in block[j + 1 :]:
                        name = f"cor_{term.columns[i]}.{term.columns[later]}|{term.group}"
                        out.append(ProfiledParameter(name, CORRELATION, t, (i, later), block))
            at += structure.size
    out.append(ProfiledParameter("sigma", SIGMA))
    out += [
        ProfiledParameter(name, COEFFICIENT, coefficient=j)
        for j, name in enumerate(fit.design.x_names)
    ]
    return out


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
        return bool(np.all(np.diff(self.zeta) > -1e-4))


class _Model:
    """The maximum likelihood fit, and its lanes."""

    def __init__(self, raw: Fitted) -> None:
        self.raw = raw
        self.data = raw.data
        self.scale = float(self.data.scale)
        self.sigma = float(raw.estimate.fixed.sigma)
        self.tau = np.log(self.sigma / self.scale)
        self.beta = np.asarray(raw.estimate.fixed.beta)
        self.se = np.sqrt(np.diagonal(np.asarray(raw.estimate.fixed.vcov)))
        p = self.beta.size
        factor = np.asarray(self.data.fixed_factor)
        self.back = np.linalg.inv(factor) if p else factor
        self.transforms = [np.asarray(t) for t in self.data.transforms]
        self.roots = [
            np.linalg.solve(t, np.asarray(f))
            for t, f in zip(self.transforms, raw.estimate.factors, strict=True)
        ]
        self.levels = raw.prepared.levels
        self._place()

    def _place(self) -> None:
        """Where each term's search parameters stand in its factor, and where each block's are."""
        theta = np.asarray(self.raw.estimate.solution.theta)
        self.placements, self.slots, nudges = [], {}, []
        offset = 0
        for t, bars in enumerate(self.data.structures):
            k = self.transforms[t].shape[0]
            m = sum(s.n_theta for s in bars)
            placement, at, slot = np.zeros((k, k, m)), 0, 0
            for structure in bars:
                if isinstance(structure, Diagonal):
                    row = col = np.arange(structure.size)
                    for i in row:
                        self.slots[t, at + i] = offset + slot + np.arange(i, i + 1)
                else:
                    col, row = np.triu_indices(structure.size)
                    self.slots[t, at] = offset + slot + np.arange(structure.n_theta)
                places = slot + np.arange(row.size)
                placement[at + row, at + col, places] = 1.0
                placement[at + col, at + row, places] = 1.0
                nudges.append(np.where(row == col, 1e-3, 0.0))
                at += structure.size
                slot += structure.n_theta
            self.placements.append(placement)
            offset += m
        self.start = np.append(theta, self.tau)
        self.nudge = np.append(np.concatenate(nudges), 0.0)

    def base(self) -> float:
        """The deviance at the optimum, without the constants that the lanes leave out."""
        n = float(self.data.n_obs)
        return float(self.raw.estimate.solution.value) + n - n * np.log(n)

    def component(self, p: ProfiledParameter, roots: Sequence[np.ndarray], sigma: Any) -> Any:
        """A standard deviation or correlation from square roots, (..., k, k), of each term."""
        root = roots[p.term]
        # What is zero up to rounding is said to be zero.
        unit = np.linalg.norm(self.transforms[p.term], axis=0)
        length = np.linalg.norm(root, axis=-1)
        length = np.where(length * unit < ZERO_SD, 0.0, length)
        if p.kind == SD:
            return sigma * length[..., p.effects[0]]
        i, j = p.effects
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = np.sum(root[..., i, :] * root[..., j, :], axis=-1) / (
                length[..., i] * length[..., j]
            )
        cosine = np.where(np.isfinite(cosine), cosine, np.nan)
        return np.clip(cosine, -1.0, 1.0)

    def estimate(self, p: ProfiledParameter) -> float:
        if p.kind == SIGMA:
            return self.sigma
        if p.kind == COEFFICIENT:
            return float(self.beta[p.coefficient])
        return float(self.component(p, self.roots, self.sigma))

    def lane(self, p: ProfiledParameter) -> dict[str, Any]:
        """A lane upwards from the estimate."""
        m, q = self.start.size - 1, self.beta.size + 1
        lane: dict[str, Any] = {
            "kind": np.int32(p.kind),
            "placement": tuple(self.placements),
            "pivots": np.zeros((3, m)),
            "design": np.eye(q),
            "moving": np.zeros((q, q)),
            "dummy": np.zeros(q),
            "center": 0.0,
            "start": self.start,
            "nudge": self.nudge,
            "value": self.estimate(p),
            "lower": -np.inf,
            "upper": np.inf,
        }
        if p.kind == SIGMA:
            lane["step"] = 0.3 * self.sigma / np.sqrt(2.0 * float(self.data.n_obs))
            # Not zero itself, where nothing is finite.
            lane["lower"] = 1e-8 * self.sigma
        elif p.kind == COEFFICIENT:
            lane |= self._coefficient(p.coefficient)
        else:
            lane |= self._component(p, lane["value"])
        return lane

    def _coefficient(self, j: int) -> dict[str, Any]:
        b = self.back[j]
        p = b.size
        design, moving, dummy = np.zeros((p + 1, p + 1)), np.zeros((p + 1, p + 1)), np.zeros(p + 1)
        design[:p, : p - 1] = np.linalg.qr(b[:, None], mode="complete")[0][:, 1:]
        design[p, p] = dummy[p - 1] = 1.0
        moving[:p, p] = -b / (b @ b)
        return {
            "design": design,
            "moving": moving,
            "dummy": dummy,
            "center": float(self.data.beta_ols[j]),
            "step": 0.4 * self.se[j],
        }

    def _component(self, p: ProfiledParameter, value: float) -> dict[str, Any]:
        """Rows of the parameter's block in an order that puts its own first."""
        t, first = p.term, p.block[0]
        slots = self.slots[t, first]
        own = list(p.block)
        order = [*reversed(p.effects), *(i for i in own if i not in p.effects)]
        lower = canonical_factor(self.roots[t][np.ix_(order, own)])
        col, row = np.triu_indices(len(own))
        start, nudge = self.start.copy(), self.nudge.copy()
        start[slots] = lower[row, col]
        unit = 1.0 / np.linalg.norm(self.transforms[t], axis=0)[order]
        nudge[slots] = np.where(row == col, 1e-3 * unit[row], 0.0)
        before = sum(placement.shape[2] for placement in self.placements[:t])
        placement = self.placements[t].copy()
        inside = slots - before
        placement[:, :, inside] = 0.0
        for slot, r, c in zip(inside, row, col, strict=True):
            placement[own, own[c], slot] = self.transforms[t][own, order[r]]
        pivots = np.zeros((3, self.start.size - 1))
        pivots[0, slots[0]] = 1.0
        few = np.sqrt(self.levels[t])
        if p.kind == CORRELATION:
            sine = slots[len(own)]
            pivots[1, slots[1]] = pivots[2, sine] = 1.0
            start[slots[0]] = np.sqrt(lower[0, 0])
            start[sine] = np.sqrt(np.hypot(lower[1, 0], lower[1, 1]))
            nudge[[slots[0], sine]] = 1e-2 * np.sqrt(unit[:2])
            lane = {"step": max(0.2 * (1.0 - value**2) / few, 5e-3), "lower": -1.0, "upper": 1.0}
        else:
            size = max(value, 0.3 * self.sigma * unit[0])
            lane = {"step": 0.2 * size / few, "lower": 0.0}
        placements = [*self.placements[:t], placement, *self.placements[t + 1 :]]
        return lane | {
            "placement": tuple(placements),
            "pivots": pivots,
            "start": start,
            "nudge": nudge,
        }

    def everything(self, lane: Lane, points: Point, all_of_them: list[ProfiledParameter]) -> Any:
        """All parameters at a lane's points, shape (s, number of parameters)."""
        sigma = self.scale * np.exp(points.tau)
        edges = np.cumsum([0, *(each.shape[2] for each in lane.placement)])
        roots = []
        for t, placement in enumerate(lane.placement):
            factor = np.einsum("abi,si->sab", placement, points.theta[:, edges[t] : edges[t + 1]])
            roots.append(np.linalg.solve(self.transforms[t], factor))
        beta = np.asarray(self.data.beta_ols) + self.scale * points.gamma @ self.back.T
        out = []
        for p in all_of_them:
            if p.kind == SIGMA:
                out.append(sigma)
            elif p.kind == COEFFICIENT:
                out.append(beta[:, p.coefficient])
            else:
                out.append(self.component(p, roots, sigma))
        return np.stack(out, axis=1)


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
    raw = fit.raw
    if raw.reml:
        raw = fit_response(raw.prepared, raw.y, reml=False)
        status = Status(int(raw.estimate.solution.status))
        if status != Status.CONVERGED:
            warnings.warn(
                f"the maximum likelihood fit that profiles start from did not converge: "
                f"{status.message}",
                ConvergenceWarning,
                stacklevel=5,
            )
    model = _Model(raw)
    lanes: list[Lane] = []
    for p in chosen:
        fields = model.lane(p)
        if np.isnan(fields["value"]):
            continue
        lanes += [Lane(**fields), Lane(**(fields | {"step": -fields["step"]}))]
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


def _follow(lanes: list[Lane], model: _Model, targets: np.ndarray) -> list[Point]:
    """Run the lanes in batches of one shape."""
    engine = model.data.elimination
    in_turn = isinstance(engine, Crossed) or bool(engine.rest_levels)
    size = min(len(lanes), LARGEST_BATCH)
    if not in_turn:
        # Few sizes, so that few are compiled: a lane more costs next to nothing.
        size = max(SMALLEST_BATCH, 1 << (size - 1).bit_length())
    batches = -(-len(lanes) // size)
    base = np.float64(model.base())
    out: list[Point] = []
    for i in range(batches):
        part = lanes[i * size : (i + 1) * size]
        part += [part[-1]] * (size - len(part))
        stacked = jax.tree.map(lambda *x: np.stack([np.asarray(each) for each in x]), *part)
        points = _profile_lanes(stacked, model.data, base, targets, in_turn=in_turn)
        out += [Point(*(leaf[j] for leaf in points)) for j in range(size)]
    return out[: len(lanes)]


def _curve(
    p: ProfiledParameter,
    estimate: float,
    pair: list[tuple[Lane, Point]],
    model: _Model,
    parameters: list[ProfiledParameter],
    cutoff: float,
) -> Curve:
    place = parameters.index(p)
    rows = []
    for lane, points in pair:
        others = model.everything(lane, points, parameters)
        others[:, place] = points.value
        found = np.isfinite(points.zeta) & (np.abs(points.decrement) < TOLERANCE)
        # The end is gone to several times: the closest is kept.
        miss = np.abs(np.abs(points.zeta) - cutoff)
        found &= (miss > 0.02 * cutoff) | (miss == np.min(miss, where=found, initial=np.inf))
        moved = points.value != estimate
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
    again = np.append(False, gap <= 1e-9 * span) & (table[:, 1] != 0.0)
    table = table[~again]
    value, zeta, slope, others = table[:, 0], table[:, 1], table[:, 2].copy(), table[:, 3:]
    slope[zeta == 0.0] = _central_slope(value, zeta, slope)
    lane = pair[0][0]
    lower = 0.0 if p.kind == SIGMA else float(lane.lower)
    return Curve(p, estimate, value, zeta, slope, others, lower, float(lane.upper))


def _central_slope(value: np.ndarray, zeta: np.ndarray, slope: np.ndarray) -> float:
    """Slope at the estimate, where the profile's own formula is 0 / 0: from its neighbours."""
    i = int(np.flatnonzero(zeta == 0.0)[0])
    # Quadratic from each neighbour: its slope at 0 is twice the secant less its own.
    near = [j for j in (i - 1, i + 1) if 0 <= j < zeta.size and np.isfinite(slope[j])]
    if not near:
        return np.nan
    ends = [2.0 * (value[j] - value[i]) / zeta[j] - slope[j] for j in near]
    if len(ends) == 1:
        return ends[0]
    # Their errors, of third derivatives, are as the squares of zeta.
    weights = [1.0 / zeta[j] ** 2 for j in near]
    return float(np.average(ends, weights=weights))


def _flat(p: ProfiledParameter, model: _Model, parameters: list[ProfiledParameter]) -> Curve:
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
        warnings.warn(
            f"profiles that could not be found in full: {', '.join(said)}. Their intervals are "
            "missing (NaN) where the profile does not determine them; a bootstrap may",
            ConvergenceWarning,
            stacklevel=6,
        )
