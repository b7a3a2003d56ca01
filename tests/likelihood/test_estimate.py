"""Whole fits: against SciPy on the dense criterion, at boundaries, and what must not matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import brute_force
import layouts
import numpy as np
import pytest
from brute_force import Exact, Problem
from scipy.optimize import minimize

from lmmjax.fitting import Fitted, fit_response
from lmmjax.optimize.solution import GRADIENT_TOL, Status


def fit(problem: Problem, reml: bool = True, force: str | None = None) -> Fitted:
    with layouts.forced(force):
        return fit_response(layouts.prepared(problem), problem.y, reml=reml)


def assert_at_a_minimum(fitted: Fitted) -> None:
    solution = fitted.estimate.solution
    assert solution.status == Status.CONVERGED
    assert np.max(np.abs(solution.gradient)) <= GRADIENT_TOL
    values = np.linalg.eigvalsh(solution.hessian)
    assert values[0] >= -1e-7 * max(values[-1], 1.0)


def criterion(problem: Problem, reml: bool = True) -> Callable[[np.ndarray], float]:
    """Dense, in float64, for minimisers to call."""
    masks = [(i[:, None] == i).astype(float) for _, i, _ in problem.terms]
    n, p = problem.X.shape
    right = np.column_stack([problem.X, problem.y])

    def value(theta: np.ndarray) -> float:
        V = np.eye(n)
        for (z, _, _), mask, factor in zip(
            problem.terms, masks, problem.factors(theta), strict=True
        ):
            rows = z @ factor
            V += (rows @ rows.T) * mask
        lower = np.linalg.cholesky(V)
        half = np.linalg.solve(lower, right)
        q, r = np.linalg.qr(half[:, :p])
        rss = half[:, p] @ half[:, p] - np.sum((q.T @ half[:, p]) ** 2)
        df = n - p if reml else n
        total = 2 * np.sum(np.log(np.diagonal(lower))) + df * (1 + np.log(2 * np.pi * rss / df))
        return float(total + (2 * np.sum(np.log(np.abs(np.diagonal(r)))) if reml else 0.0))

    return value


def best_of_many(problem: Problem, reml: bool = True, starts: int = 4) -> float:
    """Least value that SciPy finds from several starts."""
    function = criterion(problem, reml)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(starts):
        start = rng.normal(size=problem.n_theta)
        coarse = minimize(function, start, method="L-BFGS-B").x
        options = {"xatol": 1e-7, "fatol": 1e-10, "maxiter": 400}
        found.append(minimize(function, coarse, method="Nelder-Mead", options=options).fun)
    return min(found)


def random_problem(kind: str, seed: int) -> Problem:
    """A small design with the shapes of a layout, variances of any size, a third of them zero."""
    rng = np.random.default_rng(seed)
    n, levels = layouts.N, layouts.LEVELS
    cuts = np.sort(rng.choice(np.arange(1, n), levels - 1, replace=False))
    sizes = [b - a for a, b in pairwise([0, *cuts, n])]
    finest = np.repeat(np.arange(levels), sizes)
    x = rng.normal(size=n) + rng.normal() * (rng.random() < 0.5) * finest
    X = np.column_stack([np.ones(n), x])
    other = {
        "slope": None,
        "two levels": np.append(np.arange(3), rng.integers(0, 3, levels - 3))[finest],
        "scalar, dense rest": layouts.crossing(4, seed),
    }[kind]
    Z = X if other is None else X[:, :1]
    indices = [finest] if other is None else [finest, other]
    y = X @ rng.normal(size=2) + rng.normal(size=n)
    for index in indices:
        sd = np.exp(rng.normal(size=Z.shape[1])) * (rng.random(Z.shape[1]) > 1 / 3)
        effects = rng.normal(size=(int(index.max()) + 1, Z.shape[1])) * sd
        if Z.shape[1] == 2 and rng.random() < 0.3:
            effects[:, 1] = effects[:, 0] * rng.normal()
        y = y + np.sum(Z * effects[index], axis=1)
    terms = tuple((Z, index, int(index.max()) + 1) for index in indices)
    return Problem(X, y, terms)


SWEEP = [
    *(("slope", seed, True) for seed in range(18)),
    *(("slope", seed, False) for seed in range(18, 24)),
    *(("two levels", seed, True) for seed in range(100, 108)),
    *(("scalar, dense rest", seed, True) for seed in range(200, 208)),
]


@pytest.mark.parametrize(("kind", "seed", "reml"), SWEEP)
def test_never_above_what_a_general_minimiser_finds(kind: str, seed: int, reml: bool) -> None:
    problem = random_problem(kind, seed)
    fitted = fit(problem, reml)
    assert_at_a_minimum(fitted)
    found = float(fitted.estimate.criterion)
    np.testing.assert_allclose(found, criterion(problem, reml)(fitted.theta), rtol=1e-10)
    assert found <= best_of_many(problem, reml) + 1e-6


# --- degrees of freedom --------------------------------------------------------------------------


def brute_satterthwaite(
    problem: Problem, theta: np.ndarray, sigma: float, reml: bool
) -> np.ndarray:
    """Satterthwaite's df of each coefficient at (theta, sigma), derivatives from 100 digits."""
    exact = Exact(problem)
    n = problem.y.size
    point = np.append(theta, sigma)

    def deviance(t: list) -> object:
        if reml:
            return -2 * exact.at(t[:-1]).restricted(t[-1])
        summary = exact.at(t[:-1])
        rss, _, _ = brute_force.profile(summary.gram, summary.log)
        variance = t[-1] * t[-1]
        return summary.logdet + rss / variance + n * (summary.two_pi * variance).ln()

    def variances(t: list) -> object:
        return np.diagonal(exact.at(t[:-1]).fixed_cov()) * t[-1] * t[-1]

    hessian = brute_force.derivatives(deviance, point)[2]
    value, first, _ = brute_force.derivatives(variances, point)
    covariance = 2 * np.linalg.inv(hessian)
    return 2 * value**2 / np.einsum("qm,mn,qn->q", first, covariance, first)


