"""Pure conditional modes against those of the posterior's block elimination."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lmmjax as lj

CASES = {
    "moments": ("Reaction ~ Days + (1 + Days | Subject)", "sleepstudy"),
    "nested": ("strength ~ 1 + (1 | batch/cask)", "Pastes"),
    "crossed": ("diameter ~ 1 + (1 | plate) + (1 | sample)", "Penicillin"),
}


@pytest.mark.parametrize("case", CASES)
def test_modes_equal_the_fit(case: str) -> None:
    formula, name = CASES[case]
    fit = lj.lmm(formula, lj.datasets.load(name))
    with lj.double_precision():
        modes = lj.conditional_modes(
            jnp.asarray(fit.beta),
            jnp.asarray(fit.theta),
            fit.raw.prepared,
            jnp.asarray(fit.design.y),
        )
        modes = jax.device_get(modes)
    for found, expected in zip(modes, fit.raw.modes, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_modes_with_weights_against_dense_algebra() -> None:
    rng = np.random.default_rng(3)
    index = np.repeat(np.arange(6), 4)
    x = rng.normal(size=24)
    w = rng.uniform(0.2, 3.0, 24)
    X = np.column_stack([np.ones(24), x])
    y = rng.normal(size=24) + rng.normal(size=6)[index]
    beta, theta = np.array([0.3, -0.2]), np.array([0.8, 0.1, 0.5])
    prepared = lj.prepare(X, [(X, index, 6)], weights=w)
    with lj.double_precision():
        (found,) = jax.jit(lj.conditional_modes)(
            jnp.asarray(beta), jnp.asarray(theta), prepared, jnp.asarray(y)
        )
        found = np.asarray(found)
    factor = np.array([[0.8, 0.0], [0.1, 0.5]])
    Z = np.zeros((24, 12))
    for i in range(24):
        Z[i, 2 * index[i] : 2 * index[i] + 2] = X[i]
    S = np.kron(np.eye(6), factor @ factor.T)
    V = np.diag(1 / w) + Z @ S @ Z.T
    expected = (S @ Z.T @ np.linalg.solve(V, y - X @ beta)).reshape(6, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)
