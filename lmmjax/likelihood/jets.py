"""Values with exact first and second derivatives in theta, and what follows from them in closed form.

Everything after the elimination (criterion, its gradient and Hessian, standard errors, degrees of freedom)
is a function of ``(log|V|, [X y]'V^-1[X y])`` and of their derivatives. So these are taken once, by forward-mode
automatic differentiation of the elimination, and the rest is a few products of p x p matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lmmjax.likelihood.crossproducts import CrossProducts, lambda_factors
from lmmjax.likelihood.dense import Reduced
from lmmjax.likelihood.smallblock import UNROLL, inverse_factor


class Jet(NamedTuple):
    """A pytree-valued function of theta with its derivatives (trailing axes: parameters)."""

    value: Any
    first: Any
    second: Any


class Objective(NamedTuple):
    """Criterion at one theta, up to a constant that does not depend on theta.

    Attributes
    ----------
    value : Array, scalar
    gradient : Array, shape (m,)
    hessian : Array, shape (m, m)
    aux : pytree
        Whatever else was found on the way and is wanted at the optimum.
    """

    value: Array
    gradient: Array
    hessian: Array
    aux: Any = ()


def jet(function: Callable[[Array], Any], theta: Array) -> Jet:
    """Value, Jacobian and Hessian of a pytree-valued function, forward over forward.

    For the few parameters of a covariance structure this makes a smaller graph, and so compiles and runs
    quicker, than reverse mode.
    """
    basis = jnp.eye(theta.shape[0], dtype=theta.dtype)

    def with_jacobian(t: Array) -> tuple[Any, Any]:
        return jax.vmap(
            lambda e: jax.jvp(function, (t,), (e,)), out_axes=(None, -1)
        )(basis)

    (value, first), (_, second) = jax.vmap(
        lambda e: jax.jvp(with_jacobian, (theta,), (e,)), out_axes=((None, None), (-1, -1))
    )(basis)
    return Jet(value, first, second)


def standardized_reduce(theta: Array, data: CrossProducts) -> Reduced:
    """Reduced cross-products at the search parameters, in standardised columns."""
    return data.elimination.reduce(lambda_factors(data.search_structures, theta))


def reduced_jet(theta: Array, data: CrossProducts) -> tuple[Jet, Jet]:
    """Derivatives of :class:`Reduced` in the search parameters: those of log|V|, and of the Gram matrix."""
    whole = jet(lambda t: standardized_reduce(t, data), theta)
    logdet, gram = (Jet(*parts) for parts in zip(*whole, strict=True))
    return logdet, gram


class FixedPart(NamedTuple):
    """Fixed effects at theta, on the orthonormal basis, with derivatives.

    Attributes
    ----------
    beta : Array, shape (p,)
    cov : Array, shape (p, p)
        ``(X'V^-1X)^-1``.
    cov_first : Array, shape (p, p, m)
    rss : Jet of scalar
        ``r**2``.
    logdet : Jet of scalar
        ``log|X'V^-1X|``.
    """

    beta: Array
    cov: Array
    cov_first: Array
    rss: Jet
    logdet: Jet


def symmetric_inverse(matrix: Array) -> tuple[Array, Array]:
    """Inverse and log-determinant of a small symmetric positive definite matrix."""
    if matrix.shape[0] <= UNROLL:
        half, logdet = inverse_factor(matrix)
    else:
        lower = jnp.linalg.cholesky(matrix)
        half = jax.scipy.linalg.solve_triangular(
            lower, jnp.eye(matrix.shape[0], dtype=matrix.dtype), lower=True
        )
        logdet = 2.0 * jnp.sum(jnp.log(jnp.diagonal(lower)))
    return half.T @ half, logdet


def fixed_part(gram: Jet) -> FixedPart:
    """Profile out beta from ``[X y]'V^-1[X y]`` and its derivatives."""
    p, m = gram.value.shape[0] - 1, gram.first.shape[-1]
    dtype = gram.value.dtype
    g1, g2 = jnp.moveaxis(gram.first, -1, 0), jnp.moveaxis(gram.second, (-2, -1), (0, 1))
    if p == 0:
        zero = Jet(jnp.zeros((), dtype), jnp.zeros(m, dtype), jnp.zeros((m, m), dtype))
        rss = Jet(gram.value[0, 0], g1[:, 0, 0], g2[..., 0, 0])
        return FixedPart(gram.value[:0, 0], gram.value[:0, :0], gram.first[:0, :0], rss, zero)
    cov, logdet = symmetric_inverse(gram.value[:p, :p])
    beta = cov @ gram.value[:p, p]
    # r^2 = v' G v with v = (-beta, 1);  G_XX beta = G_Xy makes its first derivative v' dG v
    v = jnp.concatenate([-beta, jnp.ones(1, dtype)])
    g1v = g1 @ v
    rss_first = g1v @ v
    toward = g1v[:, :p] @ cov
    rss_second = (g2 @ v) @ v - 2.0 * toward @ g1v[:, :p].T
    # log|G_XX|: tr(P dG), tr(P d2G) - tr(P dG P dG)
    moved = cov @ g1[:, :p, :p]
    flat = moved.reshape(m, p * p)
    flat_t = jnp.swapaxes(moved, 1, 2).reshape(m, p * p)
    logdet_first = jnp.trace(moved, axis1=1, axis2=2)
    logdet_second = g2[..., :p, :p].reshape(m, m, p * p) @ cov.reshape(-1) - flat @ flat_t.T
    return FixedPart(
        beta=beta,
        cov=cov,
        cov_first=-jnp.moveaxis(moved @ cov, 0, -1),
        rss=Jet(v @ gram.value @ v, rss_first, rss_second),
        logdet=Jet(logdet, logdet_first, logdet_second),
    )


def profiled_objective(logdet: Jet, gram: Jet, df: float, reml: bool) -> Objective:
    """Criterion in theta with beta and sigma profiled out, from the jets of the cross-products.

    ``aux`` holds ``(logdet, FixedPart)``.
    """
    fixed = fixed_part(gram)
    rss = fixed.rss
    share = rss.first / rss.value
    value = logdet.value + df * jnp.log(rss.value)
    gradient = logdet.first + df * share
    hessian = logdet.second + df * (rss.second / rss.value - share[:, None] * share[None, :])
    if reml:
        value = value + fixed.logdet.value
        gradient = gradient + fixed.logdet.first
        hessian = hessian + fixed.logdet.second
    return Objective(value, gradient, hessian, (logdet, fixed))