@cache
def layout_fit(name: str, reml: bool) -> Fitted:
    layout = layouts.LAYOUTS[name]
    return fit(layouts.built(name).problem, reml, layout.force)


@pytest.mark.parametrize(
    ("name", "reml"),
    [
        ("slope", True),
        ("slope", False),
        ("two levels", True),
        ("scalar, dense rest", True),
        ("crossed", True),
    ],
)
def test_satterthwaite_from_the_definition(name: str, reml: bool) -> None:
    fitted = layout_fit(name, reml)
    problem = layouts.built(name).problem
    assert_at_a_minimum(fitted)
    assert np.all(np.linalg.eigvalsh(fitted.estimate.solution.hessian) > 1e-3), "want no boundary"
    sigma = float(fitted.estimate.fixed.sigma)
    expected = brute_satterthwaite(problem, fitted.theta, sigma, reml)
    np.testing.assert_allclose(fitted.estimate.df, expected, rtol=1e-6)
    summary = Exact(problem).at(fitted.theta)
    np.testing.assert_allclose(sigma, float(summary.sigma(reml)), rtol=1e-9)
    np.testing.assert_allclose(
        fitted.estimate.fixed.vcov, sigma**2 * summary.fixed_cov().astype(float), rtol=1e-8
    )
    np.testing.assert_allclose(fitted.estimate.fixed.beta, summary.beta().astype(float), rtol=1e-8)


# --- what must not matter ------------------------------------------------------------------------


def slope_statistics(fitted: Fitted) -> np.ndarray:
    """t value and df of the slope, shape (2,)."""
    fixed = fitted.estimate.fixed
    return np.array([fixed.beta[1] / np.sqrt(fixed.vcov[1, 1]), fitted.estimate.df[1]])


def with_columns(problem: Problem, x: np.ndarray) -> Problem:
    own = np.column_stack([np.ones_like(x), x])
    return replace(problem, X=own, terms=((own, *problem.terms[0][1:]),))


@pytest.mark.parametrize(
    "change",
    [
        "y times 1e6",
        "y times 1e-6",
        "y plus 1e6",
        "x times 1e6",
        "x times 1e-6",
        "x plus 1e6",
        "x minus 1e3, times 1e3",
        "weights times 1e6",
        "rows shuffled",
        "groups renamed",
        "offset",
    ],
)
def test_invariance(change: str) -> None:
    base = layouts.built("slope").problem
    x, (z, index, levels) = base.X[:, 1], base.terms[0]
    rng = np.random.default_rng(2)
    order, names = rng.permutation(x.size), rng.permutation(levels)
    offset = 5.0 * rng.normal(size=x.size)
    changed = {
        "y times 1e6": replace(base, y=base.y * 1e6),
        "y times 1e-6": replace(base, y=base.y * 1e-6),
        "y plus 1e6": replace(base, y=base.y + 1e6),
        "x times 1e6": with_columns(base, x * 1e6),
        "x times 1e-6": with_columns(base, x * 1e-6),
        "x plus 1e6": with_columns(base, x + 1e6),
        "x minus 1e3, times 1e3": with_columns(base, (x - 1e3) * 1e3),
        "weights times 1e6": replace(base, weights=np.full(x.size, 1e6)),
        "rows shuffled": replace(
            base, X=base.X[order], y=base.y[order], terms=((z[order], index[order], levels),)
        ),
        "groups renamed": replace(base, terms=((z, names[index], levels),)),
        "offset": replace(base, y=base.y + offset, offset=offset),
    }[change]
    before, after = layout_fit("slope", True), fit(changed)
    assert_at_a_minimum(after)
    np.testing.assert_allclose(slope_statistics(after), slope_statistics(before), rtol=1e-6)


