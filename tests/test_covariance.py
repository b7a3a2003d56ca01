"""Covariance structures against their closed forms, and a structure that a user writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brute_force import Problem
from jax import Array
from scipy.optimize import minimize

import lmmjax as lj
from lmmjax.covariance import (
    AR1,
    CompoundSymmetry,
    Covariance,
    Diagonal,
    Identity,
    SymmetricRoot,
    Unstructured,
    block_diagonal,
    canonical_factor,
)
from lmmjax.fitting import fit_response
from lmmjax.likelihood.preparation import prepare

SIZES = [1, 2, 3, 5]


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with lj.double_precision():
        yield


@partial(jax.jit, static_argnums=0)
def factor_of(structure: Covariance, theta: Array) -> Array:
    return structure.factor(theta)


def covariance(structure: Covariance, theta: Sequence[float] | np.ndarray) -> np.ndarray:
    factor = np.asarray(factor_of(structure, np.asarray(theta, float)))
    return factor @ factor.T


@pytest.mark.parametrize("k", SIZES)
def test_unstructured_fills_the_triangle_by_columns(k: int) -> None:
    structure = Unstructured(k)
    theta = np.random.default_rng(k).normal(size=structure.n_theta)
    expected = np.zeros((k, k))
    at = 0
    for column in range(k):
        for row in range(column, k):
            expected[row, column] = theta[at]
            at += 1
    np.testing.assert_array_equal(structure.factor(jnp.asarray(theta)), expected)


def test_unstructured_names_follow_lme4() -> None:
    assert Unstructured(3).theta_names(["(Intercept)", "a", "b"]) == [
        "(Intercept)",
        "a.(Intercept)",
        "b.(Intercept)",
        "a",
        "b.a",
        "b",
    ]


@pytest.mark.parametrize("k", SIZES)
def test_identity_and_diagonal(k: int) -> None:
    sd = np.linspace(0.5, 2.0, k)
    np.testing.assert_allclose(covariance(Identity(k), [1.5]), 2.25 * np.eye(k))
    np.testing.assert_allclose(covariance(Diagonal(k), sd), np.diag(sd**2))


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("z", [-30.0, -1.0, 0.0, 2.0, 30.0])
def test_compound_symmetry(k: int, z: float) -> None:
    structure = CompoundSymmetry(k)
    theta = [1.5, z][: structure.n_theta]
    lowest = -1 / max(k - 1, 1)
    r = lowest + (1 - lowest) / (1 + np.exp(-z))
    expected = 2.25 * np.where(np.eye(k) > 0, 1.0, r)
    np.testing.assert_allclose(covariance(structure, theta), expected, atol=1e-12)
    np.testing.assert_allclose(
        covariance(structure, structure.start()), np.eye(k), atol=1e-14, err_msg="start is white"
    )


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("r", [-0.999, -0.4, 0.0, 0.7, 0.999999])
def test_ar1(k: int, r: float) -> None:
    lag = np.abs(np.arange(k)[:, None] - np.arange(k)[None, :])
    expected = 2.25 * np.where(lag == 0, 1.0, np.sign(r) ** lag * np.abs(r) ** lag)
    found = covariance(AR1(k), [1.5, np.arctanh(r)])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("structure", [AR1(4), CompoundSymmetry(4), Identity(3), Unstructured(3)])
def test_factors_are_smooth_at_the_start(structure: Covariance) -> None:
    start = jnp.asarray(structure.start())
    for derivative in (jax.jacfwd(structure.factor), jax.jacfwd(jax.jacrev(structure.factor))):
        assert np.all(np.isfinite(jax.jit(derivative)(start)))


def singular_factors(k: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(k)
    full = rng.normal(size=(k, k))
    rank_one = np.outer(rng.normal(size=k), np.eye(k)[0])
    first_zero = full.copy()
    first_zero[0] = 0.0
    return {
        "full": full,
        "zero": np.zeros((k, k)),
        "rank one": rank_one,
        "rank one, rotated": rank_one @ np.linalg.qr(full)[0],
        "first variance zero": first_zero,
        "large": 1e6 * full,
        "badly scaled": np.logspace(-5, 5, k)[:, None] * full,
    }


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("kind", list(singular_factors(2)))
@pytest.mark.parametrize("family", [Unstructured, SymmetricRoot])
def test_from_factor_round_trip(family: type[Covariance], kind: str, k: int) -> None:
    factor = singular_factors(k)[kind]
    truth = factor @ factor.T
    scale = np.linalg.norm(factor, axis=1)
    if family is SymmetricRoot:  # one accuracy for the matrix as a whole
        scale = np.full(k, np.linalg.norm(factor))
    scale = np.where(scale > 0, scale, 1.0)
    structure = family(k)
    found = covariance(structure, structure.from_factor(factor))
    np.testing.assert_allclose(
        found / np.outer(scale, scale), truth / np.outer(scale, scale), atol=1e-13
    )


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("kind", list(singular_factors(2)))
def test_canonical_factor_is_lower_with_a_diagonal_that_is_not_negative(kind: str, k: int) -> None:
    factor = singular_factors(k)[kind]
    lower = canonical_factor(factor)
    np.testing.assert_array_equal(np.triu(lower, 1), 0.0)
    assert np.all(np.diagonal(lower) >= 0)
    np.testing.assert_allclose(
        canonical_factor(lower), lower, atol=1e-12 * (1 + np.abs(lower).max())
    )
    rotation = np.linalg.qr(np.random.default_rng(9).normal(size=(k, k)))[0]
    size = np.abs(lower).max() + 1e-300
    np.testing.assert_allclose(
        canonical_factor(factor @ rotation) / size, lower / size, atol=1e-9, err_msg="not unique"
    )


def test_diagonal_from_factor() -> None:
    np.testing.assert_array_equal(Diagonal(2).from_factor(np.diag([-1.0, 2.0])), [1.0, 2.0])


def test_block_diagonal() -> None:
    a, b = np.array([[1.0]]), np.arange(4.0).reshape(2, 2)
    expected = np.zeros((3, 3))
    expected[0, 0], expected[1:, 1:] = 1.0, b
    np.testing.assert_array_equal(block_diagonal([a, b]), expected)
    np.testing.assert_array_equal(block_diagonal([b]), b)


@dataclass(frozen=True)
class Proportional(Covariance):
    """A structure as a user would write it: a known shape, one unknown scale per half."""

    @property
    def n_theta(self) -> int:
        return 2

    def factor(self, theta: Array) -> Array:
        half = self.size // 2
        shape = jnp.tril(jnp.ones((self.size, self.size), theta.dtype))
        return jnp.where(jnp.arange(self.size)[:, None] < half, theta[0], theta[1]) * shape

    def start(self) -> np.ndarray:
        return np.ones(2)

    def theta_names(self, columns: Sequence[str]) -> list[str]:
        return ["first half", "second half"]


def occasions(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sixteen subjects, up to three occasions of two rows each, AR(1) effects."""
    rng = np.random.default_rng(seed)
    subject, time = (a.reshape(-1) for a in np.meshgrid(np.arange(16), np.arange(3), indexing="ij"))
    keep = rng.random(subject.size) > 0.15
    subject, time = np.repeat(subject[keep], 2), np.repeat(time[keep], 2)
    lag = np.abs(np.arange(3)[:, None] - np.arange(3))
    effects = rng.normal(size=(16, 3)) @ np.linalg.cholesky(1.5 * 0.6**lag).T
    X = np.column_stack([np.ones(time.size), time])
    y = X @ [5.0, 1.0] + effects[subject, time] + 0.7 * rng.normal(size=time.size)
    return X, y, np.eye(3)[time], subject


