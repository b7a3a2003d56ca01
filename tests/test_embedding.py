"""For JAX users: a neural network's mean and random intercepts, trained on the marginal likelihood.

    y_ij = f(x_ij; w) + b_j + e_ij,   b_j ~ N(0, (theta sigma)^2),   e_ij ~ N(0, sigma^2)

The random intercepts are integrated out in closed form, so that the loss is a plain function of the
weights, theta and sigma, and any optimiser of optax will do.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from jax import Array

import lmmjax as lj

GROUPS, ROWS = 40, 8
SD_GROUP, SIGMA = 2.0, 0.3


def truth(x: Any) -> Any:
    return np.sin(2.5 * x) + 0.5 * x


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Every group sees a part of the x axis, so its intercept is easily taken for the curve."""
    rng = np.random.default_rng(2024)
    group = np.repeat(np.arange(GROUPS), ROWS)
    x = np.clip(rng.uniform(-2, 2, GROUPS)[group] + 0.8 * rng.normal(size=group.size), -3, 3)
    effects = SD_GROUP * rng.normal(size=GROUPS)
    y = truth(x) + effects[group] + SIGMA * rng.normal(size=group.size)
    return pd.DataFrame({"x": x, "y": y, "group": group.astype(str)})


def network(weights: dict[str, Array], x: Array) -> Array:
    """One hidden layer, shape (n,) to (n,)."""
    hidden = jnp.tanh(x[:, None] * weights["in"] + weights["bias"])
    return hidden @ weights["out"] + weights["level"]


def initial(key: Array, width: int = 16) -> dict[str, Any]:
    first, second, third = jax.random.split(key, 3)
    weights = {
        "in": 2.0 * jax.random.normal(first, (width,)),
        "bias": 2.0 * jax.random.normal(second, (width,)),
        "out": jax.random.normal(third, (width,)) / width**0.5,
        "level": jnp.zeros(()),
    }
    return {"weights": weights, "theta": jnp.ones(1), "log_sigma": jnp.zeros(())}


def mixed_loss(params: dict[str, Any], prepared: lj.Prepared, x: Array, y: Array) -> Array:
    """Minus the log-likelihood per row, the network's prediction taken off the response."""
    data = lj.cross_products(prepared, y - network(params["weights"], x))
    beta = jnp.zeros(0)
    sigma = jnp.exp(params["log_sigma"])
    return -lj.marginal_loglik(lj.Parameters(beta, params["theta"], sigma), data) / y.size


def plain_loss(params: dict[str, Any], prepared: lj.Prepared, x: Array, y: Array) -> Array:
    """The same, rows taken for independent."""
    sigma = jnp.exp(params["log_sigma"])
    residual = (y - network(params["weights"], x)) / sigma
    return 0.5 * jnp.mean(residual**2) + params["log_sigma"]


@partial(jax.jit, static_argnames=("loss", "steps"))
def train(loss: Any, prepared: lj.Prepared, x: Array, y: Array, steps: int = 1500) -> Any:
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))
    params = initial(jax.random.key(0))

    def step(carry: Any, _: None) -> tuple[Any, Array]:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, prepared, x, y)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), None, length=steps)
    return params, values


def curve_error(params: dict[str, Any]) -> float:
    """Root mean squared error of the fitted curve, its level left free."""
    grid = np.linspace(-2, 2, 101)
    gap = np.asarray(network(params["weights"], jnp.asarray(grid))) - truth(grid)
    return float(np.std(gap))


@pytest.fixture(scope="module")
def prepared(frame: pd.DataFrame) -> lj.Prepared:
    """The random part comes from a formula; the fixed part is the network's, so there is none."""
    return lj.prepare_design(lj.build_design("y ~ 0 + (1 | group)", frame))


def test_network_with_random_intercepts(frame: pd.DataFrame, prepared: lj.Prepared) -> None:
    x, y = jnp.asarray(frame["x"].to_numpy()), jnp.asarray(frame["y"].to_numpy())
    mixed, values = train(mixed_loss, prepared, x, y)
    plain, _ = train(plain_loss, prepared, x, y)
    assert values.dtype == jnp.float32  # in the user's own precision: nothing is promoted
    assert np.all(np.isfinite(values))

    sigma = float(jnp.exp(mixed["log_sigma"]))
    sd_group = float(abs(mixed["theta"][0])) * sigma
    assert abs(sigma - SIGMA) < 0.05
    # Forty groups: the standard error of the standard deviation is SD_GROUP / sqrt(80)
    assert abs(sd_group - SD_GROUP) < 3 * SD_GROUP / np.sqrt(2 * GROUPS)
    assert float(jnp.exp(plain["log_sigma"])) > 1.0, "the groups are taken for noise"

    assert curve_error(mixed) < 0.2
    assert curve_error(mixed) < 0.4 * curve_error(plain)


def test_the_loss_is_the_dense_likelihood(frame: pd.DataFrame, prepared: lj.Prepared) -> None:
    x, y = frame["x"].to_numpy(), frame["y"].to_numpy()
    with lj.double_precision():
        params = initial(jax.random.key(1))
        params["theta"] = jnp.array([1.7])
        residual = y - np.asarray(network(params["weights"], jnp.asarray(x)))
        found = float(mixed_loss(params, prepared, jnp.asarray(x), jnp.asarray(y)))
    same = frame["group"].to_numpy()[:, None] == frame["group"].to_numpy()
    V = np.eye(y.size) + 1.7**2 * same
    logdet = np.linalg.slogdet(2 * np.pi * V)[1]
    expected = 0.5 * (logdet + residual @ np.linalg.solve(V, residual)) / y.size
    np.testing.assert_allclose(found, expected, rtol=1e-12)
