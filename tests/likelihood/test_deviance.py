"""The criteria against log N(y; X beta, V) with V in full, in 50 digits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import brute_force
import jax
import jax.numpy as jnp
import layouts
import mpmath
import numpy as np
import pytest
from brute_force import Exact, Problem
from jax import Array

import lmmjax as lj
from lmmjax.likelihood.crossproducts import CrossProducts

LAYOUTS = list(layouts.LAYOUTS)


def profiled_everything(theta: Array, data: CrossProducts) -> dict[str, Any]:
    """All that is public and depends on theta alone, in one program; gradient in reverse mode."""
    reml, reml_gradient = jax.value_and_grad(lj.profiled_deviance)(theta, data)
    return {
        "ml": lj.profiled_deviance(theta, data, reml=False),
        "reml": reml,
        "reml gradient": reml_gradient,
        "beta": lj.fixed_effects(theta, data),
        "sigma": jnp.stack([lj.residual_sd(theta, data, reml=reml) for reml in (False, True)]),
    }


profiled = jax.jit(profiled_everything, compiler_options=layouts.QUICK)


def relative(found: Any, truth: Any) -> float:
    return abs(float(found) - float(truth)) / abs(float(truth))


@pytest.mark.parametrize("name", LAYOUTS)
def test_criteria_equal_the_dense_computation(name: str) -> None:
    problem, _, data, exact = vars(layouts.built(name)).values()
    for label, theta in layouts.hard_thetas(problem).items():
        found = profiled(theta, data)
        # 1e5 in several terms at once leaves differences of 1e-10 of what was there.
        tol = 1e-10 if label != "1e5" or len(problem.terms) == 1 else 1e-6
        truth = exact.at(theta)
        if label == "rank one":
            full = brute_force.dense(problem, theta)
            for reml in (False, True):
                assert brute_force.gap(truth.criterion(reml), full.criterion(reml)) < 1e-35
        assert relative(found["ml"], truth.criterion(False)) < tol, label
        assert relative(found["reml"], truth.criterion(True)) < tol, label
        scale = np.sqrt(np.diagonal(truth.fixed_cov()).astype(float)) * float(truth.sigma(True))
        assert layouts.error(found["beta"] / scale, truth.beta().astype(float) / scale) < 1e3 * tol
        for reml in (0, 1):
            assert relative(found["sigma"][reml], truth.sigma(bool(reml))) < 1e2 * tol, label


@pytest.mark.parametrize("name", LAYOUTS)
def test_reverse_mode_gradient(name: str) -> None:
    problem, _, data, exact = vars(layouts.built(name)).values()
    along = layouts.directions(problem.n_theta)
    for label, theta in layouts.hard_thetas(problem).items():
        if label == "1e5" and len(problem.terms) > 1:
            continue
        scale = np.maximum(np.abs(theta), 1.0)
        start = brute_force.exactly(theta)
        wide = brute_force.to_numbers(scale[:, None] * along, brute_force.decimal.Decimal)
        first = brute_force.gradient(
            lambda t, s=start, w=wide: exact.criterion(s + w @ t, True), np.zeros(along.shape[1])
        )
        found = (scale * profiled(theta, data)["reml gradient"]) @ along
        # At 1e3 in every term what the data say of theta is 1e-6 of the gradient's parts.
        tol = 1e-10 if label != "1e3" or len(problem.terms) == 1 else 1e-6
        assert layouts.error(found, first) < tol, label


def slope_variants() -> dict[str, tuple[Problem, np.ndarray]]:
    """One layout's shapes, with hard numbers; and a theta of the size that the columns ask for."""
    base = layouts.built("slope").problem
    rng = np.random.default_rng(42)
    x, index = base.X[:, 1], base.terms[0][1]
    theta = np.array([0.8, 0.3, 0.5])

    def with_x(new: np.ndarray) -> Problem:
        own = np.column_stack([np.ones_like(new), new])
        return replace(base, X=own, terms=((own, index, layouts.LEVELS),))

    group_mean = np.bincount(index, x)[index] / np.bincount(index)[index]
    weights = np.exp(np.log(1e6) * rng.random(x.size))
    only_z = np.column_stack([np.ones_like(x), group_mean])
    return {
        "x times 1e6": (with_x(1e6 * x), theta * [1, 1e-6, 1e-6]),
        "x times 1e-6": (with_x(1e-6 * x), theta * [1, 1e6, 1e6]),
        "x plus 1e6": (with_x(x + 1e6), theta * [1, 1e-6, 1e-6]),
        "x plus 1e4, free slope": (with_x(x + 1e4), theta),
        "y times 1e6": (replace(base, y=1e6 * base.y), theta),
        "y plus 1e6": (replace(base, y=base.y + 1e6), theta),
        "weights over six decades": (replace(base, weights=weights), theta),
        "offset": (replace(base, offset=rng.normal(size=x.size) * 100), theta),
        "weights and offset": (replace(base, weights=1 / weights, offset=x), theta),
        "slope constant within groups": (
            replace(base, terms=((only_z, index, layouts.LEVELS),)),
            theta,
        ),
        "slope zero in half of the groups": (
            replace(
                base,
                terms=((base.X * np.column_stack([x**0, index % 2]), index, layouts.LEVELS),),
            ),
            theta,
        ),
        "duplicated column in the random part": (
            replace(base, terms=((np.ones_like(base.X), index, layouts.LEVELS),)),
            theta,
        ),
    }


