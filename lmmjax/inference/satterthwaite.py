"""Satterthwaite degrees of freedom from the exact Hessian.

Parameters are ``(theta, sigma)`` with sigma not profiled,

    d = log|A| + r^2 / sigma^2 + n log(2 pi sigma^2),

and ``log|R_X|^2 - p log(2 pi sigma^2)`` more under REML. Their covariance is ``C = 2 H^+``, H the
Hessian of d. For a contrast l, ``df = 2 (l'Vl)^2 / (g'Cg)``, g the gradient of ``l'V l`` in
``(theta, sigma)``.

Source: Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13), section 2; lmerTest's
definitions, with exact derivatives in place of finite differences.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from lmmjax.likelihood.jacobi import symmetric_eigen
from lmmjax.likelihood.jets import FixedPart, Jet
from lmmjax.likelihood.products import matmul
from lmmjax.optimize.newton import LARGE_RATIO

#: Eigenvalues of the Hessian at or below this are dropped from its inverse (lmerTest's rule).
HESSIAN_TOL = 1e-8
#: Change of a variance along a direction left out, relative to it, above which it has no df.
FREE_TOL = 1e-6


class FixedInference(NamedTuple):
    """Covariance of the fixed effects, and how it moves with the variance parameters.

    Attributes
    ----------
    beta : Array, shape (p,)
    vcov : Array, shape (p, p)
    root : Array, shape (p, p)
        ``vcov = root' root``. Variances of contrasts come from it: where a predictor's origin is
        far away, ``L vcov L'`` would cancel twice the digits that ``L root'`` does.
    inner : Array, shape (m, p, p)
        The derivatives of ``vcov`` in theta are ``-root' inner_i root``; that in sigma is
        ``2 vcov / sigma``.
    parameter_cov : Array, shape (m + 1, m + 1)
        Asymptotic covariance of (theta, sigma), ``2 H^+``.
    hessian : Array, shape (m + 1, m + 1)
        Hessian of the criterion in (theta, sigma).
    dropped : Array, scalar int
        Number of directions left out of ``H^+``.
    free : Array, shape (m + 1, m + 1)
        Those directions of (theta, sigma), as columns; zero columns for the others.
    sigma : Array, scalar
    """

    beta: Array
    vcov: Array
    root: Array
    inner: Array
    parameter_cov: Array
    hessian: Array
    dropped: Array
    free: Array
    sigma: Array


def fixed_inference(
    theta: Array,
    logdet: Jet,
    fixed: FixedPart,
    *,
    df: float | Array,
    reml: bool,
    back: Array,
    beta_ols: Array,
    scale: Array,
) -> FixedInference:
    """Everything that tests of fixed effects need, in the units of the data.

    Parameters
    ----------
    theta : Array, shape (m,)
        The solution, in the search parameters.
    logdet : Jet
        ``log|A|`` in theta.
    fixed : FixedPart
    df : float
        n, or n - p under REML.
    reml : bool
    back : Array, shape (p, p)
        ``R^-1``: from coefficients on the orthonormal basis to those of X.
    beta_ols : Array, shape (p,)
    scale : Array, scalar
        Units of y.
    """
    p = fixed.beta.shape[0]
    sigma2 = fixed.rss / df
    sigma = jnp.sqrt(sigma2)
    # r^2 / sigma^2 has the derivatives (M G_i M')_yy
    # and (M G_ij M')_yy - 2 (M G_i M')_yX (M G_j M')_Xy.
    assert fixed.second is not None
    cross = fixed.first[:, p, :p]
    theta_theta = logdet.second + fixed.second[..., p] - 2.0 * matmul(cross, cross.T)
    if reml:
        block = fixed.first[:, :p, :p].reshape(cross.shape[0], p * p)
        theta_theta = theta_theta + jnp.sum(fixed.second[..., :p], axis=-1) - matmul(block, block.T)
    theta_sigma = -2.0 * fixed.first[:, p, p] / sigma
    sigma_sigma = 4.0 * df / sigma2
    hessian = jnp.block(
        [[theta_theta, theta_sigma[:, None]], [theta_sigma[None, :], sigma_sigma[None, None]]]
    )
    # Where ratios are large in their logarithms and sigma's: beside a sigma far below the spread of
    # the response curvatures of theta would be lost in rounding. Elsewhere in lmerTest's
    # coordinates, on which the inverse depends where directions are left out.
    ratio = jnp.abs(theta)
    logarithms = jnp.concatenate([jnp.maximum(1.0, ratio), sigma[None]])
    size = jnp.where(jnp.max(ratio, initial=0.0) > LARGE_RATIO, logarithms, 1.0)
    values, vectors = symmetric_eigen(size[:, None] * hessian * size)
    kept = values > HESSIAN_TOL
    inverse = jnp.where(kept, 1.0 / jnp.where(kept, values, 1.0), 0.0)
    # What is only rounding in a direction has no part in it.
    free = jnp.where(kept | (jnp.abs(vectors) < FREE_TOL), 0.0, vectors)
    parameter_cov = 2.0 * matmul(vectors * inverse, vectors.T) * size[:, None] * size
    free = size[:, None] * free
    # vcov = sigma^2 (X'V^-1X)^-1 = sigma^2 L^-T L^-1, mapped to the columns of X;
    # vcov_i = -sigma^2 L^-T (M G_i M')_XX L^-1
    half = scale * sigma * matmul(fixed.half, back.T)
    vcov = matmul(half.T, half)
    # sigma in the units of y
    unit = jnp.ones(hessian.shape[0], hessian.dtype).at[-1].set(scale)
    return FixedInference(
        beta=beta_ols + scale * matmul(back, fixed.beta),
        vcov=vcov,
        root=half,
        inner=fixed.first[:, :p, :p],
        parameter_cov=parameter_cov * unit[:, None] * unit[None, :],
        hessian=hessian / (unit[:, None] * unit[None, :]),
        dropped=jnp.sum(~kept).astype(jnp.int32),
        free=free * unit[:, None],
        sigma=sigma * scale,
    )


def satterthwaite_df(contrasts: Array, inference: FixedInference) -> Array:
    """Degrees of freedom of each row of ``contrasts``, shape (q, p); result shape (q,).

    NaN for a contrast whose variance depends on a direction that the data do not determine.
    """
    moved = matmul(contrasts, inference.root.T)
    variance = jnp.sum(moved * moved, axis=-1)
    by_theta = -jnp.sum(matmul(moved, inference.inner) * moved, axis=-1)
    by_sigma = (2.0 / inference.sigma) * variance
    gradient = jnp.concatenate([by_theta, by_sigma[None]]).T
    spread = jnp.sum(matmul(gradient, inference.parameter_cov) * gradient, axis=-1)
    moved = jnp.max(jnp.abs(matmul(gradient, inference.free)), axis=-1)
    return jnp.where(moved > FREE_TOL * variance, jnp.nan, 2.0 * variance**2 / spread)
