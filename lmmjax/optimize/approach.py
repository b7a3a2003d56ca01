"""A first approach to a crossed design's optimum, in mixed precision and in log scale.

Where an evaluation is dominated by products of large matrices, one with those in 32 bits costs
little more than half of one in 64. And in the logarithm of a standard deviation the criterion is
closer to a parabola than in the standard deviation itself, so that a moment start is within
Newton's reach: on InstEval two steps leave three parts in a million.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from lmmjax.covariance import Diagonal, Unstructured
from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.crossed_jet import crossed_jet
from lmmjax.likelihood.crossproducts import CrossProducts
from lmmjax.likelihood.deviance import residual_df
from lmmjax.likelihood.jets import Objective, profiled_objective
from lmmjax.optimize.newton import RUNNING, NewtonState, initial_state, newton_update
from lmmjax.optimize.solution import GRADIENT_TOL

#: Evaluations at most.
LIMIT = 4
#: A last step, not evaluated any more, is taken if it is no longer than this (relative).
LAST_STEP = 0.1


def approach(data: CrossProducts, reml: bool) -> Array:
    """Search parameters, shape (n_theta,), near the optimum of a crossed design.

    Stops when one Newton step in full precision can be expected to do the rest.
    """
    engine = data.elimination
    assert isinstance(engine, Crossed)
    df = residual_df(data, reml)
    start = jnp.asarray(data.start)
    logarithmic = jnp.asarray(_standard_deviations(data)) & (start > 0)

    def theta(u: Array) -> Array:
        return jnp.where(logarithmic, jnp.exp(u), u)

    def objective(u: Array) -> Objective:
        parts = crossed_jet(engine, data.search_structures, theta(u), coarse=True)
        found = profiled_objective(*parts, df, reml)
        rate = jnp.where(logarithmic, theta(u), 1.0)
        gradient = rate * found.gradient
        bend = jnp.diag(jnp.where(logarithmic, gradient, 0.0))
        return Objective(found.value, gradient, rate[:, None] * found.hessian * rate + bend)

    m = start.shape[0]
    zeros = jnp.zeros(m, start.dtype)
    nothing = Objective(jnp.full((), jnp.inf, start.dtype), zeros, jnp.zeros((m, m), start.dtype))
    packed, unpack = ravel_pytree(nothing)

    def left(state: NewtonState) -> Array:
        """Gradient to expect after the next step and one more in full precision."""
        # In log scale a variance's relative error after a step is about half of its square.
        after = 0.5 * jnp.max(jnp.abs(state.trial - state.theta)) ** 2
        curvature = jnp.abs(jnp.diagonal(unpack(state.best).hessian))
        rate = jnp.where(logarithmic, theta(state.theta), 1.0)
        return 2.0 * after**2 * jnp.max(curvature / rate)

    def unfinished(state: NewtonState) -> Array:
        near = (state.iterations > 0) & (left(state) <= GRADIENT_TOL)
        return (state.status == RUNNING) & (state.iterations < LIMIT) & ~near

    # The value has the rounding of 32 bits.
    noise = data.n_obs * (jnp.finfo(jnp.float32).eps / jnp.finfo(start.dtype).eps)
    state = lax.while_loop(
        unfinished,
        lambda s: newton_update(s, objective(s.trial), unpack, noise=noise, tol=0.0),
        initial_state(jnp.where(logarithmic, jnp.log(start), start), packed, 1.0),
    )
    short = jnp.max(jnp.abs(state.trial - state.theta)) <= LAST_STEP
    end = theta(jnp.where(short, state.trial, state.theta))
    return jnp.where(jnp.all(jnp.isfinite(end)), end, start)


def _standard_deviations(data: CrossProducts) -> np.ndarray:
    """Which search parameters are (relative) standard deviations, shape (n_theta,)."""
    kinds = [
        np.full(s.n_theta, type(s) is Diagonal or (type(s) is Unstructured and s.size == 1))
        for bars in data.search_structures
        for s in bars
    ]
    return np.concatenate(kinds)