def test_order_of_the_terms_does_not_matter() -> None:
    problem = layouts.built("two levels").problem
    before = layout_fit("two levels", True)
    after = fit(replace(problem, terms=problem.terms[::-1]))
    np.testing.assert_allclose(after.theta[::-1], before.theta, rtol=1e-6)
    np.testing.assert_allclose(after.estimate.criterion, before.estimate.criterion, rtol=1e-12)
    np.testing.assert_allclose(slope_statistics(after), slope_statistics(before), rtol=1e-7)


def test_engines_agree() -> None:
    problem = layouts.built("crossed").problem
    chain, crossed = fit(problem), fit(problem, force="crossed")
    np.testing.assert_allclose(crossed.theta, chain.theta, rtol=1e-6)
    np.testing.assert_allclose(crossed.estimate.criterion, chain.estimate.criterion, rtol=1e-12)
    np.testing.assert_allclose(slope_statistics(crossed), slope_statistics(chain), rtol=1e-7)


# --- boundaries ----------------------------------------------------------------------------------


def within_only() -> Problem:
    """Nothing between groups: every group's intercept and slope are taken out of y."""
    base = layouts.built("slope").problem
    z, index, levels = base.terms[0]
    y = base.y.copy()
    for level in range(levels):
        rows = index == level
        own = z[rows]
        y[rows] -= own @ np.linalg.lstsq(own, y[rows], rcond=None)[0]
    rng = np.random.default_rng(1)
    return replace(base, y=y + base.X @ rng.normal(size=2))


def test_all_variances_zero() -> None:
    problem = within_only()
    fitted = fit(problem)
    assert_at_a_minimum(fitted)
    np.testing.assert_allclose(fitted.theta, 0.0, atol=1e-6)
    n, p = problem.X.shape
    beta, rss, *_ = np.linalg.lstsq(problem.X, problem.y, rcond=None)
    np.testing.assert_allclose(fitted.estimate.fixed.beta, beta, rtol=1e-9)
    np.testing.assert_allclose(fitted.estimate.fixed.sigma, np.sqrt(rss[0] / (n - p)), rtol=1e-9)
    # V does not move with theta to first order there: what is left is least squares.
    np.testing.assert_allclose(fitted.estimate.df, n - p, rtol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_correlation_of_one(sign: float) -> None:
    base = layouts.built("slope").problem
    z, index, levels = base.terms[0]
    rng = np.random.default_rng(12)
    effect = 3.0 * rng.normal(size=levels)[index]
    noise = within_only().y
    y = noise + effect + sign * 0.8 * z[:, 1] * effect
    problem = replace(base, y=y)
    fitted = fit(problem)
    assert_at_a_minimum(fitted)
    _, cross, second = fitted.theta
    assert abs(second) < 1e-5 * np.hypot(cross, second)
    assert np.sign(cross) == sign
    assert float(fitted.estimate.criterion) <= best_of_many(problem) + 1e-6
    assert np.all(np.isfinite(fitted.estimate.df))
    assert np.all(fitted.estimate.df > 1)


def test_one_of_two_variances_zero() -> None:
    """A factor that does nothing beside one that does."""
    base = layouts.built("scalar, dense rest").problem
    (_, index, levels), rest = base.terms
    rng = np.random.default_rng(21)
    effects = 2.0 * rng.normal(size=levels)[index]
    noise = rng.normal(size=index.size)
    noise -= (np.bincount(rest[1], noise) / np.bincount(rest[1]))[rest[1]]
    problem = replace(base, y=effects + noise)
    fitted = fit(problem)
    assert_at_a_minimum(fitted)
    assert abs(fitted.theta[1]) < 1e-6
    assert fitted.theta[0] > 0.5
    assert float(fitted.estimate.criterion) <= best_of_many(problem) + 1e-6


def test_hardly_any_residual() -> None:
    """Standard deviations 1e4 times the residual's: theta is large, and found."""
    base = layouts.built("slope").problem
    z, index, levels = base.terms[0]
    rng = np.random.default_rng(31)
    effects = rng.normal(size=(levels, 2))
    y = np.sum(z * effects[index], axis=1) + 1e-4 * rng.normal(size=index.size)
    problem = replace(base, y=y)
    fitted = fit(problem)
    assert_at_a_minimum(fitted)
    assert fitted.theta[0] > 1e3
    assert 0.5e-4 < float(fitted.estimate.fixed.sigma) < 2e-4
    truth = float(Exact(problem).criterion(fitted.theta, True))
    np.testing.assert_allclose(fitted.estimate.criterion, truth, rtol=1e-12)
