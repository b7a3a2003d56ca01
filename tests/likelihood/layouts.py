"""Designs that between them reach every engine, and parameters that are hard on it.

A *layout* fixes the shapes (and so what is compiled); a *variant* of it changes the numbers.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from unittest import mock

import numpy as np
from brute_force import Exact, Problem, to_numbers

from lmmjax.covariance import Covariance, Unstructured
from lmmjax.likelihood import plan
from lmmjax.likelihood.crossproducts import CrossProducts, Prepared, cross_products
from lmmjax.likelihood.preparation import prepare

#: Compiled once and run a few times: half of the time to compile is spent on speed. Whole fits are
#: tested as users compile them.
QUICK: dict[str, bool | str] = {"xla_backend_optimization_level": "0"}

#: Rows of each of eight groups: one row to twelve, so most slopes have too few rows somewhere.
SIZES = (1, 2, 3, 5, 7, 8, 10, 12)
N = sum(SIZES)
LEVELS = len(SIZES)


def structures(problem: Problem) -> list[tuple[Covariance, ...]]:
    """The package's structures for a problem's blocks."""
    return [tuple(Unstructured(k) for k in bars) for bars in problem.bars]


def prepared(problem: Problem) -> Prepared:
    return prepare(
        problem.X,
        problem.terms,
        structures(problem),
        weights=problem.weights,
        offset=problem.offset,
    )


def statistics(problem: Problem, force: str | None = None) -> CrossProducts:
    with forced(force):
        return cross_products(prepared(problem), problem.y)


def forced(force: str | None) -> ExitStack:
    """Override a threshold of the planner: see :class:`Layout`."""
    stack = ExitStack()
    if force == "crossed":
        stack.enter_context(mock.patch.object(plan, "DENSE_REST", 0))
    if force == "nested":
        stack.enter_context(mock.patch.object(plan, "moments_pay", return_value=False))
    return stack


def columns(rng: np.random.Generator, k: int) -> np.ndarray:
    """Intercept and ``k - 1`` predictors, shape (N, k)."""
    return np.column_stack([np.ones(N), rng.normal(size=(N, k - 1))])


def simulate(
    k: tuple[int, ...],
    p: int,
    indices: list[np.ndarray],
    seed: int,
    blocks: tuple[tuple[int, ...], ...] = (),
) -> Problem:
    """Terms with ``k`` columns each on the given indices, ``p`` fixed effects, a response."""
    rng = np.random.default_rng(seed)
    own = columns(rng, max(*k, p, 1))
    X = own[:, :p]
    y = 3.0 + 2.0 * rng.normal(size=N)
    terms = []
    for size, index in zip(k, indices, strict=True):
        levels = int(index.max()) + 1
        y = y + np.sum(own[:, :size] * rng.normal(size=(levels, size))[index], axis=1)
        terms.append((own[:, :size], index, levels))
    return Problem(X, y, tuple(terms), blocks)


def finest() -> np.ndarray:
    return np.repeat(np.arange(LEVELS), SIZES)


def crossing(levels: int, seed: int = 5) -> np.ndarray:
    """A factor that crosses every other, all of its levels used."""
    index = np.random.default_rng(seed).integers(0, levels, N)
    index[:levels] = np.arange(levels)
    return np.random.default_rng(seed + 1).permutation(index)


def parents() -> np.ndarray:
    """Three groups of the eight."""
    return np.array([0, 1, 0, 2, 1, 0, 2, 2])[finest()]


def grandparents() -> np.ndarray:
    """Two groups of the three."""
    return np.array([0, 1, 0])[parents()]


@dataclass(frozen=True)
class Layout:
    """What to build, and which engine has to come out.

    ``force`` names a threshold of the planner to override: ``"crossed"`` lets no dense rest pass,
    ``"nested"`` keeps no second moments.
    """

    build: Callable[[], Problem]
    engine: str
    force: str | None = None


def one(k: int, p: int, blocks: tuple[tuple[int, ...], ...] = ()) -> Callable[[], Problem]:
    return lambda: simulate((k,), p, [finest()], seed=10 * k + p, blocks=blocks)


def many(
    k: tuple[int, ...],
    p: int,
    *indices: Callable[[], np.ndarray],
    blocks: tuple[tuple[int, ...], ...] = (),
) -> Callable[[], Problem]:
    seed = 100 + sum(k) + p
    return lambda: simulate(k, p, [index() for index in indices], seed, blocks)


def balanced() -> Problem:
    """Eight groups of six rows with the same times: one pattern."""
    rng = np.random.default_rng(77)
    time = np.tile(np.arange(6.0), 8)
    own = np.column_stack([np.ones(N), time])
    index = np.repeat(np.arange(8), 6)
    y = 10 + 2 * time + np.sum(own * rng.normal(size=(8, 2))[index], axis=1) + rng.normal(size=N)
    return Problem(own, y, ((own, index, 8),))


def single_group() -> Problem:
    """Every row in one group, so that V is of rank one but for the residual."""
    problem = one(1, 2)()
    z, _, _ = problem.terms[0]
    return replace(problem, terms=((z, np.zeros(N, int), 1),))


LAYOUTS: dict[str, Layout] = {
    "scalar": Layout(one(1, 2), "MomentBlocks"),
    "slope": Layout(one(2, 2), "MomentBlocks"),
    "three columns": Layout(one(3, 3), "MomentBlocks"),
    "five columns": Layout(one(5, 2), "MomentBlocks"),
    "two bars": Layout(one(3, 2, blocks=((1, 2),)), "MomentBlocks"),
    "no fixed effects": Layout(one(2, 0), "MomentBlocks"),
    "eight fixed effects": Layout(one(2, 8), "MomentBlocks"),
    "balanced": Layout(balanced, "MomentBlocks"),
    "single group": Layout(single_group, "MomentBlocks"),
    "scalar, dense rest": Layout(many((1, 1), 2, finest, lambda: crossing(4)), "MomentBlocks"),
    "slope, dense rest": Layout(
        many((2, 2, 1), 1, finest, lambda: crossing(4), lambda: crossing(3, 9)), "MomentBlocks"
    ),
    "one level, nested": Layout(one(2, 2), "Nested", "nested"),
    "two levels": Layout(many((1, 1), 2, finest, parents), "Nested"),
    "two levels, dense rest": Layout(
        many((1, 2, 2), 2, finest, parents, lambda: crossing(4)), "Nested"
    ),
    "three levels, dense rest": Layout(
        many((2, 1, 1, 1), 2, finest, parents, grandparents, lambda: crossing(4)), "Nested"
    ),
    "crossed": Layout(many((1, 1), 2, finest, lambda: crossing(6)), "Crossed", "crossed"),
    "crossed, slopes": Layout(many((2, 2), 2, finest, lambda: crossing(6)), "Crossed", "crossed"),
    "crossed, three factors": Layout(
        many((2, 1, 1), 0, finest, lambda: crossing(6), lambda: crossing(3, 9)),
        "Crossed",
        "crossed",
    ),
    "crossed and nested": Layout(
        many((1, 1, 2), 8, finest, parents, lambda: crossing(4)), "Crossed", "crossed"
    ),
    "crossed, five columns": Layout(
        many((5, 1), 2, finest, lambda: crossing(6), blocks=((1,) * 5, (1,))), "Crossed", "crossed"
    ),
}


@dataclass(frozen=True)
class Built:
    """A layout with its statistics, by the package and by brute force."""

    problem: Problem
    prepared: Prepared
    data: CrossProducts
    exact: Exact


@lru_cache
def built(name: str) -> Built:
    layout = LAYOUTS[name]
    problem = layout.build()
    with forced(layout.force):
        ready = prepared(problem)
    data = cross_products(ready, problem.y)
    assert type(data.elimination).__name__ == layout.engine
    return Built(problem, ready, data, Exact(problem))


def search_factors(problem: Problem, data: CrossProducts) -> Callable[[Any], list[np.ndarray]]:
    """From search parameters, decimals, to every Lambda: ``T^-1 S``, S a symmetric root per bar."""
    number = decimal.Decimal

    def factors(phi: Any) -> list[np.ndarray]:
        out, at = [], 0
        for bars, transform in zip(problem.bars, data.transforms, strict=True):
            root = to_numbers(np.zeros(np.shape(transform)), number)
            corner = 0
            for k in bars:
                for column in range(corner, corner + k):
                    for row in range(column, corner + k):
                        root[row, column] = root[column, row] = phi[at]
                        at += 1
                corner += k
            upper = to_numbers(transform, number)  # block upper-triangular: back substitution
            for row in reversed(range(corner)):
                root[row] = (root[row] - upper[row, row + 1 :] @ root[row + 1 :]) / upper[row, row]
            out.append(root)
        return out

    return factors


def directions(m: int, seed: int = 3) -> np.ndarray:
    """Along which derivatives are compared: all m parameters, or three random mixtures of them.

    A wrong entry shows in the six quadratic forms of three random directions as well.
    """
    if m <= 3:
        return np.eye(m)
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(m, 3)))[0]


def error(found: Any, truth: Any, *scales: np.ndarray) -> float:
    """Largest error relative to the largest entry (at least 1), each axis times its scale."""
    found, truth = np.asarray(found, float), np.asarray(truth, float)
    for axis, scale in enumerate(reversed(scales)):
        wide = scale.reshape(-1, *[1] * axis)
        found, truth = found * wide, truth * wide
    return float(
        np.max(np.abs(found - truth), initial=0.0) / max(1.0, np.max(np.abs(truth), initial=0.0))
    )


def hard_thetas(problem: Problem, seed: int = 0) -> dict[str, np.ndarray]:
    """Parameters to evaluate at: ordinary ones, every boundary, and far beyond."""
    rng = np.random.default_rng(seed)
    typical = rng.normal(size=problem.n_theta)
    diagonal = np.concatenate(
        [
            np.concatenate([[1.0] + [0.0] * (k - 1 - j) for j in range(k)])
            for bars in problem.bars
            for k in bars
        ]
    )
    mixed = np.where(rng.random(typical.size) < 0.5, 0.0, typical)
    mixed[0] = 1e5
    return {
        "typical": typical,
        "zero": np.zeros_like(typical),
        # The last pivots are zero: correlations of one.
        "rank one": np.where(diagonal.cumsum() > 1, 0.0, typical) if typical.size > 1 else typical,
        "no variance but correlation": typical * (diagonal == 0) + 0.5 * (typical.size == 1),
        "1e2": 1e2 * typical,
        "1e3": 1e3 * typical,
        "1e5": 1e5 * typical,
        "mixed": mixed,
        "tiny": 1e-8 * typical,
    }
