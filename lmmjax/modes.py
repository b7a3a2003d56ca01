"""The best optimum that a few starts can find: which fits to doubt, where to start them again.

The criterion can have several local optima. With one group of steep slopes among many flat ones,
one of them calls that group an accident and another calls it the variance. Newton's method ends in
the one whose valley it starts in, usually, but not always, the best.

Looking again costs several fits, so it is done only for fits in doubt. One run from the moment
start comes first, and it is in doubt if

- it did not converge; or
- some group is further out than it can explain (:mod:`lmmjax.likelihood.surprise`): a Mahalanobis
  distance that comes from sums already made; or
- it is singular on a fragile design: few groups, or groups that say next to nothing of an effect.
  There the greatest distance is bounded and tells less; or
- it is of so few groups of a single factor that no distance tells anything.

Where all groups of a single factor have one design the criterion has one optimum, and nothing is
asked. What is in doubt is fitted again from six more starts, with all standard deviations alike,
small to very large, and from four of correlated effects; the best end is kept.
`benchmarks/modes.py` measures what is missed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from lmmjax.covariance import (
    AR1,
    CompoundSymmetry,
    Covariance,
    Diagonal,
    Identity,
    SymmetricRoot,
    Unstructured,
)
from lmmjax.estimate import Estimate
from lmmjax.inference.boundary import bars_at_boundary
from lmmjax.likelihood.crossproducts import CrossProducts, Prepared, is_moments_alone
from lmmjax.likelihood.segments import group_gram
from lmmjax.likelihood.surprise import chi_squared_limit
from lmmjax.optimize.solution import Status

#: Relative standard deviations, for columns of unit scale, of the further starts.
STARTS = (0.3, 1.0, 2.5, 6.0, 20.0, 100.0)
#: The same with what stands off the diagonal of a symmetric root, for correlated effects.
TILTED = ((2.0, 0.8), (2.0, -0.8), (10.0, 0.8), (10.0, -0.8))
#: Levels up to which a factor has few, and information (rows' worth) of a group that is next to
#: none: either makes a design fragile.
FEW_LEVELS, NO_INFORMATION = 6, 0.05
#: Groups of a single factor up to which every fit is in doubt.
FEW_GROUPS = 15
#: Criteria that differ by no more are one; a rival's is above the best by more.
SAME_VALUE, RIVAL_VALUE = 1e-6, 1e-5
#: Relative difference of covariance matrices of different optima.
OTHER_PLACE = 1e-2
#: Two optima this close in deviance are worth a word.
CLOSE = 2.0


def other_starts(structures: Sequence[Sequence[Covariance]]) -> np.ndarray:
    """Return search parameters to start again from, shape (starts, n_theta)."""
    flat = [s for bars in structures for s in bars]
    correlated = any(type(s) is SymmetricRoot for s in flat)
    starts = [(sd, 0.0) for sd in STARTS] + (list(TILTED) if correlated else [])
    return np.stack(
        [np.concatenate([_scaled(s, *start) for s in flat] or [np.zeros(0)]) for start in starts]
    )


def _scaled(structure: Covariance, sd: float, tilt: float) -> np.ndarray:
    start = np.array(structure.start(), np.float64)
    if type(structure) is SymmetricRoot:
        return sd * np.where(start == 0.0, tilt, start)
    if type(structure) in (Diagonal, Unstructured):
        return sd * start
    if type(structure) in (Identity, CompoundSymmetry, AR1):
        start[0] *= sd
    # What the parameters of others mean is not known: their own start, again.
    return start


class _Pair(NamedTuple):
    """Cross-products ``C`` of two terms' columns by cell, (k, m, cells), and each cell's level."""

    left: int
    right: int
    gram: np.ndarray
    level: np.ndarray


@dataclass(frozen=True, eq=False)
class Screen:
    """What of a design decides which fits to doubt. Made by :func:`screen_of`."""

    prepared: Prepared

    @cached_property
    def one_optimum(self) -> bool:
        """Whether all groups of a single factor have the same design."""
        engine = self.prepared.template
        return is_moments_alone(engine) and np.shape(engine.root)[-1] == 1  # type: ignore[union-attr]

    @cached_property
    def few_groups(self) -> bool:
        """Whether a single factor has so few groups that every fit is in doubt."""
        return len(self.prepared.levels) == 1 and self.prepared.levels[0] <= FEW_GROUPS

    @cached_property
    def fragile(self) -> bool:
        """Whether some factor has few levels, or levels that say next to nothing of an effect."""
        if min(self.prepared.levels) <= FEW_LEVELS:
            return True
        for gram in self._own_gram:
            values = np.linalg.eigvalsh(np.moveaxis(gram, -1, 0))
            if np.any((values > 1e-9) & (values < NO_INFORMATION)):
                return True
        return False

    @cached_property
    def _own_gram(self) -> list[np.ndarray]:
        p = self.prepared
        return [
            group_gram(z, z, index, count)
            for z, index, count in zip(p.term_rows, p.term_index, p.levels, strict=True)
        ]

    @cached_property
    def _limits(self) -> list[np.ndarray]:
        out = []
        for gram in self._own_gram:
            values = np.linalg.eigvalsh(np.moveaxis(gram, -1, 0))
            rank = np.count_nonzero(values > 1e-9, axis=-1).astype(np.float64)
            out.append(chi_squared_limit(rank, rank.size))
        return out

    @cached_property
    def _pairs(self) -> list[_Pair]:
        p, out = self.prepared, []
        for t in range(len(p.levels)):
            for u in range(t):
                code = p.term_index[t].astype(np.int64) * p.levels[u] + p.term_index[u]
                cells, at = np.unique(code, return_inverse=True)
                gram = group_gram(p.term_rows[t], p.term_rows[u], at.reshape(-1), cells.size)
                out.append(_Pair(t, u, gram, cells // p.levels[u]))
                out.append(_Pair(u, t, np.swapaxes(gram, 0, 1), cells % p.levels[u]))
        return out

    def doubts(
        self, estimate: Estimate, level_sums: tuple[np.ndarray, ...] = (), scale: Any = 1.0
    ) -> bool:
        """Whether one fit should be tried from other starts.

        Parameters
        ----------
        estimate : Estimate
        level_sums : tuple of ndarray, each (k_t, L_t)
            As :class:`~lmmjax.likelihood.crossproducts.CrossProducts` has them.
        scale : scalar
            Length of the least-squares residual; used with level sums alone.
        """
        status = int(estimate.solution.status)
        if status != Status.CONVERGED:
            return status != Status.NOT_FINITE
        if self.one_optimum:
            return False
        return bool(
            self.few_groups
            or estimate.surprise
            or (self.fragile and self._singular(estimate))
            or (level_sums and self._has_surprise(estimate, level_sums, scale))
        )

    def doubted_lanes(
        self, estimate: Estimate, level_sums: tuple[np.ndarray, ...], scale: np.ndarray
    ) -> np.ndarray:
        """Return the numbers of a batch's fits that should be tried from other starts.

        Parameters
        ----------
        estimate : Estimate
        level_sums : tuple of ndarray
        scale : ndarray, shape (lanes,)
            As in :meth:`doubts`, the lanes' axis first.
        """
        status = np.asarray(estimate.solution.status)
        doubt = status != Status.CONVERGED
        if not self.one_optimum:
            doubt = doubt | self.few_groups | estimate.surprise
            if self.fragile:
                doubt = doubt | self._singular(estimate)
            if level_sums:
                for lane in np.flatnonzero(~doubt).tolist():
                    one, sums = jax.tree.map(lambda x, i=lane: x[i], (estimate, level_sums))
                    doubt[lane] = self._has_surprise(one, sums, scale[lane])
        return np.flatnonzero(doubt & (status != Status.NOT_FINITE))

    def _singular(self, estimate: Estimate) -> Any:
        bars = [singular for *_, singular in bars_at_boundary(self.prepared, estimate)]
        return np.any(bars, axis=0)

    def level_variances(self, factors: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the variance of each level's ``Z_tj'e`` over sigma^2, by term, (L_t, k_t, k_t).

        Of the standardised columns and the response's deviations ``e`` from its mean:
        ``C_jj + sum_u sum_l C_jl Sigma_u C_jl'``.
        """
        total = []
        for gram, factor in zip(self._own_gram, factors, strict=True):
            moved = np.einsum("abj,bc->acj", gram, factor)
            total.append(gram + np.einsum("acj,bcj->abj", moved, moved))
        for pair in self._pairs:
            moved = np.einsum("abj,bc->acj", pair.gram, factors[pair.right])
            count = total[pair.left].shape[-1]
            for a, row in enumerate(moved):
                for b, other in enumerate(moved):
                    cells = np.einsum("cj,cj->j", row, other)
                    total[pair.left][a, b] += np.bincount(pair.level, cells, count)
        return [np.moveaxis(variance, -1, 0) for variance in total]

    def _has_surprise(
        self, estimate: Estimate, level_sums: tuple[np.ndarray, ...], scale: Any
    ) -> bool:
        """Whether some level's sum is further out than the fit can explain, beta taken as known."""
        sigma2 = float(estimate.fixed.sigma / scale) ** 2
        variances = self.level_variances([np.asarray(f) for f in estimate.factors])
        for variance, sums, limit in zip(variances, level_sums, self._limits, strict=True):
            k = variance.shape[-1]
            # A level that says nothing of an effect has a singular matrix.
            ridge = 1e-12 * np.trace(variance, axis1=1, axis2=2) + 1e-300
            regular = variance + ridge[:, None, None] * np.eye(k)
            solved = np.linalg.solve(regular, sums.T[..., None])[..., 0]
            if np.any(np.einsum("ja,ja->j", sums.T, solved) > limit * sigma2):
                return True
        return False


