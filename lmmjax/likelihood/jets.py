"""The criterion with its exact gradient and Hessian in theta, from those of the elimination.

Everything after the elimination (criterion, its gradient and Hessian, standard errors, degrees of
freedom) is a function of ``(log|V|, [X y]'V^-1[X y])`` and of their derivatives. So these are
taken once, by forward-mode automatic differentiation of the elimination, and the rest is a few
products of p x p matrices.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.crossed_jet import crossed_jet
from lmmjax.likelihood.crossproducts import CrossProducts, lambda_factors
from lmmjax.likelihood.dense import Reduced
from lmmjax.likelihood.deviance import solve_fixed
from lmmjax.likelihood.jet import Jet, jet
from lmmjax.likelihood.moments import MomentBlocks
from lmmjax.likelihood.moments_jet import moments_jet
from lmmjax.likelihood.products import matmul
from lmmjax.likelihood.smallblock import UNROLL


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


def standardized_reduce(theta: Array, data: CrossProducts) -> Reduced:
    """Reduced cross-products at the search parameters, in standardised columns."""
    return data.elimination.reduce(lambda_factors(data.search_structures, theta))


def reduced_jet(theta: Array, data: CrossProducts) -> tuple[Jet, Jet]:
    """Derivatives of log|V| and of the Gram matrix, in the search parameters."""
    if isinstance(data.elimination, Crossed):
        return crossed_jet(data.elimination, data.search_structures, theta)
    if (
        isinstance(data.elimination, MomentBlocks)
        and not data.elimination.rest_levels
        and data.elimination.root.shape[0] > UNROLL
    ):
        return moments_jet(data.elimination, data.search_structures[0], theta)
    whole = jet(lambda t: standardized_reduce(t, data), theta)
    logdet, gram = (Jet(*parts) for parts in zip(*whole, strict=True))
    return logdet, gram


class FixedPart(NamedTuple):
    """Beta and sigma profiled out at theta, with what first and second derivatives need.

    With ``G = [X y]'V^-1[X y]``, ``G_XX = L L'`` and ``s = sqrt(df) / r``, the congruence

        M = [[L^-1, 0], [-s beta', s]],    M G M' = diag(I, df)

    makes every derivative of log|G_XX| and of df log r^2 a sum over entries of ``M dG M'``.

    Attributes
    ----------
    beta : Array, shape (p,)
    half : Array, shape (p, p)
        ``L^-1``; ``(X'V^-1X)^-1 = half.T @ half``.
    rss : Array, scalar
        ``r^2``.
    logdet : Array, scalar
        ``log|G_XX|``.
    first : Array, shape (m, p + 1, p + 1)
        ``M G_i M'``.
    second : Array, shape (m, m, p + 1), or None
        Diagonal of ``M G_ij M'``, where second derivatives were asked for.
    """

    beta: Array
    half: Array
    rss: Array
    logdet: Array
    first: Array
    second: Array | None


def fixed_part(gram: Jet, df: float | Array) -> FixedPart:
    """Profile out beta and sigma from the cross-products and their derivatives."""
    p = gram.value.shape[0] - 1
    dtype = gram.value.dtype
    beta, half, rss, logdet = solve_fixed(gram.value)
    s = jnp.sqrt(df / rss)
    top = jnp.concatenate([half, jnp.zeros((p, 1), dtype)], axis=1)
    congruence = jnp.concatenate([top, jnp.concatenate([-s * beta, s[None]])[None, :]])
    first = matmul(matmul(congruence, jnp.moveaxis(gram.first, -1, 0)), congruence.T)
    second = None
    if gram.second is not None:
        right = matmul(jnp.moveaxis(gram.second, (-2, -1), (0, 1)), congruence.T)
        second = jnp.sum(congruence.T * right, axis=-2)
    return FixedPart(beta, half, rss, logdet, first, second)


def _profiled_gradient(
    logdet: Jet, fixed: FixedPart, df: float | Array, reml: bool
) -> tuple[Array, Array]:
    value = logdet.value + df * jnp.log(fixed.rss)
    if reml:
        value = value + fixed.logdet
    # d df log r^2 = (M dG M')_yy;   d log|G_XX| = tr (M dG M')_XX
    diagonals = jnp.diagonal(fixed.first, axis1=1, axis2=2)
    return value, logdet.first + matmul(diagonals, _linear(fixed, reml))


def _linear(fixed: FixedPart, reml: bool) -> Array:
    p = fixed.beta.shape[0]
    return jnp.asarray(np.append(np.full(p, float(reml)), 1.0), fixed.first.dtype)


def profiled_gradient(logdet: Jet, gram: Jet, df: float | Array, reml: bool) -> tuple[Array, Array]:
    """Criterion and gradient with beta and sigma profiled out, from first derivatives alone."""
    return _profiled_gradient(logdet, fixed_part(gram, df), df, reml)


def profiled_objective(logdet: Jet, gram: Jet, df: float | Array, reml: bool) -> Objective:
    """Criterion in theta with beta and sigma profiled out, from the jets of the cross-products.

    ``aux`` holds ``(logdet, FixedPart)``.
    """
    fixed = fixed_part(gram, df)
    value, gradient = _profiled_gradient(logdet, fixed, df, reml)
    p, m = fixed.beta.shape[0], logdet.first.shape[0]
    # With G_i for M G_i M':
    # d2 log|G_XX| = tr G_ij,XX - tr G_i,XX G_j,XX
    # df d2 log r^2 = G_ij,yy - 2 G_i,yX G_j,Xy - G_i,yy G_j,yy / df
    assert fixed.second is not None
    weight = np.full((p + 1, p + 1), float(reml))
    weight[p, :] = weight[:, p] = 1.0
    weight[p, p] = 0.0
    flat = fixed.first.reshape(m, -1)
    hessian = (
        logdet.second
        + matmul(fixed.second, _linear(fixed, reml))
        - matmul(flat * jnp.asarray(weight.reshape(-1), flat.dtype), flat.T)
        - fixed.first[:, None, p, p] * fixed.first[None, :, p, p] / df
    )
    return Objective(value, gradient, hessian, (logdet, fixed))
