"""The parameters that a profile follows, and their lanes: from a fit to arrays and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.covariance import Diagonal, Unstructured, canonical_factor
from lmmjax.errors import LmmError
from lmmjax.fitting import Fitted
from lmmjax.inference.profile import COEFFICIENT, CORRELATION, SD, SIGMA, Lane, Point

if TYPE_CHECKING:
    from lmmjax.estimates import Estimates

#: A relative standard deviation, for a column of unit scale, that is zero.
ZERO_SD = 1e-6


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
            if type(structure) not in (Diagonal, Unstructured):
                raise LmmError(
                    f"the covariance structure {type(structure).__name__} of {term.group!r} has "
                    "no free standard deviations and correlations to profile: profiles are for "
                    "unstructured and diagonal covariances"
                )
            own = tuple(range(at, at + structure.size))
            blocks = [(i,) for i in own] if type(structure) is Diagonal else [own]
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


class Lanes:
    """The maximum likelihood fit, and its lanes."""

    def __init__(self, raw: Fitted) -> None:
        self.raw = raw
        self.data = raw.data
        self.scale = float(self.data.scale)
        self.sigma = float(raw.estimate.fixed.sigma)
        self.tau = np.log(self.sigma / self.scale)
        self.beta = np.asarray(raw.estimate.fixed.beta)
        se = np.sqrt(np.diagonal(np.asarray(raw.estimate.fixed.vcov)))
        # Squares of standard errors below 1e-154 are none.
        self.se = np.where((se > 0.0) & np.isfinite(se), se, 1.0)
        p = self.beta.size
        factor = np.asarray(self.data.fixed_factor)
        self.back = np.linalg.inv(factor) if p else factor
        self.transforms = [np.asarray(t) for t in self.data.transforms]
        self.roots = [
            np.linalg.solve(t, np.asarray(f))
            for t, f in zip(self.transforms, raw.estimate.factors, strict=True)
        ]
        # Sizes of the columns: standard deviations are followed as those of columns of size 1.
        self.units = [np.linalg.norm(t, axis=0) for t in self.transforms]
        self.levels = raw.prepared.levels
        self._place()
        other = None if raw.rival is None else replace(raw, estimate=raw.rival, rival=None)
        self.rival = None if other is None else Lanes(other)

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
                if type(structure) is Diagonal:
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
        length = np.linalg.norm(root, axis=-1)
        length = np.where(length * self.units[p.term] < ZERO_SD, 0.0, length)
        if p.kind == SD:
            return sigma * length[..., p.effects[0]]
        i, j = p.effects
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = np.sum(root[..., i, :] * root[..., j, :], axis=-1) / (
                length[..., i] * length[..., j]
            )
        cosine = np.where(np.isfinite(cosine), cosine, np.nan)
        # And what is ±1 up to rounding.
        return np.where(np.abs(cosine) > 1.0 - 1e-7, np.sign(cosine), cosine)

    def unit(self, p: ProfiledParameter) -> float:
        """Return what a lane's values of a parameter are divided by to be those of the data."""
        if p.kind == COEFFICIENT:
            return 1.0 / float(self.se[p.coefficient])
        return float(self.units[p.term][p.effects[0]]) if p.kind == SD else 1.0

    def estimate(self, p: ProfiledParameter) -> float:
        """A parameter's estimate."""
        if p.kind == SIGMA:
            return self.sigma
        if p.kind == COEFFICIENT:
            return float(self.beta[p.coefficient])
        return float(self.component(p, self.roots, self.sigma))

    def lanes(self, chosen: list[ProfiledParameter]) -> list[Lane]:
        """Both directions of each parameter that the likelihood knows of."""
        out: list[Lane] = []
        for p in chosen:
            if not np.isnan(self.estimate(p)):
                fields = self.lane(p)
                if self.rival is not None:
                    fields["others"] = self.rival.lane(p)["start"][None]
                out += [Lane(**fields), Lane(**(fields | {"step": -fields["step"]}))]
        return out

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
            "others": np.zeros((0, m + 1)),
            "nudge": self.nudge,
            "value": self.estimate(p) * self.unit(p),
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
        # Followed in standard errors, and so in any units.
        size = np.linalg.norm(b)
        moving[:p, p] = -(b / size) * (self.se[j] / size)
        return {
            "design": design,
            "moving": moving,
            "dummy": dummy,
            "center": float(self.data.beta_ols[j] / self.se[j]),
            "step": 0.4,
        }

    def _component(self, p: ProfiledParameter, value: float) -> dict[str, Any]:
        """Rows of the parameter's block in an order that puts its own first."""
        t, first = p.term, p.block[0]
        slots = self.slots[t, first]
        own = list(p.block)
        order = [*reversed(p.effects), *(i for i in own if i not in p.effects)]
        unit = self.units[t]
        lower = canonical_factor((unit[:, None] * self.roots[t])[np.ix_(order, own)])
        col, row = np.triu_indices(len(own))
        start, nudge = self.start.copy(), self.nudge.copy()
        start[slots] = lower[row, col]
        nudge[slots] = np.where(row == col, 1e-3, 0.0)
        before = sum(placement.shape[2] for placement in self.placements[:t])
        placement = self.placements[t].copy()
        inside = slots - before
        placement[:, :, inside] = 0.0
        for slot, r, c in zip(inside, row, col, strict=True):
            placement[own, own[c], slot] = self.transforms[t][own, order[r]] / unit[order[r]]
        pivots = np.zeros((3, self.start.size - 1))
        pivots[0, slots[0]] = 1.0
        few = np.sqrt(self.levels[t])
        if p.kind == CORRELATION:
            sine = slots[len(own)]
            pivots[1, slots[1]] = pivots[2, sine] = 1.0
            start[slots[0]] = np.sqrt(lower[0, 0])
            start[sine] = np.sqrt(np.hypot(lower[1, 0], lower[1, 1]))
            nudge[[slots[0], sine]] = 1e-2
            lane = {"step": max(0.2 * (1.0 - value**2) / few, 5e-3), "lower": -1.0, "upper": 1.0}
        else:
            size = max(value, 0.3 * self.sigma)
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
