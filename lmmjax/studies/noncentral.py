"""Power of t and F tests: noncentral distributions with real df, differentiable in all arguments.

With ``S = chi_nu / sqrt(nu)`` a noncentral t is ``(Z + delta) / S`` and a noncentral F is
``chi'^2_q(lambda) / (q S^2)``, so tail probabilities are means over S of those of the normal and of
the noncentral chi-squared distribution. The density of ``u = log S`` is proportional to
``exp(nu (u - exp(2 u) / 2))``: smooth, with one mode, and falling fast on both sides, for which the
trapezoidal rule converges exponentially. JAX's incomplete beta function has no derivative in the
degrees of freedom, which is why it is not used.

Far from the hypothesis the tail probability given S falls from 1 to 0 between two nodes, and the
means are over the numerator instead: ``(Z + delta)^2``, with ``chi^2_(q-1)`` added for F. That
needs JAX's incomplete gamma function, which can be differentiated once in its shape: there are
gradients in the df, and no second derivatives.

Power and its complement agree with mpmath to 1e-7 of themselves (the complement down to 1e-12) for
1 df or more, and to 1e-4 for half a df.

Source: Johnson, Kotz & Balakrishnan (1995), Continuous Univariate Distributions 2, chapters 30, 31.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import gammainc, gammaincc, gammaln, ndtr, ndtri
from scipy.special import roots_genlaguerre

#: Nodes of the rule over the chi distribution, of t and of F (whose every node has a series).
NODES = 1024
F_NODES = 512
#: Nodes lie where the density is above exp(-DEPTH) times its largest value.
DEPTH = 34.0
#: Terms of the noncentral chi-squared series.
TERMS = 512
#: Newton steps to a critical value.
STEPS = 40
#: Squared noncentrality from which means are over the numerator: with few df, with any.
FAR, FURTHER = 100.0, 600.0
FEW = 30.0
#: Gauss nodes of the numerator.
NORMAL_NODES = 96
CHI_NODES = 12


def chi_rule(df: Any, nodes: int = NODES) -> tuple[Array, Array]:
    """Nodes and weights for a mean over ``S = chi_df / sqrt(df)``; two arrays of shape (nodes,)."""
    df = jnp.asarray(df) * 1.0
    z = lax.stop_gradient(DEPTH / df)
    low = -(z + jnp.sqrt(z))
    high = 0.5 * jnp.log1p(2.0 * z + 3.0 * jnp.sqrt(z))
    share = np.linspace(0.0, 1.0, nodes)
    u = low + (high - low) * jnp.asarray(share, df.dtype)
    weight = jnp.exp(df * (u - 0.5 * jnp.expm1(2.0 * u)))
    return jnp.exp(u), weight / jnp.sum(weight)


@jax.jit
def t_tails(t: Any, df: Any, delta: Any = 0.0) -> tuple[Array, Array]:
    """``P(|T| > t)`` and ``P(|T| <= t)`` of a noncentral t.

    Parameters
    ----------
    t : float
        At least 0.
    df : float
        Degrees of freedom, above 0; need not be whole.
    delta : float
        Noncentrality.
    """
    t, df, delta = (jnp.asarray(x, jnp.result_type(float)) for x in (t, df, delta))
    # Symmetric in delta, whose derivative at 0 is 0.
    size = jnp.where(delta < 0, -delta, delta)

    def far(t: Array, df: Array, size: Array) -> tuple[Array, Array]:
        return _far_tails(t**2, 1, df, size)

    return lax.cond(_is_far(size**2, df), far, _near_t, t, df, size)


def _near_t(t: Array, df: Array, size: Array | float) -> tuple[Array, Array]:
    """Both tails, as means over S."""
    s, weight = chi_rule(df)
    cut = t * s
    outside = ndtr(size - cut) + ndtr(-size - cut)
    # The difference of two tails on the side of the smaller ones
    inside = ndtr(cut - size) - ndtr(-cut - size)
    return jnp.sum(weight * outside), jnp.sum(weight * inside)


@partial(jax.jit, static_argnames="q")
def f_tails(f: Any, q: int, df: Any, noncentrality: Any = 0.0) -> tuple[Array, Array]:
    """``P(F > f)`` and ``P(F <= f)`` of a noncentral F with ``q`` and ``df`` degrees of freedom.

    Notes
    -----
    The noncentral chi-squared distribution is a Poisson mixture of central ones; summed by parts,
    ``P(chi'^2 > 2 x) = Q(a, x) + sum_i x^(a+i) e^-x / Gamma(a+i+1) P(N > i)``, with ``a = q / 2``,
    Q the upper incomplete gamma function, and N Poisson with mean ``lambda / 2``.
    """
    f, df, size = (jnp.asarray(x, jnp.result_type(float)) for x in (f, df, noncentrality))

    def near(f: Array, df: Array, size: Array) -> tuple[Array, Array]:
        s, weight = chi_rule(df, F_NODES)
        x = 0.5 * q * f * s**2
        a = jnp.asarray(0.5 * q, x.dtype)
        i = jnp.arange(TERMS, dtype=x.dtype)
        terms = jnp.exp((a + i) * jnp.log(x[:, None]) - x[:, None] - gammaln(a + i + 1.0))
        # At a mean of exactly 0 the derivative of the incomplete gamma function is 0 log 0.
        mean = jnp.broadcast_to(0.5 * size + jnp.finfo(x.dtype).tiny, i.shape)
        more, fewer = gammainc(i + 1.0, mean), gammaincc(i + 1.0, mean)
        outside = gammaincc(jnp.broadcast_to(a, x.shape), x) + terms @ more
        # P(a, x) is the sum of all terms; those past the last one are P(a + TERMS, x).
        inside = terms @ fewer + gammainc(jnp.broadcast_to(a + TERMS, x.shape), x)
        return jnp.sum(weight * outside), jnp.sum(weight * inside)

    def far(f: Array, df: Array, size: Array) -> tuple[Array, Array]:
        # A vmap takes both branches, and their derivatives: no root of 0.
        return _far_tails(f, q, df, jnp.sqrt(jnp.maximum(size, FAR)))

    return lax.cond(_is_far(size, df), far, near, f, df, size)


def _is_far(noncentrality: Array, df: Array) -> Array:
    """Whether a mean over the numerator is the better one: it varies less than S."""
    return ((noncentrality > FAR) & (df < FEW)) | (noncentrality > FURTHER)


def _far_tails(f: Array, q: int, df: Array, delta: Array) -> tuple[Array, Array]:
    """Both tails of F for a large noncentrality ``delta^2``: means over ``(Z + delta)^2 + chi^2``.

    ``chi'^2 / (q S^2) > f`` where ``df S^2 / 2``, a gamma variable, is below
    ``df chi'^2 / (2 q f)``.
    """
    z, weight = np.polynomial.hermite_e.hermegauss(NORMAL_NODES)
    rest = np.zeros(1)
    if q > 1:
        half, share = roots_genlaguerre(CHI_NODES, 0.5 * (q - 1) - 1.0)
        rest, weight = 2.0 * half, np.outer(weight, share).ravel()
    top = ((z + delta) ** 2)[:, None] + rest
    x = 0.5 * df / (q * f) * top.ravel()
    shape = jnp.broadcast_to(0.5 * df, x.shape)
    weight = weight / weight.sum()
    return jnp.sum(weight * gammainc(shape, x)), jnp.sum(weight * gammaincc(shape, x))


@jax.jit
def t_critical(alpha: Any, df: Any) -> Array:
    """Two-sided critical value of Student's t: ``P(|T| > t) = alpha``."""
    alpha, df = (jnp.asarray(x, jnp.result_type(float)) for x in (alpha, df))
    # That of infinite df
    start = -ndtri(0.5 * alpha)
    return jnp.exp(_log_critical(lambda t, df: _near_t(t, df, 0.0)[0], alpha, df, start))


@partial(jax.jit, static_argnames="q")
def f_critical(alpha: Any, q: int, df: Any) -> Array:
    """Critical value of an F test: ``P(F > f) = alpha``."""
    alpha, df = (jnp.asarray(x, jnp.result_type(float)) for x in (alpha, df))
    a = 0.5 * q

    def tail(f: Array, df: Array) -> Array:
        s, weight = chi_rule(df, F_NODES)
        x = a * f * s**2
        return jnp.sum(weight * gammaincc(jnp.full(x.shape, a, x.dtype), x))

    # Wilson & Hilferty's for infinite df
    c = 2.0 / (9.0 * q)
    start = (1.0 - c - jnp.sqrt(c) * ndtri(alpha)) ** 3
    return jnp.exp(_log_critical(tail, alpha, df, jnp.maximum(start, 1e-3)))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_critical(
    tail: Callable[[Array, Array], Array], alpha: Array, df: Array, start: Array
) -> Array:
    """Logarithm of the point where ``tail`` is ``alpha``.

    By Newton's method for the tail's logarithm against that of t or F, which is concave and
    falling: from a start on the left the first step passes the root, and those after it come back
    without passing it again.
    """

    def log_tail(x: Array) -> Array:
        return jnp.log(tail(jnp.exp(x), df))

    def step(_: Any, x: Array) -> Array:
        value, slope = jax.jvp(log_tail, (x,), (jnp.ones_like(x),))
        return x - (value - jnp.log(alpha)) / slope

    return lax.fori_loop(0, STEPS, step, jnp.log(start))


@_log_critical.defjvp
def _derivative_of_log_critical(tail: Any, primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Of the implicit function: a loop could not be differentiated backwards."""
    alpha, df, start = primals
    x = _log_critical(tail, alpha, df, start)

    def log_tail(x: Array, df: Array) -> Array:
        return jnp.log(tail(jnp.exp(x), df))

    _, slope = jax.jvp(lambda x: log_tail(x, df), (x,), (jnp.ones_like(x),))
    _, moved = jax.jvp(lambda df: log_tail(x, df), (df,), tangents[1:2])
    return x, (tangents[0] / alpha - moved) / slope


@jax.jit
def t_power(alpha: Any, df: Any, delta: Any) -> tuple[Array, Array]:
    """Power of a two-sided t test, and one minus it.

    Parameters
    ----------
    alpha : float
        Level.
    df : float
    delta : float
        Effect in standard errors.

    Examples
    --------
    >>> import lmmjax as lj
    >>> from lmmjax.studies.noncentral import t_power
    >>> with lj.double_precision():
    ...     print(f"{t_power(0.05, 18.0, 3.0)[0]:.6f}")
    0.809707
    """
    return t_tails(t_critical(alpha, df), df, delta)


@partial(jax.jit, static_argnames="q")
def f_power(alpha: Any, q: int, df: Any, noncentrality: Any) -> tuple[Array, Array]:
    """Power of an F test with ``q`` numerator df, and one minus it."""
    return f_tails(f_critical(alpha, q, df), q, df, noncentrality)
