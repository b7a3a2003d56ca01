"""Newton's method in a trust region, with the exact small Hessian.

The search is unconstrained. A variance at zero is no constraint in theta: the criterion is an even
function of a column of Lambda, so at ``theta_ii = 0`` the gradient vanishes by symmetry, and the
curvature tells a minimum (the variance belongs at its boundary) from a saddle (it does not, and
the step leaves along the negative eigenvector).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from lmmjax.likelihood.jacobi import symmetric_eigen
from lmmjax.likelihood.jets import Objective
from lmmjax.likelihood.products import matmul
from lmmjax.optimize.solution import GRADIENT_TOL, Solution, Status

RUNNING = -1
#: Relative standard deviation beyond which convergence is judged by its logarithm.
LARGE_RATIO = 100.0


class NewtonState(NamedTuple):
    """Loop state: the best point so far (its objective raveled), and the next one to try."""

    theta: Array
    best: Array
    trial: Array
    predicted: Array
    radius: Array
    iterations: Array
    status: Array


def propose(objective: Objective, radius: Array) -> tuple[Array, Array, Array]:
    """Step within the trust radius, its predicted decrease, and the least eigenvalue (relative).

    Eigenvalues enter by their absolute values, so the step goes downhill from a saddle too; a
    direction of negative curvature is followed to the edge of the region even where the gradient
    vanishes.
    """
    values, vectors = symmetric_eigen(objective.hessian)
    along = matmul(objective.gradient, vectors)
    largest = jnp.max(jnp.abs(values))
    eps = jnp.finfo(radius.dtype).eps
    floor = jnp.maximum(largest * eps * 64, jnp.finfo(radius.dtype).tiny)
    negative = values < -jnp.sqrt(eps) * largest
    newton_step = -along / jnp.maximum(jnp.abs(values), floor)
    downhill = jnp.where(along > 0, -1.0, 1.0)
    step = jnp.where(negative & (jnp.abs(newton_step) < radius), downhill * radius, newton_step)
    length = jnp.sqrt(jnp.sum(step * step))
    step = step * jnp.minimum(1.0, radius / jnp.maximum(length, jnp.finfo(radius.dtype).tiny))
    predicted = -jnp.sum((along + 0.5 * values * step) * step)
    # A criterion that is flat in every direction has curvatures of rounding, and no saddle.
    return matmul(vectors, step), predicted, jnp.min(values) / jnp.maximum(largest, 1.0)


def gradient_units(theta: Array) -> Array:
    """What a gradient is multiplied by before it is compared with the tolerance, shape (m,).

    The criterion depends on the logarithm of a large ratio of standard deviations: its gradient
    vanishes as 1 / theta wherever the optimum is.
    """
    return jnp.maximum(1.0, jnp.abs(theta) / LARGE_RATIO)


def newton_update(
    state: NewtonState,
    trial: Objective,
    unpack: Callable[[Array], Objective],
    *,
    noise: float | Array,
    tol: float,
) -> NewtonState:
    """One iteration: accept or reject the trial point just evaluated, and propose the next."""
    best = unpack(state.best)
    eps = jnp.finfo(trial.value.dtype).eps
    slack = 8.0 * eps * (jnp.abs(trial.value) + noise)
    finite = jnp.isfinite(trial.value) & jnp.all(jnp.isfinite(trial.hessian))
    decrease = best.value - trial.value
    trial_gradient, best_gradient = (jnp.max(jnp.abs(o.gradient)) for o in (trial, best))
    # Below the rounding of the value only the gradient can tell progress.
    polishing = state.predicted < slack
    better = jnp.where(
        polishing, (decrease > -slack) & (trial_gradient < best_gradient), decrease > 0
    )
    accept = finite & (better | (state.iterations == 0))
    ratio = decrease / state.predicted
    move = state.trial - state.theta
    length = jnp.sqrt(jnp.sum(move * move))
    radius = jnp.where(
        accept,
        jnp.where(
            (ratio < 0.25) & ~polishing,
            0.5 * length,
            jnp.where(
                (ratio > 0.75) & (length > 0.9 * state.radius), 3.0 * state.radius, state.radius
            ),
        ),
        0.25 * jnp.minimum(length, state.radius),
    )
    radius = jnp.where(state.iterations == 0, state.radius, radius)
    packed = jnp.where(accept, ravel_pytree(trial)[0], state.best)
    current = unpack(packed)
    theta = jnp.where(accept, state.trial, state.theta)
    step, predicted, lowest = propose(current, radius)
    gradient = jnp.max(jnp.abs(current.gradient) * gradient_units(theta))
    flat = lowest > -jnp.sqrt(eps)
    done = jnp.isfinite(current.value) & flat & (gradient <= tol)
    stuck = ~accept & (polishing | (length < 1e-12 * (1.0 + jnp.max(jnp.abs(theta)))))
    status = jnp.where(
        done,
        Status.CONVERGED,
        jnp.where(
            (state.iterations == 0) & ~finite,
            Status.NOT_FINITE,
            jnp.where(stuck, Status.STALLED, RUNNING),
        ),
    )
    return NewtonState(
        theta=theta,
        best=packed,
        trial=theta + step,
        predicted=predicted,
        radius=radius,
        iterations=state.iterations + 1,
        status=status.astype(jnp.int32),
    )


def initial_state(start: Array, best: Array, radius: float | Array) -> NewtonState:
    """State before the first evaluation: ``best`` stands for nothing found, the start is tried."""
    dtype = start.dtype
    return NewtonState(
        theta=start,
        best=best,
        trial=start,
        predicted=jnp.full((), jnp.inf, dtype),
        radius=jnp.asarray(radius, dtype),
        iterations=jnp.zeros((), jnp.int32),
        status=jnp.full((), RUNNING, jnp.int32),
    )


def newton(
    objective: Callable[[Array], Objective],
    start: Array,
    *,
    noise: float | Array = 1.0,
    tol: float = GRADIENT_TOL,
    max_iterations: int = 100,
    radius: float = 1.0,
) -> Solution:
    """Minimise by trust-region Newton; pure, for use inside ``jit`` and ``vmap``.

    Parameters
    ----------
    objective : callable
        ``theta -> Objective`` (value, gradient, Hessian).
    start : Array, shape (m,)
    noise : float or Array
        Size of the terms that the value sums (such as n): differences below its rounding are not
        trusted.
    tol : float
        Largest gradient component at convergence.
    max_iterations : int
        Limit on evaluations of the objective.
    radius : float
        Initial trust radius.

    Returns
    -------
    Solution

    Notes
    -----
    Nocedal & Wright (2006), chapter 4, with the eigenvalues' absolute values.
    """
    dtype = start.dtype
    shape = jax.eval_shape(objective, start)
    # The state holds the best point's objective as one vector: one select an iteration, not one
    # for each leaf.
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    _, unpack = ravel_pytree(zeros)
    nothing, _ = ravel_pytree(zeros._replace(value=jnp.full((), jnp.inf, dtype)))
    state = initial_state(start, nothing, radius)
    # The objective appears once, inside the loop: half the graph to compile.
    state = lax.while_loop(
        lambda s: (s.status == RUNNING) & (s.iterations < max_iterations),
        lambda s: newton_update(s, objective(s.trial), unpack, noise=noise, tol=tol),
        state,
    )
    return solution_of(state, unpack)


def solution_of(state: NewtonState, unpack: Callable[[Array], Objective]) -> Solution:
    """Where the search is, as a solution."""
    status = jnp.where(state.status == RUNNING, Status.ITERATION_LIMIT, state.status)
    best = unpack(state.best)
    return Solution(state.theta, *best, state.iterations, status.astype(jnp.int32))