@pytest.mark.parametrize("variant", list(slope_variants()))
def test_hard_numbers(variant: str) -> None:
    problem, theta = slope_variants()[variant]
    data = layouts.statistics(problem)
    for point in (theta, 0 * theta, 1e3 * theta, theta * [1, 1, 0]):
        truth = brute_force.dense(problem, point)
        found = profiled(point, data)
        assert relative(found["ml"], truth.criterion(False)) < 1e-10
        assert relative(found["reml"], truth.criterion(True)) < 1e-10
        scale = np.sqrt(np.diagonal(truth.fixed_cov()).astype(float)) * float(truth.sigma(True))
        assert layouts.error(found["beta"] / scale, truth.beta().astype(float) / scale) < 1e-8


def test_groups_of_one_and_of_a_thousand_rows() -> None:
    rng = np.random.default_rng(8)
    index = np.repeat(np.arange(4), (1, 2, 40, 1000))
    x = rng.normal(size=index.size)
    X = np.column_stack([np.ones_like(x), x])
    y = 5 + x + (X * rng.normal(size=(4, 2))[index]).sum(1) + rng.normal(size=x.size)
    problem = Problem(X, y, ((X, index, 4),))
    data, exact = layouts.statistics(problem), Exact(problem)
    for label, theta in layouts.hard_thetas(problem).items():
        found, truth = profiled(theta, data), exact.at(theta)
        assert relative(found["ml"], truth.criterion(False)) < 1e-10, label
        assert relative(found["reml"], truth.criterion(True)) < 1e-10, label


@partial(jax.jit, compiler_options=layouts.QUICK)
def likelihoods(params: lj.Parameters, data: CrossProducts) -> Any:
    restricted = jax.value_and_grad(lj.restricted_loglik, (0, 1))(params.theta, params.sigma, data)
    return jax.value_and_grad(lj.marginal_loglik)(params, data), restricted


@pytest.mark.parametrize(
    "name", ["slope", "no fixed effects", "scalar, dense rest", "two levels", "crossed"]
)
def test_likelihoods_with_every_parameter_free(name: str) -> None:
    problem, _, data, exact = vars(layouts.built(name)).values()
    rng = np.random.default_rng(4)
    m, p = problem.n_theta, problem.X.shape[1]
    for sigma in (0.01, 1.7, 1e3):
        beta, theta = rng.normal(size=p), rng.normal(size=m)
        params = lj.Parameters(jnp.asarray(beta), jnp.asarray(theta), jnp.asarray(sigma))
        (value, gradient), (restricted, restricted_gradient) = likelihoods(params, data)

        full = brute_force.dense(problem, theta)
        numbers = brute_force.to_numbers(beta, mpmath.mpf)
        assert relative(value, full.loglik(numbers, mpmath.mpf(sigma))) < 1e-10
        assert relative(restricted, full.restricted(mpmath.mpf(sigma))) < 1e-10

        first = brute_force.gradient(
            lambda t, p=p: exact.at(t[p:-1]).loglik(np.array(t[:p], object), t[-1]),
            np.concatenate([beta, theta, [sigma]]),
        )
        found = np.concatenate([gradient.beta, gradient.theta, [gradient.sigma]])
        assert layouts.error(found / np.max(np.abs(first)), first / np.max(np.abs(first))) < 1e-10

        first = brute_force.gradient(
            lambda t: exact.at(t[:-1]).restricted(t[-1]), np.append(theta, sigma)
        )
        found = np.append(*restricted_gradient)
        assert layouts.error(found / np.max(np.abs(first)), first / np.max(np.abs(first))) < 1e-10


def test_criteria_are_the_likelihoods_at_their_best() -> None:
    data = layouts.built("slope").data
    theta = jnp.array([0.9, -0.2, 0.4])
    beta = lj.fixed_effects(theta, data)
    ml, reml = (lj.residual_sd(theta, data, reml=reml) for reml in (False, True))
    found = profiled(theta, data)
    (value, gradient), _ = likelihoods(lj.Parameters(beta, theta, ml), data)
    _, (restricted, restricted_gradient) = likelihoods(lj.Parameters(beta, theta, reml), data)
    assert relative(-2 * value, found["ml"]) < 1e-13
    assert relative(-2 * restricted, found["reml"]) < 1e-13
    np.testing.assert_allclose(gradient.beta, 0.0, atol=1e-11)
    np.testing.assert_allclose(gradient.sigma, 0.0, atol=1e-11)
    np.testing.assert_allclose(restricted_gradient[1], 0.0, atol=1e-11)
