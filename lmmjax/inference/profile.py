"""Profile likelihood: constrained fits along one parameter, as one pure function of arrays.

A *lane* is one parameter followed in one direction from the maximum likelihood estimate. At each of
its points the parameter is held at a value and all others are at their optimum, found by Newton's
method with exact derivatives from the point before. All lanes go in step, in one batched call.

The deviance is a function of relative factors Lambda and ``tau = log sigma``, beta profiled out,

    d(theta, tau) = log|V| + r^2(theta) exp(-2 tau) + 2 n tau,

and a constraint is built in, not added: Lambda's rows are put in an order in which a standard
deviation is its first pivot times sigma, and a correlation the cosine of its first two rows; beta_j
at a value takes its column out of X and into the response.

Source: Bates & Watts (1988), Nonlinear Regression Analysis and Its Applications, chapter 6, for
profile traces and zeta; lme4's ``profile`` for their scales.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from lmmjax.covariance import Covariance
from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.crossed_jet import crossed_jet
from lmmjax.likelihood.crossproducts import CrossProducts
from lmmjax.likelihood.deviance import solve_fixed
from lmmjax.likelihood.jet import Jet, jet
from lmmjax.likelihood.moments import MomentBlocks
from lmmjax.likelihood.moments_jet import moments_jet
from lmmjax.likelihood.smallblock import UNROLL

#: What a lane follows.
SIGMA, SD, CORRELATION, COEFFICIENT = range(4)
MAX_ITERATIONS = 60


class Placed(Covariance):
    """``Lambda`` linear in theta: ``placement @ theta``, with a traced placement, (k, k, m)."""

    def __init__(self, placement: Array) -> None:
        object.__setattr__(self, "size", placement.shape[0])
        object.__setattr__(self, "placement", placement)

    @property
    def n_theta(self) -> int:
        """Number of parameters."""
        return self.placement.shape[2]  # type: ignore[attr-defined]

    def factor(self, theta: Array) -> Array:
        """``Lambda`` of theta."""
        # Not a product of matrices: XLA fuses a sum of few terms with what follows.
        return jnp.sum(self.placement * theta, axis=-1)  # type: ignore[attr-defined]


class Lane(NamedTuple):
    """One parameter in one direction; m covariance parameters, p coefficients.

    Attributes
    ----------
    kind : Array, scalar int
        ``SIGMA``, ``SD``, ``CORRELATION`` or ``COEFFICIENT``.
    placement : tuple of Array, each (k_t, k_t, m_t)
        Standardised ``Lambda_t = placement @ theta_t``.
    pivots : Array, shape (3, m)
        One-hot rows: where the first pivot is (SD, CORRELATION), and the two entries of the second
        row (CORRELATION); zero rows where there is no such thing.
    design, moving : Array, shape (p + 1, p + 1)
        ``[X y]`` under the constraint is ``[X y] (design + t moving)``, on the orthonormal basis.
    dummy : Array, shape (p + 1,)
        1 for a column that the constraint took out.
    center : Array, scalar
        ``t = (value - center) / scale``.
    start : Array, shape (m + 1,)
        Free parameters at the estimate: theta (square roots of the two standard deviations for a
        correlation) and tau.
    others : Array, shape (s, m + 1)
        The same at other optima of the criterion, of which there mostly are none.
    nudge : Array, shape (m + 1,)
        Added before each search: it keeps the search off saddles at zero variances.
    value : Array, scalar
        The estimate, in units of the data.
    step : Array, scalar
        First step, signed.
    lower, upper : Array, scalar
        Range of the parameter.
    """

    kind: Array
    placement: tuple[Array, ...]
    pivots: Array
    design: Array
    moving: Array
    dummy: Array
    center: Array
    start: Array
    others: Array
    nudge: Array
    value: Array
    step: Array
    lower: Array
    upper: Array


class Point(NamedTuple):
    """A constrained optimum.

    Attributes
    ----------
    value : Array, scalar
        Of the parameter.
    zeta : Array, scalar
        Signed root of the deviance's increase.
    slope : Array, scalar
        d value / d zeta.
    theta : Array, shape (m,)
        As the lane places them.
    tau : Array, scalar
        ``log(sigma / scale)``.
    gamma : Array, shape (p,)
        Coefficients on the orthonormal basis, in units of the scale.
    decrement : Array, scalar
        By how much, to second order, the deviance could still fall.
    """

    value: Array
    zeta: Array
    slope: Array
    theta: Array
    tau: Array
    gamma: Array
    decrement: Array


class _Value(NamedTuple):
    """The constrained deviance at free parameters x."""

    deviance: Array
    gradient: Array
    hessian: Array
    by_value: Array
    full: Array
    gamma: Array


def _jets(theta: Array, placement: tuple[Array, ...], data: CrossProducts) -> tuple[Jet, Jet]:
    structures = tuple((Placed(each),) for each in placement)
    engine = data.elimination
    if isinstance(engine, Crossed):
        return crossed_jet(engine, structures, theta)
    if (
        isinstance(engine, MomentBlocks)
        and not engine.rest_levels
        and engine.root.shape[0] > UNROLL
    ):
        return moments_jet(engine, structures[0], theta)
    edges = np.cumsum([0, *(each.shape[2] for each in placement)])

    def reduce(at: Array) -> tuple[Array, Array]:
        parts = [at[a:b] for a, b in pairwise(edges)]
        factors = [bars[0].factor(x) for bars, x in zip(structures, parts, strict=True)]
        return tuple(engine.reduce(tuple(factors)))  # type: ignore[return-value]

    whole = jet(reduce, theta)
    logdet, gram = (Jet(*parts) for parts in zip(*whole, strict=True))
    return logdet, gram


def _free_to_full(x: Array, value: Array, lane: Lane, scale: Array) -> Array:
    """``(theta, tau)`` of the free parameters, under the constraint."""
    theta, tau = x[:-1], x[-1]
    first, cosine, sine = lane.pivots
    held = jnp.log(jnp.where(lane.kind == SIGMA, value, scale) / scale)
    tau = jnp.where(lane.kind == SIGMA, held, tau)
    sd = jnp.where(lane.kind == SD, value, 0.0) / scale * jnp.exp(-tau)
    rho = jnp.where(lane.kind == CORRELATION, value, 0.0)
    # Squares: a standard deviation of zero is then a minimum like any other.
    a, b = (first @ theta) ** 2, (sine @ theta) ** 2
    is_sd = (lane.kind == SD).astype(x.dtype)
    pivot = is_sd * sd + (1.0 - is_sd) * a
    kept = theta * (1.0 - first - cosine - sine)
    root = jnp.sqrt(jnp.maximum((1.0 - rho) * (1.0 + rho), 0.0))
    theta = kept + first * pivot + cosine * (b * rho) + sine * (b * root)
    return jnp.append(theta, tau)


def _evaluate(x: Array, value: Array, lane: Lane, data: CrossProducts) -> _Value:
    n, m = data.n_obs, x.shape[0] - 1
    change = jet(lambda at: _free_to_full(at, value, lane, jnp.asarray(data.scale)), x)
    theta, tau = change.value[:m], change.value[m]
    logdet, gram = _jets(theta, lane.placement, data)

    # beta profiled out under the constraint; only r^2 and its derivatives are wanted.
    t = jnp.where(lane.kind == COEFFICIENT, (value - lane.center) / data.scale, 0.0)
    design = lane.design + t * lane.moving
    constrained = design.T @ gram.value @ design + jnp.diag(lane.dummy)
    beta, half, _, _ = solve_fixed(constrained)
    residual = jnp.append(-beta, 1.0)
    u = design @ residual
    fitted = gram.value @ u
    moved = jnp.einsum("abi,b->ai", gram.first, u)
    cross = half @ (design[:, :-1].T @ moved)
    rss = u @ fitted
    rss_first = u @ moved
    rss_second = jnp.einsum("abij,a,b->ij", gram.second, u, u) - 2.0 * cross.T @ cross

    share = jnp.exp(-2.0 * tau)
    deviance = logdet.value + share * rss + 2.0 * n * tau
    gradient = jnp.append(logdet.first + share * rss_first, 2.0 * n - 2.0 * share * rss)
    corner = jnp.append(-2.0 * share * rss_first, 4.0 * share * rss)
    hessian = jnp.concatenate([logdet.second + share * rss_second, corner[None, :m]])
    hessian = jnp.concatenate([hessian, corner[:, None]], axis=1)

    # d deviance / d value with x held: by the envelope theorem, that of the profile.
    _, cosine, sine = lane.pivots
    b = (sine @ x[:m]) ** 2
    root = jnp.sqrt(jnp.maximum((1.0 - value) * (1.0 + value), 0.0))
    at_bound = root < 1e-6
    # The deviance is even in the sine: its derivative over the sine stays finite at +-1.
    by_sine = jnp.where(
        at_bound,
        b * (sine @ hessian[:m, :m] @ sine),
        (sine @ gradient[:m]) / jnp.where(at_bound, 1.0, root),
    )
    by_value = jnp.stack(
        [
            gradient[m] / jnp.where(lane.kind == SIGMA, value, 1.0),
            (lane.pivots[0] @ gradient[:m]) * jnp.exp(-tau) / data.scale,
            b * (cosine @ gradient[:m]) - b * value * by_sine,
            2.0 * share * ((lane.moving @ residual) @ fitted) / data.scale,
        ]
    )[lane.kind]

    free = 1.0 - _held(lane)
    by_free = (gradient @ change.first) * free
    curved = change.first.T @ hessian @ change.first + jnp.einsum(
        "a,aij->ij", gradient, change.second
    )
    curved = curved * free[:, None] * free[None, :] + jnp.diag(1.0 - free)
    return _Value(deviance, by_free, curved, by_value, change.value, -u[:-1])


def _held(lane: Lane) -> Array:
    """1 where a coordinate of x is what the constraint sets."""
    first, cosine, _ = lane.pivots
    is_sd = (lane.kind == SD).astype(lane.start.dtype)
    theta = is_sd * first + cosine
    return jnp.append(theta, (lane.kind == SIGMA).astype(lane.start.dtype))


def damped_step(hessian: Array, gradient: Array, damping: Array) -> tuple[Array, Array]:
    """Newton step with damping, downhill where the Hessian is not positive definite too.

    Pivots of the elimination enter by their absolute values. Written out, without LAPACK: under
    ``vmap`` it is elementwise work.

    Returns
    -------
    step : Array, shape (k,)
    decrement : Array, scalar
        The decrease that the damped quadratic promises.
    """
    size = gradient.shape[0]
    diagonal = jnp.abs(jnp.diagonal(hessian))
    scale = jnp.sqrt(jnp.maximum(diagonal, 1e-10 * jnp.max(diagonal)))
    A = hessian / (scale[:, None] * scale[None, :]) + damping * jnp.eye(size, dtype=scale.dtype)
    b = gradient / scale
    places = np.arange(size)
    pivots, ratios = [], []
    for j in range(size):
        pivot = jnp.maximum(jnp.abs(A[j, j]), 1e-9)
        ratio = jnp.where(places > j, A[:, j] / pivot, 0.0)
        b = b - ratio * b[j]
        A = A - ratio[:, None] * A[j][None, :]
        pivots.append(pivot)
        ratios.append(ratio)
    y = b / jnp.stack(pivots)
    decrement = 0.5 * jnp.sum(b * y)
    for j in reversed(range(size)):
        y = y.at[j].add(-(ratios[j] @ y))
    return -y / scale, decrement


class _Search(NamedTuple):
    x: Array
    best: _Value
    trial: Array
    decrement: Array
    damping: Array
    iterations: Array
    done: Array


def constrained_fit(
    x: Array, value: Array, lane: Lane, data: CrossProducts
) -> tuple[Array, _Value, Array]:
    """The optimum with the lane's parameter held at a value.

    Returns
    -------
    x : Array, shape (m + 1,)
    best : _Value
    decrement : Array, scalar
    """
    shape = jax.eval_shape(lambda at: _evaluate(at, value, lane, data), x)
    eps = jnp.finfo(x.dtype).eps
    zero = jnp.zeros((), x.dtype)

    def body(state: _Search) -> _Search:
        new = _evaluate(state.trial, value, lane, data)
        slack = 8.0 * eps * (jnp.abs(new.deviance) + data.n_obs)
        finite = jnp.isfinite(new.deviance) & jnp.all(jnp.isfinite(new.hessian))
        first = state.iterations == 0
        better = new.deviance <= state.best.deviance + jnp.where(state.decrement < 1e-6, slack, 0.0)
        accept = first | (finite & better)
        best = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state.best)
        moved = jnp.where(accept, state.trial, state.x)
        relaxed = jnp.where(state.damping < 1e-3, 0.0, 0.1 * state.damping)
        damping = jnp.where(accept, relaxed, jnp.maximum(8.0 * state.damping, 1e-2))
        step, decrement = damped_step(best.hessian, best.gradient, damping)
        done = (decrement <= 0.5 * slack) | (damping > 1e9) | (first & ~finite)
        return _Search(moved, best, moved + step, decrement, damping, state.iterations + 1, done)

    start = _Search(
        x,
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape),
        x,
        jnp.full((), jnp.inf, x.dtype),
        zero,
        jnp.zeros((), jnp.int32),
        jnp.zeros((), bool),
    )
    end = lax.while_loop(lambda s: ~s.done & (s.iterations < MAX_ITERATIONS), body, start)
    return end.x, end.best, end.decrement


def best_constrained_fit(
    starts: Array, value: Array, lane: Lane, data: CrossProducts
) -> tuple[Array, _Value, Array]:
    """The best of the optima found from several starts, shape (s, m + 1).

    Returns
    -------
    x : Array, shape (s, m + 1)
        Where each ended.
    best : _Value
        Of the lowest deviance.
    decrement : Array, scalar
    """
    if starts.shape[0] == 1:
        x, best, decrement = constrained_fit(starts[0], value, lane, data)
        return x[None], best, decrement
    x, ends, decrements = lax.map(lambda at: constrained_fit(at, value, lane, data), starts)
    chosen = jnp.argmin(jnp.where(jnp.isnan(ends.deviance), jnp.inf, ends.deviance))
    return x, jax.tree.map(lambda leaf: leaf[chosen], ends), decrements[chosen]


class _Place(NamedTuple):
    # Of the path from each optimum, (s, m + 1).
    x: Array
    value: Array
    zeta: Array


def trace(lane: Lane, data: CrossProducts, base: Array, targets: Array) -> Point:
    """Follow a lane: a first small step, then to each target of ``|zeta|`` in turn.

    Where the criterion has other optima, a path starts at each, and the lowest counts.

    Parameters
    ----------
    lane : Lane
    data : CrossProducts
    base : Array, scalar
        Deviance of the maximum likelihood fit, as :func:`deviance_constant` counts it.
    targets : Array, shape (s,)
        Where the following points should be; the last one is not gone to.

    Returns
    -------
    Point
        Each leaf with a leading axis of length s.
    """
    sign = jnp.sign(lane.step)

    def go(carry: tuple[_Place, Array, Array], target: Array) -> tuple[tuple, Point]:
        last, value, x = carry
        x, best, decrement = best_constrained_fit(x + lane.nudge, value, lane, data)
        rise = jnp.maximum(best.deviance - base, 0.0)
        zeta = jnp.where(jnp.isnan(best.deviance), jnp.nan, sign * jnp.sqrt(rise))
        slope = 2.0 * zeta / jnp.where(best.by_value == 0.0, jnp.nan, best.by_value)
        point = Point(value, zeta, slope, best.full[:-1], best.full[-1], best.gamma, decrement)
        # Second order: from the slope here and the secant through the point before.
        width = zeta - last.zeta
        known = jnp.abs(width) > 1e-4
        secant = (value - last.value) / jnp.where(known, width, 1.0)
        bend = jnp.where(known, (slope - secant) / jnp.where(known, width, 1.0), 0.0)
        ahead = sign * target - zeta
        straight = slope * ahead
        half = 0.5 * jnp.abs(straight)
        move = straight + jnp.clip(bend * ahead**2, -half, half)
        # Where the profile is flat (it is where another variance has gone to zero), go on.
        way = value - last.value
        most = 4.0 * jnp.maximum(jnp.abs(way), jnp.abs(lane.step))
        rising = jnp.isfinite(move) & (slope > 0.0)
        move = jnp.where(rising, jnp.clip(move, -most, most), sign * most)
        # Never past the estimate, to the other direction's side.
        following = lane.value + sign * jnp.maximum(sign * (value + move - lane.value), 0.0)
        following = jnp.clip(following, lane.lower, lane.upper)
        far = jnp.abs(way) > 1e-9 * (jnp.abs(value) + jnp.abs(last.value))
        ratio = jnp.where(far, (following - value) / jnp.where(far, way, 1.0), 0.0)
        ratio = jnp.clip(ratio, -1.0, 4.0)
        # A wild guess costs more than none.
        guess = x + ratio * (x - last.x)
        return (_Place(x, value, zeta), following, guess), point

    starts = jnp.concatenate([lane.start[None], lane.others])
    start = _Place(starts, lane.value, jnp.zeros((), lane.start.dtype))
    first = jnp.clip(lane.value + lane.step, lane.lower, lane.upper)
    _, points = lax.scan(go, (start, first, starts), targets)
    return points


def profile_lanes(
    lanes: Lane, data: CrossProducts, base: Array, targets: Array, *, in_turn: bool
) -> Point:
    """All lanes (leading axis) to all targets; in one batch, or one after the other.

    Where an evaluation ends in a dense factor, lanes go in turn: a batch would save nothing, and
    batched LAPACK calls may wait for each other forever (jaxlib 0.10.2).
    """

    def one(lane: Lane) -> Point:
        return trace(lane, data, base, targets)

    return lax.map(one, lanes) if in_turn else jax.vmap(one)(lanes)
