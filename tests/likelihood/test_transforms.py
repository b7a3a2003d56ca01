"""The pure functions under jit, vmap, grad and in 32 bits, as a JAX user composes them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from typing import Any

import brute_force
import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from jax import Array
from jax.test_util import check_grads

import lmmjax as lj
from lmmjax.estimate import estimate
from lmmjax.likelihood.crossproducts import CrossProducts, Prepared

THETAS = {
    "slope": np.array([0.9, -0.2, 0.4]),
    "two levels": np.array([0.7, 1.1]),
    "crossed": np.array([0.7, 1.1]),
}
each_engine = pytest.mark.parametrize("name", list(THETAS))


@jax.jit
def loss(theta: Array, prepared: Prepared, y: Array) -> Array:
    return lj.profiled_deviance(theta, lj.cross_products(prepared, y))


@each_engine
def test_jit_equals_eager(name: str) -> None:
    built, theta = layouts.built(name), THETAS[name]
    with jax.disable_jit():
        eager = lj.profiled_deviance(jnp.asarray(theta), built.data)
    traced = loss(theta, built.prepared, built.problem.y)
    np.testing.assert_allclose(eager, traced, rtol=1e-13)
    np.testing.assert_allclose(eager, float(built.exact.criterion(theta, True)), rtol=1e-12)


@each_engine
def test_statistics_by_jax_equal_those_by_numpy(name: str) -> None:
    built = layouts.built(name)
    traced = jax.jit(lj.cross_products)(built.prepared, built.problem.y)
    assert jax.tree.structure(traced) == jax.tree.structure(built.data)
    for found, expected in zip(jax.tree.leaves(traced), jax.tree.leaves(built.data), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@each_engine
def test_vmap_over_responses_equals_a_loop(name: str) -> None:
    built, theta = layouts.built(name), THETAS[name]
    rng = np.random.default_rng(3)
    responses = built.problem.y + rng.normal(size=(4, built.problem.y.size))
    together = jax.jit(jax.vmap(loss, (None, None, 0)))(theta, built.prepared, responses)
    for y, found in zip(responses, together, strict=True):
        exact = brute_force.Exact(replace(built.problem, y=y))
        np.testing.assert_allclose(found, float(exact.criterion(theta, True)), rtol=1e-11)
        data = lj.cross_products(built.prepared, y)
        np.testing.assert_allclose(found, lj.profiled_deviance(theta, data), rtol=1e-12)


def test_vmap_over_theta_equals_a_loop() -> None:
    built = layouts.built("slope")
    thetas = np.random.default_rng(0).normal(size=(5, 3))
    together = jax.jit(jax.vmap(lj.profiled_deviance, (0, None)))(thetas, built.data)
    alone = [built.exact.criterion(theta, True) for theta in thetas]
    np.testing.assert_allclose(together, np.array(alone, float), rtol=1e-12)


@each_engine
def test_gradient_in_the_response(name: str) -> None:
    """d log N / dy = -V^-1 (y - X beta) / sigma^2."""
    built, theta = layouts.built(name), THETAS[name]
    problem = built.problem
    beta, sigma = np.array([2.5, -0.3]), 1.4
    params = lj.Parameters(jnp.asarray(beta), jnp.asarray(theta), jnp.asarray(sigma))

    @jax.jit
    def gradient(prepared: Prepared, y: Array) -> Array:
        return jax.grad(lambda y: lj.marginal_loglik(params, lj.cross_products(prepared, y)))(y)

    V = np.eye(problem.y.size)
    factors = problem.factors(theta)
    for (z, index, _), factor in zip(problem.terms, factors, strict=True):
        V += (z @ factor @ factor.T @ z.T) * (index[:, None] == index)
    residual = problem.y - problem.X @ beta
    expected = -np.linalg.solve(V, residual) / sigma**2
    found = gradient(built.prepared, problem.y)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


def test_gradients_in_theta_and_the_response_at_once() -> None:
    """Both modes, by JAX's own checker."""
    built = layouts.built("slope")
    function = jax.jit(lambda theta, y: loss(theta, built.prepared, y) / 100)
    check_grads(
        function, (jnp.asarray(THETAS["slope"]), jnp.asarray(built.problem.y)), order=1, eps=1e-5
    )


@each_engine
def test_no_leaks_and_no_nans(name: str) -> None:
    built, theta = layouts.built(name), THETAS[name]
    value_and_gradient = jax.value_and_grad(loss)
    with jax.checking_leaks(), jax.debug_nans(True):
        value, gradient = value_and_gradient(jnp.asarray(theta), built.prepared, built.problem.y)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_a_new_response_does_not_compile_again() -> None:
    built = layouts.built("slope")
    loss(THETAS["slope"], built.prepared, built.problem.y)
    before = loss._cache_size()  # type: ignore[attr-defined]
    loss(2 * THETAS["slope"], built.prepared, built.problem.y + 1.0)
    assert loss._cache_size() == before  # type: ignore[attr-defined]


# --- precision -----------------------------------------------------------------------------------