def dense_criterion(
    X: np.ndarray, y: np.ndarray, Z: np.ndarray, index: np.ndarray, G: np.ndarray
) -> float:
    V = np.eye(y.size) + (Z @ G @ Z.T) * (index[:, None] == index)
    inverse = np.linalg.inv(V)
    information = X.T @ inverse @ X
    beta = np.linalg.solve(information, X.T @ inverse @ y)
    df = y.size - X.shape[1]
    rss = (y - X @ beta) @ inverse @ (y - X @ beta)
    logdet = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
    return float(logdet + df * (1 + np.log(2 * np.pi * rss / df)))


@pytest.mark.parametrize("structure", [AR1(3), CompoundSymmetry(3), Identity(3), Proportional(3)])
def test_fits_end_to_end_as_the_dense_criterion_does(structure: Covariance) -> None:
    X, y, Z, index = occasions()
    fitted = fit_response(prepare(X, [(Z, index, 16)], [(structure,)]), y)

    def dense(theta: np.ndarray) -> float:
        return dense_criterion(X, y, Z, index, covariance(structure, theta))

    start = np.asarray(structure.start())
    best = min(
        (
            minimize(
                dense, start + jitter, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11}
            )
            for jitter in (0.1, -0.2)
        ),
        key=lambda found: found.fun,
    )
    assert fitted.estimate.solution.status == 0
    np.testing.assert_allclose(fitted.estimate.criterion, dense(fitted.theta), rtol=1e-11)
    assert fitted.estimate.criterion <= best.fun + 1e-7
    np.testing.assert_allclose(
        covariance(structure, fitted.theta), covariance(structure, best.x), atol=2e-4
    )


def test_problem_is_what_the_structures_are() -> None:
    """The reference's own filling of Lambda agrees with the package's."""
    theta = np.arange(1.0, 8.0)
    problem = Problem(
        np.zeros((1, 0)), np.zeros(1), ((np.zeros((1, 4)), np.zeros(1, int), 1),), ((3, 1),)
    )
    expected = block_diagonal([Unstructured(3).factor(jnp.asarray(theta[:6])), theta[6:, None]])
    np.testing.assert_array_equal(problem.factors(theta)[0], expected)


def test_one_variance_of_many_columns_is_one_moment_equation() -> None:
    """Not one for each pair of columns, of which there are q^2: 100 s at q = 50."""
    rng = np.random.default_rng(5)
    index, other = np.zeros(120, int), np.repeat(np.arange(40), 3)
    Z, ones = rng.normal(size=(120, 50)), np.ones((120, 1))
    prepared = prepare(ones, [(Z, index, 1), (ones, other, 40)], [(Identity(50),), (Diagonal(1),)])
    assert prepared.equations.inverse.shape == (3, 3)  # with that of the residual variance
    # The other term's start is about where its effects are.
    y = 2.0 * rng.normal(size=40)[other] + Z @ rng.normal(size=50) + rng.normal(size=120)
    start = lj.cross_products(prepared, y).start
    assert start[0] == 1.0
    assert 1.0 < start[1] < 4.0
