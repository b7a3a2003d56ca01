"""The large crossed designs' way: an inverse without LAPACK, mixed precision, an approach first."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import layouts
import numpy as np
import pytest
from jax import Array

from lmmjax.estimate import estimate, estimate_large
from lmmjax.likelihood.crossed_jet import crossed_jet
from lmmjax.likelihood.crossproducts import CrossProducts
from lmmjax.likelihood.dense import LEAF, spd_inverse_and_logdet
from lmmjax.optimize import Status

CROSSED = ["crossed", "crossed, slopes"]


@pytest.mark.parametrize("size", [1, 3, LEAF, 2 * LEAF + 7])
def test_inverse_and_logdet(size: int) -> None:
    rng = np.random.default_rng(size)
    half = rng.normal(size=(size, size + 2))
    matrix = half @ half.T + np.eye(size)
    change = rng.normal(size=(size, size))
    change = change + change.T
    # What stands above the diagonal is not looked at.
    given = np.where(np.tri(size, dtype=bool), matrix, np.nan)
    (inverse, logdet), (moved, first) = jax.jvp(
        spd_inverse_and_logdet, (jnp.asarray(given),), (jnp.asarray(change),)
    )
    truth = np.linalg.inv(matrix)
    np.testing.assert_allclose(inverse, truth, atol=1e-11 * np.abs(truth).max())
    assert logdet == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-12, abs=1e-12)
    exact = -truth @ change @ truth
    np.testing.assert_allclose(moved, exact, atol=1e-10 * np.abs(exact).max())
    assert first == pytest.approx(np.trace(truth @ change), rel=1e-9, abs=1e-9)


def test_inverse_of_an_indefinite_matrix_is_not_a_number() -> None:
    _, logdet = spd_inverse_and_logdet(jnp.diag(jnp.array([1.0, -1.0, 2.0])))
    assert np.isnan(logdet)


@partial(jax.jit, static_argnames="coarse", compiler_options=layouts.QUICK)
def jets(theta: Array, data: CrossProducts, coarse: bool) -> Any:
    return crossed_jet(data.elimination, data.search_structures, theta, coarse=coarse)


@pytest.mark.parametrize("name", CROSSED)
def test_mixed_precision_keeps_the_quadratic_form(name: str) -> None:
    data = layouts.built(name).data
    theta = jnp.asarray(data.start)
    for full, coarse, tol in zip(
        jets(theta, data, False), jets(theta, data, True), (1e-5, 1e-9), strict=True
    ):
        for part in ("value", "first"):
            exact = getattr(full, part)
            error = np.max(np.abs(getattr(coarse, part) - exact))
            assert error <= tol * np.max(np.abs(exact))
        error = np.max(np.abs(coarse.second - full.second))
        assert error <= 1e-4 * np.max(np.abs(full.second))


@pytest.mark.parametrize("name", CROSSED)
def test_approach_leads_to_the_same_fit(name: str) -> None:
    data = layouts.built(name).data
    options = layouts.QUICK
    direct = jax.jit(estimate, static_argnames="reml", compiler_options=options)(data, reml=True)
    near = jax.jit(estimate_large, static_argnames="reml", compiler_options=options)(
        data, reml=True
    )
    assert near.solution.status == Status.CONVERGED
    assert np.max(np.abs(near.solution.gradient)) <= 1e-6
    assert near.solution.iterations < direct.solution.iterations
    assert near.criterion == pytest.approx(float(direct.criterion), abs=1e-8)
    np.testing.assert_allclose(near.df, direct.df, rtol=1e-5)
