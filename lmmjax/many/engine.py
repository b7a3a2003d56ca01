"""Newton's method over a batch of data sets, lane by lane; pure functions.

The objective, the update and the inference are those of a single fit. What differs is who waits
for whom: a batch runs until few lanes are left, and the caller gathers those of all batches and
runs them again, so that no lane waits for the slowest (about a third of small simulated data sets
are singular, and take twice as many steps).
"""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from lmmjax.estimate import Estimate, estimate, infer, objective
from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.crossproducts import (
    CrossProducts,
    Prepared,
    cross_products,
    is_moments_alone,
)
from lmmjax.likelihood.masked import masked_cross_products
from lmmjax.likelihood.moments import MomentBlocks
from lmmjax.likelihood.nested import Nested
from lmmjax.optimize.newton import RUNNING, initial_state, newton_update, solution_of
from lmmjax.optimize.solution import GRADIENT_TOL

#: What of the cross-products a response changes, by elimination; and what rows left out change too.
RESPONSE_LEAVES = {
    MomentBlocks: ("elimination.moments", "elimination.within"),
    Nested: ("elimination.columns", "elimination.within"),
    Crossed: ("elimination.columns", "elimination.cross_within", "elimination.within"),
}
SCALE_LEAVES = ("beta_ols", "scale", "start", "level_sums")
DESIGN_LEAVES = ("elimination.root", "elimination.count", "sum_log_weights", "n_obs")

#: The leaves that belong to a lane, by name.
Own = dict[str, Any]


class Lanes(NamedTuple):
    """A batch of data sets: what they share, and what each has of its own.

    Attributes
    ----------
    shared : CrossProducts
        Of any one of them.
    own : dict of Array
        Leaves that differ, by name, with the lanes' axis first.
    """

    shared: CrossProducts
    own: Own


def split_lane(data: CrossProducts, *, design: bool = False) -> Own:
    """What of a data set's cross-products is its own: of its response, or of its design too."""
    names = RESPONSE_LEAVES[type(data.elimination)] + SCALE_LEAVES
    if design:
        names += DESIGN_LEAVES
    return {name: attrgetter(name)(data) for name in names}


def join_lane(shared: CrossProducts, own: Own) -> CrossProducts:
    """The cross-products again."""
    head = "elimination."
    inner = {name.removeprefix(head): x for name, x in own.items() if name.startswith(head)}
    outer = {name: x for name, x in own.items() if not name.startswith(head)}
    return replace(shared, elimination=replace(shared.elimination, **inner), **outer)


def lanes_of_responses(prepared: Prepared, Y: Array) -> Own:
    """The lanes' own parts from their responses, shape (lanes, n)."""
    return jax.vmap(lambda y: split_lane(cross_products(prepared, y)))(Y)


def lanes_of_masked_responses(prepared: Prepared, Y: Array) -> Own:
    """The same where a response that is not there is NaN, and its row with it."""

    def lane(y: Array) -> Own:
        present = ~jnp.isnan(y)
        data = masked_cross_products(prepared, jnp.where(present, y, 0.0), present)
        return split_lane(data, design=True)

    return jax.vmap(lane)(Y)


def is_elementwise(data: CrossProducts) -> bool:
    """Whether a batch runs as one: no lane needs a library's factorisation of its own."""
    return is_moments_alone(data.elimination)


class LaneFits(NamedTuple):
    """Estimates of all lanes, and what is needed to go on with those that are not done.

    Attributes
    ----------
    estimate : Estimate
        With the lanes' axis first.
    radius : Array, shape (lanes,)
        Trust radius.
    running : Array of bool, shape (lanes,)
    """

    estimate: Estimate
    radius: Array
    running: Array


def fit_lanes(
    lanes: Lanes, start: Array, radius: Array, leave: Array, limit: Array, reml: bool = True
) -> LaneFits:
    """Fit a batch until no more than ``leave`` lanes are running, and infer.

    Parameters
    ----------
    lanes : Lanes
    start : Array, shape (lanes, n_theta)
        Search parameters to start from.
    radius : Array, shape (lanes,)
        Trust radius to start with.
    leave : Array, scalar int
        How many lanes may be left unfinished.
    limit : Array, scalar int
        Evaluations at most.
    reml : bool
    """
    if not is_elementwise(lanes.shared):
        return _fit_one_by_one(lanes, start, reml)

    def evaluate(theta: Array, own: Own) -> Any:
        return objective(theta, join_lane(lanes.shared, own), reml)

    one = (start[0], jax.tree.map(lambda x: x[0], lanes.own))
    shape = jax.eval_shape(evaluate, *one)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    _, unpack = ravel_pytree(zeros)
    nothing, _ = ravel_pytree(zeros._replace(value=jnp.full((), jnp.inf, start.dtype)))

    def step(state: Any, own: Own) -> Any:
        trial = evaluate(state.trial, own)
        noise = jnp.asarray(own.get("n_obs", lanes.shared.n_obs))
        new = newton_update(state, trial, unpack, noise=noise, tol=GRADIENT_TOL)
        running = state.status == RUNNING
        return jax.tree.map(lambda a, b: jnp.where(running, a, b), new, state)

    def unfinished(carry: tuple[Any, Array]) -> Array:
        state, count = carry
        return (jnp.sum(state.status == RUNNING) > leave) & (count < limit)

    state = jax.vmap(lambda t, r: initial_state(t, nothing, r))(start, radius)
    state, _ = lax.while_loop(
        unfinished,
        lambda c: (jax.vmap(step)(c[0], lanes.own), c[1] + 1),
        (state, jnp.zeros((), jnp.int32)),
    )

    def finish(s: Any, own: Own) -> Estimate:
        return infer(solution_of(s, unpack), join_lane(lanes.shared, own), reml)

    return LaneFits(jax.vmap(finish)(state, lanes.own), state.radius, state.status == RUNNING)


def _fit_one_by_one(lanes: Lanes, start: Array, reml: bool) -> LaneFits:
    """Lane after lane, each by the single fit, where factorisations do not batch."""

    def fit(lane: tuple[Own, Array]) -> Estimate:
        own, begin = lane
        return estimate(replace(join_lane(lanes.shared, own), start=begin), reml)

    fits = lax.map(fit, (lanes.own, start))
    zero = jnp.zeros(start.shape[0], start.dtype)
    return LaneFits(fits, zero, zero > 0)
