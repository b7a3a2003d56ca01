"""Conditional modes and variances against the joint normal distribution written out in full."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import layouts
import numpy as np
import pytest
from brute_force import Problem
from test_deviance import LAYOUTS, slope_variants

from lmmjax.likelihood.crossproducts import CrossProducts, Prepared, lambda_factors
from lmmjax.likelihood.posterior import Posterior, posterior


@dataclass(frozen=True)
class Dense:
    """``(b, beta)`` given y: Henderson's equations solved through V, so that G may be singular."""

    problem: Problem
    factors: list[np.ndarray]

    @cached_property
    def Z(self) -> np.ndarray:
        blocks = []
        for z, index, count in self.problem.terms:
            block = np.zeros((index.size, count, z.shape[1]))
            block[np.arange(index.size), index] = z
            blocks.append(block.reshape(index.size, -1))
        return np.concatenate(blocks, axis=1)

    @cached_property
    def G(self) -> np.ndarray:
        parts = [
            np.kron(np.eye(count), f @ f.T)
            for f, (_, _, count) in zip(self.factors, self.problem.terms, strict=True)
        ]
        out = np.zeros((sum(map(len, parts)),) * 2)
        at = 0
        for part in parts:
            out[at : at + len(part), at : at + len(part)] = part
            at += len(part)
        return out

    @cached_property
    def precision(self) -> np.ndarray:
        weights = self.problem.weights
        noise = np.ones(self.problem.y.size) if weights is None else 1 / weights
        return np.linalg.inv(np.diag(noise) + self.Z @ self.G @ self.Z.T)

    @cached_property
    def fixed_cov(self) -> np.ndarray:
        X = self.problem.X
        return np.linalg.inv(X.T @ self.precision @ X)

    @cached_property
    def modes(self) -> np.ndarray:
        X, offset = self.problem.X, self.problem.offset
        y = self.problem.y - (0 if offset is None else offset)
        beta = self.fixed_cov @ X.T @ self.precision @ y
        return self.G @ self.Z.T @ self.precision @ (y - X @ beta)

    @cached_property
    def covariance(self) -> np.ndarray:
        """Of b given y and beta, over sigma^2."""
        half = self.Z @ self.G
        return self.G - half.T @ self.precision @ half

    def variance(self, x: np.ndarray, z: np.ndarray, uncertain: bool) -> float:
        """Of ``x'beta + z'b`` given y, over sigma^2."""
        total = z @ self.covariance @ z
        if uncertain:
            reach = x - self.problem.X.T @ self.precision @ self.Z @ self.G @ z
            total += reach @ self.fixed_cov @ reach
        return float(total)

    def slices(self) -> list[list[slice]]:
        """Where each level of each term is in b."""
        out, at = [], 0
        for z, _, count in self.problem.terms:
            k = z.shape[1]
            out.append([slice(at + k * j, at + k * (j + 1)) for j in range(count)])
            at += k * count
        return out


@dataclass(frozen=True)
class At:
    """The package's answers at search parameters, in the columns' own units."""

    problem: Problem
    prepared: Prepared
    data: CrossProducts
    theta: np.ndarray

    @cached_property
    def factors(self) -> list[np.ndarray]:
        """Any square root of each Lambda Lambda'."""
        return [
            np.linalg.solve(t, f) for t, f in zip(self.data.transforms, self.standard, strict=True)
        ]

    @cached_property
    def standard(self) -> list[np.ndarray]:
        roots = lambda_factors(self.data.search_structures, np.asarray(self.theta, float))
        return [np.asarray(root) for root in roots]

    @cached_property
    def posterior(self) -> Posterior:
        return posterior(self.prepared, self.data, self.problem.y, self.standard)

    @property
    def modes(self) -> list[np.ndarray]:
        scale = float(self.data.scale)
        return [
            scale * np.linalg.solve(transform, modes.T).T
            for transform, modes in zip(self.data.transforms, self.posterior.modes, strict=True)
        ]

    def covariances(self, term: int) -> np.ndarray:
        back = np.linalg.inv(self.data.transforms[term])
        return back @ self.posterior.conditional_covariances(term) @ back.T

    def variances(
        self, X: np.ndarray, Z: list[np.ndarray], levels: list[np.ndarray], uncertain: bool
    ) -> np.ndarray:
        rows = [np.linalg.solve(t.T, z.T).T for t, z in zip(self.data.transforms, Z, strict=True)]
        fixed = np.linalg.solve(self.data.fixed_factor.T, X.T).T
        return self.posterior.variances(rows, levels, fixed, fixed_uncertain=uncertain)


def check(at: At, tol: float = 1e-9) -> None:
    problem = at.problem
    dense = Dense(problem, at.factors)
    places = dense.slices()
    for t, modes in enumerate(at.modes):
        expected = np.array([dense.modes[where] for where in places[t]])
        np.testing.assert_allclose(modes, expected, atol=tol * (1 + np.abs(expected).max()))
        expected = np.array([dense.covariance[where, where] for where in places[t]])
        size = np.sqrt(np.einsum("jaa->ja", expected).max(axis=0))
        size = np.where(size > 0, size, 1.0)
        found = at.covariances(t)
        np.testing.assert_allclose(
            found / np.outer(size, size), expected / np.outer(size, size), atol=tol
        )

    rng = np.random.default_rng(6)
    m, p = 12, problem.X.shape[1]
    rows = rng.integers(0, problem.y.size, m)
    X = problem.X[rows] * (1 + 0.1 * rng.random((m, p)))
    Z = [z[rows] * (1 + 0.1 * rng.random((m, 1))) for z, _, _ in problem.terms]
    # Levels as they occur together in the data, but some are new, and some rows leave a term out.
    levels = [index[rows].copy() for _, index, _ in problem.terms]
    fresh = rng.random((len(levels), m)) < 0.25
    fresh[:, :4] = False
    for t, new in enumerate(fresh):
        levels[t][new] = -1
        Z[t][5] = 0.0
    for t, (_, _, count) in enumerate(problem.terms):  # a child with parents that are not its own
        levels[t][3] = (levels[t][3] + 1) % count
        levels[t][4] = 0
    for uncertain in (True, False):
        found = at.variances(X, Z, levels, uncertain)
        expected = np.zeros(m)
        for i in range(m):
            z = np.zeros(dense.G.shape[0])
            for t, factor in enumerate(dense.factors):
                if levels[t][i] >= 0:
                    z[places[t][levels[t][i]]] = Z[t][i]
                else:
                    expected[i] += np.sum((factor.T @ Z[t][i]) ** 2)
            expected[i] += dense.variance(X[i], z, uncertain)
        np.testing.assert_allclose(found, expected, rtol=tol, atol=tol * 1e-3)


@pytest.mark.parametrize("name", LAYOUTS)
def test_modes_and_variances(name: str) -> None:
    problem, prepared, data, _ = vars(layouts.built(name)).values()
    thetas = layouts.hard_thetas(problem, seed=2)
    for label in ("typical", "zero", "rank one"):
        check(At(problem, prepared, data, thetas[label]))


@pytest.mark.parametrize(
    ("variant", "tol"),
    [
        ("x times 1e6", 1e-9),
        # The reference squares 1e4: eight digits are gone from it.
        ("x plus 1e4, free slope", 1e-5),
        ("weights and offset", 1e-9),
        ("y times 1e6", 1e-9),
    ],
)
def test_hard_numbers(variant: str, tol: float) -> None:
    problem, _ = slope_variants()[variant]
    theta = np.array([0.8, 0.3, 0.5])
    check(At(problem, layouts.prepared(problem), layouts.statistics(problem), theta), tol)