def in_single(tree: Any) -> Any:
    """Every array of a tree in 32 bits."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float32) if np.asarray(leaf).dtype == np.float64 else leaf,
        tree,
    )


@partial(jax.jit, static_argnames="reml", compiler_options=layouts.QUICK)
def everything(theta: Array, data: CrossProducts, reml: bool = True) -> dict[str, Any]:
    sigma = lj.residual_sd(theta, data, reml=reml)
    params = lj.Parameters(lj.fixed_effects(theta, data), theta, sigma)
    return {
        "criterion": lj.profiled_deviance(theta, data, reml=reml),
        "gradient": jax.grad(lj.profiled_deviance)(theta, data),
        "beta": params.beta,
        "sigma": sigma,
        "loglik": lj.marginal_loglik(params, data),
        "restricted": lj.restricted_loglik(theta, sigma, data),
    }


@each_engine
def test_single_precision_stays_single_and_is_good_to_five_digits(name: str) -> None:
    built, theta = layouts.built(name), THETAS[name]
    double = jax.device_get(everything(theta, built.data))
    # 64 bits allowed or not: the inputs decide.
    for x64 in (True, False) if name == "slope" else (False,):
        with jax.enable_x64(x64):
            single = everything(np.asarray(theta, np.float32), in_single(built.data))
            for key, leaf in single.items():
                assert leaf.dtype == jnp.float32, key
            for key in ("criterion", "beta", "sigma", "loglik", "restricted"):
                np.testing.assert_allclose(single[key], double[key], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(single["gradient"], double["gradient"], rtol=1e-3, atol=1e-3)


@each_engine
def test_cross_products_follow_a_response_in_32_bits(name: str) -> None:
    built, theta = layouts.built(name), THETAS[name]
    double = loss(theta, built.prepared, built.problem.y)
    with jax.enable_x64(False):
        data = jax.jit(lj.cross_products)(built.prepared, jnp.asarray(built.problem.y))
        assert {
            leaf.dtype for leaf in jax.tree.leaves(data) if jnp.issubdtype(leaf.dtype, jnp.floating)
        } == {jnp.dtype("float32")}
        single = lj.profiled_deviance(jnp.asarray(theta, jnp.float32), data)
        assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=1e-5)


def test_a_fit_in_32_bits_is_close() -> None:
    """What a 32-bit caller can count on: two digits of theta, three of beta and its errors."""
    built = layouts.built("slope")
    double = jax.device_get(jax.jit(estimate)(built.data))
    with jax.enable_x64(False):
        single = jax.device_get(jax.jit(estimate)(in_single(built.data)))
    assert all(
        leaf.dtype == np.float32
        for leaf in jax.tree.leaves(single)
        if np.issubdtype(leaf.dtype, np.floating)
    )
    np.testing.assert_allclose(single.criterion, double.criterion, rtol=1e-5)
    np.testing.assert_allclose(single.solution.theta, double.solution.theta, rtol=2e-2, atol=2e-2)
    np.testing.assert_allclose(single.fixed.beta, double.fixed.beta, rtol=1e-3, atol=1e-3)
    se = np.sqrt(np.diagonal(double.fixed.vcov))
    np.testing.assert_allclose(np.sqrt(np.diagonal(single.fixed.vcov)), se, rtol=5e-3)


# --- the import ----------------------------------------------------------------------------------


def in_new_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_import_sets_nothing_prints_nothing_and_loads_little() -> None:
    found = in_new_process(
        """
        import sys, warnings
        import jax
        before = dict(jax.config.values)
        filters = list(warnings.filters)
        import lmmjax
        assert dict(jax.config.values) == before, "a JAX setting was changed"
        assert warnings.filters == filters, "a warnings filter was changed"
        heavy = {"pandas", "formulaic", "optax", "matplotlib", "narwhals", "polars", "pyarrow"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert found == "[]"


def test_import_takes_less_than_a_second_beyond_jax() -> None:
    code = """
        import time
        start = time.perf_counter()
        import jax, jax.numpy
        middle = time.perf_counter()
        import lmmjax
        print(time.perf_counter() - middle)
        """
    assert min(float(in_new_process(code)) for _ in range(2)) < 0.7


@pytest.mark.parametrize("weighted", [False, True])
def test_a_predictor_far_from_zero_costs_no_digits(fits, weighted):
    """Whole numbers keep their differences at any origin up to 2^53, and so does the fit."""
    data = fits.data("sleepstudy").assign(w=lambda d: 1.0 + d["Days"] % 3)
    weights = "w" if weighted else None
    formula = "Reaction ~ Days + (Days | Subject)"
    near = lj.lmm(formula, data, weights=weights)
    for origin in (2_000.0, 1e9, -1e12):
        far = lj.lmm(formula, data.assign(Days=data["Days"] + origin), weights=weights)
        assert far.criterion == pytest.approx(near.criterion, abs=1e-9)
        assert far.fixef["Days"] == pytest.approx(near.fixef["Days"], rel=1e-12)
        assert far.bse["Days"] == pytest.approx(near.bse["Days"], rel=1e-9)
        assert far.df["Days"] == pytest.approx(near.df["Days"], rel=1e-8)
        slope = far.raw.factors[0][1]
        assert np.hypot(*slope) == pytest.approx(np.hypot(*near.raw.factors[0][1]), rel=1e-8)
