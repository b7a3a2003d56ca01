"""What the pure functions are given: wrong shapes and types, padding, exact fits, and traces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import brute_force
import jax
import jax.numpy as jnp
import layouts
import mpmath
import numpy as np
import pytest
from jax import Array
from jax.sharding import Mesh, PartitionSpec

import lmmjax as lj
from lmmjax.covariance import Diagonal

BUILT = layouts.built("slope")
THETA = np.array([0.9, -0.2, 0.4])


def params(beta: Any = (0.5, 1.0), theta: Any = THETA, sigma: Any = 1.5) -> lj.Parameters:
    return lj.Parameters(jnp.asarray(beta), jnp.asarray(theta), sigma)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "whole numbers": (
        lambda: lj.profiled_deviance(jnp.array([1, 0, 1]), BUILT.data),
        "theta has dtype int64",
    ),
    "too few": (lambda: lj.fixed_effects(THETA[:2], BUILT.data), r"theta has shape \(2,\).* 3 cov"),
    "too many": (lambda: lj.residual_sd(np.ones(7), BUILT.data), r"theta has shape \(7,\)"),
    "a column": (
        lambda: lj.restricted_loglik(THETA[:, None], 1.0, BUILT.data),
        r"theta has shape \(3, 1\)",
    ),
    "beta that would broadcast": (
        lambda: lj.marginal_loglik(params(beta=[0.5]), BUILT.data),
        r"beta has shape \(1,\); the model has 2 fixed effects",
    ),
    "sigma of two": (
        lambda: lj.marginal_loglik(params(sigma=np.ones(2)), BUILT.data),
        r"sigma has shape \(2,\)",
    ),
    "beta of the modes": (
        lambda: lj.conditional_modes(np.ones(3), THETA, BUILT.prepared, BUILT.problem.y),
        r"beta has shape \(3,\)",
    ),
    "a response too short": (
        lambda: lj.cross_products(BUILT.prepared, BUILT.problem.y[:-1]),
        r"y has shape \(47,\); the design has 48 rows",
    ),
    "many responses": (
        lambda: lj.cross_products(BUILT.prepared, jnp.ones((2, layouts.N))),
        r"y has shape \(2, 48\).*jax\.vmap",
    ),
    "a response with NaN": (
        lambda: lj.cross_products(BUILT.prepared, np.full(layouts.N, np.nan)),
        "y is not finite in row 0",
    ),
    "another object": (lambda: lj.profiled_deviance(THETA, BUILT.prepared), "CrossProducts"),
    "a method for a flag": (
        lambda: lj.profiled_deviance(THETA, BUILT.data, reml="ML"),
        "reml must be True or False, not 'ML'",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name: str) -> None:
    call, message = WRONG[name]
    with pytest.raises(lj.LmmError, match=message):
        call()


def test_wrong_arguments_are_named_in_a_trace() -> None:
    with pytest.raises(lj.LmmError, match=r"theta has shape \(2,\)"):
        jax.jit(lj.profiled_deviance)(jnp.ones(2), BUILT.data)
    with pytest.raises(lj.LmmError, match="dtype int32"):
        jax.vmap(lj.profiled_deviance, (0, None))(jnp.ones((2, 3), jnp.int32), BUILT.data)


def designs() -> dict[str, tuple[dict[str, Any], str]]:
    (term,) = BUILT.problem.terms
    X, (Z, index, levels) = BUILT.problem.X, term
    right = {"X": X, "terms": [term]}
    return {
        "dependent columns": (
            right | {"X": np.column_stack([X, X @ [1.0, 2.0]])},
            "3 columns of rank 2.*column 2 is zero or a combination",
        ),
        "dependent where weighted": (
            right | {"weights": np.arange(layouts.N) < 1.0},
            "2 columns of rank 1 in the rows of positive weight",
        ),
        "a column of zeros": (right | {"X": X * [0.0, 1.0]}, "column 0 is zero"),
        "one axis": (right | {"X": X[:, 0]}, r"X has shape \(48,\)"),
        "Z of one axis": (right | {"terms": [(Z[:, 0], index, levels)]}, "Z of term 0 has shape"),
        "Z with NaN": (right | {"terms": [(Z * np.nan, index, levels)]}, "Z of term 0 is nan at"),
        "too few levels": (right | {"terms": [(Z, index, 5)]}, "runs from 0 to 7, but .* 5 levels"),
        "levels as floats": (right | {"terms": [(Z, index / 2, levels)]}, "dtype float64.*whole"),
        "a structure too large": (
            right | {"structures": [(Diagonal(3),)]},
            r"is of size 3 \(Diagonal\(3\)\), but the term has 2 columns",
        ),
        "a bare structure": (right | {"structures": [Diagonal(2)]}, "must be a tuple of struct"),
        "no structure": (right | {"structures": []}, "0 entries; there are 1 terms"),
        "negative weights": (right | {"weights": -np.ones(layouts.N)}, "must not be negative"),
    }


@pytest.mark.parametrize("name", designs())
def test_wrong_designs_are_named(name: str) -> None:
    kwargs, message = designs()[name]
    with pytest.raises(lj.LmmError, match=message):
        lj.prepare(**kwargs)


def test_rows_without_weight_are_not_there() -> None:
    """Padding: modes, criterion and statistics equal those of the rows that are left."""
    (term,) = BUILT.problem.terms
    X, (Z, index, levels) = BUILT.problem.X, term
    kept = np.ones(layouts.N)
    kept[[0, 5, 6, 20, 47]] = 0.0  # the first group has no other row
    left = kept > 0
    beta, y = np.array([0.5, 1.0]), BUILT.problem.y
    padded = lj.prepare(X, [term], weights=kept)
    (found,) = lj.conditional_modes(beta, THETA, padded, jnp.asarray(y))
    factor = np.array([[0.9, 0.0], [-0.2, 0.4]])
    whole = np.zeros((left.sum(), levels, 2))
    whole[np.arange(left.sum()), index[left]] = Z[left]
    whole = whole.reshape(left.sum(), -1)
    S = np.kron(np.eye(levels), factor @ factor.T)
    V = np.eye(left.sum()) + whole @ S @ whole.T
    expected = S @ whole.T @ np.linalg.solve(V, y[left] - X[left] @ beta)
    np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-9, atol=1e-11)
    smaller = brute_force.Problem(X[left], y[left], ((Z[left], index[left], levels),))
    truth = float(brute_force.Exact(smaller).criterion(THETA, True))
    data = lj.cross_products(padded, jnp.asarray(y))
    assert float(lj.profiled_deviance(THETA, data)) == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_likelihood_of_an_exact_fit_is_finite(shift: float) -> None:
    """At a response that the fixed effects explain exactly, in value and in all derivatives."""
    index, n = np.repeat(np.arange(3), 4), 12
    x = np.linspace(-1.0, 1.0, n) ** 2
    prepared = lj.prepare(x[:, None], [(np.ones((n, 1)), index, 3)])

    def loglik(y: Array, beta: Array, theta: Array, sigma: Array) -> Array:
        return lj.marginal_loglik(lj.Parameters(beta, theta, sigma), lj.cross_products(prepared, y))

    at = jnp.zeros(n), jnp.array([shift]), jnp.array([0.8]), jnp.array(1.0)
    value, slopes = jax.value_and_grad(loglik, (0, 1, 2, 3))(*at)
    with mpmath.workdps(50):
        problem = brute_force.Problem(x[:, None], np.zeros(n), ((np.ones((n, 1)), index, 3),))
        exact = brute_force.dense(problem, [0.8])
        truth = exact.loglik(np.array([mpmath.mpf(shift)]), mpmath.mpf(1))
        # In closed form: log|V| is 3 log(1 + 4 theta^2).
        logdet = 3 * mpmath.log(1 + 4 * mpmath.mpf(0.8) ** 2)
        if not shift:
            assert abs(truth + (12 * mpmath.log(2 * mpmath.pi) + logdet) / 2) < 1e-40
    assert float(value) == pytest.approx(float(truth), rel=1e-14)
    V = np.eye(n) + 0.64 * (index[:, None] == index)
    residual = np.linalg.solve(V, -x * shift)  # V^-1 (y - X beta)
    ones = (index[:, None] == index).astype(float)
    by_theta = -0.5 * np.trace(np.linalg.solve(V, 1.6 * ones)) + 0.8 * residual @ ones @ residual
    expected = [-residual, [x @ residual], [by_theta], -n + residual @ V @ residual]
    for found, wanted in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


def test_batches_of_other_rows_are_traced_once() -> None:
    """Ragged groups, padded by rows without weight: nothing of their number is compiled in."""
    traces = 0

    @jax.jit
    def loss(theta: Array, prepared: lj.Prepared, y: Array) -> Array:
        nonlocal traces
        traces += 1
        return lj.profiled_deviance(theta, lj.cross_products(prepared, y))

    rng = np.random.default_rng(0)
    index, ones = np.repeat(np.arange(10), 5), np.ones((50, 1))
    for _ in range(6):
        there = np.arange(5) < rng.integers(2, 6, 10)[:, None]
        X, y = np.column_stack([ones, rng.normal(size=50)]), rng.normal(size=50)
        weights, left = there.ravel().astype(float), there.ravel()
        prepared = lj.prepare(X, [(ones, index, 10)], weights=weights)
        found = loss(jnp.array([0.7]), prepared, jnp.asarray(y))
        problem = brute_force.Problem(X[left], y[left], ((ones[left], index[left], 10),))
        truth = brute_force.Exact(problem).criterion([0.7], True)
        assert float(found) == pytest.approx(float(truth), rel=1e-12)
    assert traces == 1


@pytest.mark.parametrize(("levels", "most"), [((30, 25), 4), ((90, 85), 3)])
def test_allocations_of_rows_share_their_shapes(levels: tuple[int, int], most: int) -> None:
    """Of twelve random allocations of crossed factors few are compiled anew."""
    shapes = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        ones = np.ones((400, 1))
        prepared = lj.prepare(ones, [(ones, rng.integers(0, m, 400), m) for m in levels])
        leaves, treedef = jax.tree.flatten(prepared)
        shapes.add((treedef, tuple(np.shape(x) for x in leaves)))
    assert len(shapes) <= most


@pytest.mark.parametrize("name", ["slope", "two levels", "crossed"])
def test_shards_of_responses_with_the_check_of_their_types(name: str) -> None:
    built = layouts.built(name)
    prepared, y = built.prepared, built.problem.y
    theta = np.full(built.data.n_theta, 0.6)
    rows = [y, y[::-1].copy()]

    def both(y: Array) -> tuple[Array, Array]:
        data = lj.cross_products(prepared, y)
        return lj.profiled_deviance(theta, data), jax.grad(lj.profiled_deviance)(
            theta + 0.0 * y[0], data
        )

    mesh = Mesh(np.array(jax.devices()[:1]), ("rows",))
    split = PartitionSpec("rows")
    shards = jax.shard_map(jax.vmap(both), mesh=mesh, in_specs=split, out_specs=split)
    value, slope = jax.jit(shards)(jnp.asarray(np.stack(rows)))
    exact = [brute_force.Exact(replace(built.problem, y=row)) for row in rows]
    truth = [float(each.criterion(theta, True)) for each in exact]
    np.testing.assert_allclose(value, truth, rtol=1e-11)
    assert np.all(np.isfinite(slope))


def test_public_functions_called_eagerly_are_one_program_each() -> None:
    """And not one for each operation, of which ``conditional_modes`` has hundreds."""
    y, beta, theta, prepared = BUILT.problem.y, np.array([0.5, 1.0]), THETA, BUILT.prepared
    data = BUILT.data
    calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "cross_products": (lambda y: lj.cross_products(prepared, y), (jnp.asarray(y),)),
        "profiled_deviance": (lj.profiled_deviance, (theta, data)),
        "marginal_loglik": (lambda b, t: lj.marginal_loglik(params(b, t), data), (beta, theta)),
        "restricted_loglik": (lambda t: lj.restricted_loglik(t, 1.0, data), (theta,)),
        "fixed_effects": (lj.fixed_effects, (theta, data)),
        "residual_sd": (lj.residual_sd, (theta, data)),
        "conditional_modes": (lambda b: lj.conditional_modes(b, theta, prepared, y), (beta,)),
    }
    for name, (function, args) in calls.items():
        arrays = jax.tree.map(jnp.asarray, args)
        steps = [str(step.primitive) for step in jax.make_jaxpr(function)(*arrays).eqns]
        assert [s for s in steps if s in ("jit", "pjit")] == steps, name
        assert len(steps) == 1, name