#: The screen of a prepared design, by the design's identity, for as long as it lives.
_screens: dict[int, Screen] = {}


def screen_of(prepared: Prepared) -> Screen:
    """Return the screen of a design, made once."""
    key = id(prepared)
    found = _screens.get(key)
    if found is None:
        # Made of a copy: a reference to the design itself would keep it alive.
        found = _screens[key] = Screen(replace(prepared))
        weakref.finalize(prepared, _screens.pop, key, None)
    return found


class Choice(NamedTuple):
    """Which of several runs is the best, and which is another optimum; by lane.

    Attributes
    ----------
    best : ndarray of int, shape (lanes,)
    rival : ndarray of int, shape (lanes,)
        Run that converged to the next best optimum; -1 where there is none.
    gap : ndarray, shape (lanes,)
        By how much its criterion is above the best; NaN where there is none.
    """

    best: np.ndarray
    rival: np.ndarray
    gap: np.ndarray


def choose(runs: Estimate) -> Choice:
    """Choose among runs of the same fits: the lowest criterion, and converged if others are as low.

    Parameters
    ----------
    runs : Estimate
        Leaves with leading axes (runs, lanes).
    """
    value = np.asarray(runs.solution.value)
    value = np.where(np.isfinite(value), value, np.inf)
    converged = np.asarray(runs.solution.status) == Status.CONVERGED
    as_low = value <= value.min(axis=0) + SAME_VALUE
    lanes = np.arange(value.shape[1])
    # The first of those that are alike: argmax takes it.
    best = np.argmax(2 * as_low + (as_low & converged), axis=0)
    elsewhere = np.zeros(value.shape, bool)
    for factor in map(np.asarray, runs.factors):
        covariance = factor @ np.swapaxes(factor, -1, -2)
        chosen = covariance[best, lanes]
        size = np.maximum(abs(covariance), abs(chosen)).max(axis=(-1, -2), initial=SAME_VALUE)
        elsewhere |= abs(covariance - chosen).max(axis=(-1, -2), initial=0.0) > OTHER_PLACE * size
    above = value - value[best, lanes]
    is_rival = converged & elsewhere & (above > RIVAL_VALUE)
    above = np.where(is_rival, above, np.inf)
    rival = np.argmin(above, axis=0)
    gap = above[rival, lanes]
    found = np.isfinite(gap)
    return Choice(best, np.where(found, rival, -1), np.where(found, gap, np.nan))


def merge(runs: Estimate) -> tuple[Estimate, Choice]:
    """Return the best run of each lane, with its rival and all evaluations counted."""
    choice = choose(runs)
    lanes = np.arange(choice.best.size)
    best: Estimate = jax.tree.map(lambda x: np.asarray(x)[choice.best, lanes], runs)
    spent = np.sum(runs.solution.iterations, axis=0, dtype=best.solution.iterations.dtype)
    solution = best.solution._replace(iterations=spent)
    return best._replace(solution=solution, rival=choice.gap), choice


def seek(
    first: Estimate, data: CrossProducts, fit: Callable[[CrossProducts], Estimate]
) -> tuple[Estimate, Estimate | None]:
    """Run a fit in doubt from the other starts; return the best end, and the next best optimum.

    Parameters
    ----------
    first : Estimate
        Where the run from the moment start ended.
    data : CrossProducts
    fit : callable
        Runs from ``data.start``.
    """
    starts = other_starts(data.search_structures)
    ends = [first, *(fit(replace(data, start=start)) for start in starts)]
    runs = jax.tree.map(lambda *xs: np.stack(xs)[:, None], *ends)
    best, choice = merge(runs)
    rival = int(choice.rival[0])
    return jax.tree.map(lambda x: x[0], best), None if rival < 0 else ends[rival]
