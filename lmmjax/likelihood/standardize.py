"""Centre and scale before squaring: columns on a common scale, and the way back.

The fit must not depend on the units or the origin of any column. X is replaced by an orthonormal
basis, y by its scaled least-squares residual, and each term's columns by ``Z_s = Z T^-1`` with
``T`` as general as the term's covariance structure absorbs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.covariance import Covariance, qr_triangle
from lmmjax.errors import DataError
from lmmjax.likelihood.products import matmul
from lmmjax.likelihood.pytree import register
from lmmjax.likelihood.segments import namespace


@register
@dataclass(frozen=True)
class FixedBasis:
    """``sqrt(w) X = Q R``: an orthonormal basis of the fixed effects' columns.

    Attributes
    ----------
    q : Array, shape (n, p)
    factor : Array, shape (p, p)
        Upper-triangular ``R``, positive diagonal.
    inverse : Array, shape (p, p)
        ``R^-1``.
    """

    q: Any
    factor: Any
    inverse: Any


@register
@dataclass(frozen=True)
class ResponseScale:
    """``sqrt(w) (y - offset) = Q R beta_ols + scale * residual``, ``|residual| = 1`` (or 0)."""

    beta_ols: Any
    scale: Any


def fixed_basis(weighted: np.ndarray) -> FixedBasis:
    """Orthonormal basis of the columns of ``weighted``, shape (n, p)."""
    p = weighted.shape[1]
    if p == 0:
        return FixedBasis(np.zeros((weighted.shape[0], 0)), np.zeros((0, 0)), np.zeros((0, 0)))
    size = np.sqrt(np.mean(weighted**2, axis=0))
    q, r = np.linalg.qr(weighted / size)
    sign = np.where(np.diagonal(r) < 0, -1.0, 1.0)
    factor = r * sign[:, None] * size
    return FixedBasis(q * sign, factor, np.linalg.inv(factor))


def scale_response(basis: FixedBasis, weighted: Any) -> tuple[ResponseScale, Any]:
    """Least squares on the fixed effects: scale, and the unit-length residual, shape (n,)."""
    xp = namespace(weighted, basis.q)
    q = basis.q
    coefficient = matmul(weighted, q)
    residual = weighted - matmul(q, coefficient)
    again = matmul(residual, q)  # once more: the first pass leaves rounding of the size of y
    residual = residual - matmul(q, again)
    square = xp.sum(residual * residual)
    if xp is np and not np.isfinite(square):
        bad = np.flatnonzero(~np.isfinite(weighted))
        where = f"y is not finite in row {bad[0]}" if bad.size else "y's sum of squares overflows"
        raise DataError(f"{where}: leave such rows out, or give y in another unit")
    # Any scale will do for a residual of zero, and one leaves the derivatives what they are.
    scale = xp.where(square > 0, xp.sqrt(xp.where(square > 0, square, 1.0)), 1.0)
    if xp is np and not square > (1e-14) ** 2 * (weighted @ weighted):
        raise DataError(
            "The response is an exact linear function of the fixed effects: nothing is left for "
            "random effects or residual variance. Check for a copy of the response among the "
            "predictors."
        )
    beta = matmul(basis.inverse, coefficient + again)
    return ResponseScale(beta, scale), residual / scale


def term_transform(weighted: np.ndarray, structures: tuple[Covariance, ...]) -> np.ndarray:
    """``T`` with ``Z = Z_s T`` for one term: block-diagonal over its bars, shape (k, k)."""
    k = weighted.shape[1]
    transform = np.zeros((k, k))
    root_n = np.sqrt(weighted.shape[0])
    at = 0
    for structure in structures:
        own = slice(at, at + structure.size)
        block = weighted[:, own]
        size = np.sqrt(np.mean(block**2, axis=0))
        size = np.where(size > 0, size, 1.0)
        if structure.equivariance == "none":
            transform[own, own] = np.eye(structure.size)
        else:
            transform[own, own] = np.diag(size)
        if structure.equivariance == "affine" and structure.size > 1:
            r = qr_triangle(block / size)
            diagonal = np.abs(np.diagonal(r))
            if r.shape[0] == structure.size and diagonal.min() > 1e-9 * diagonal.max():
                sign = np.where(np.diagonal(r) < 0, -1.0, 1.0)
                transform[own, own] = sign[:, None] * r * size / root_n
        at += structure.size
    return transform


def standardize_columns(weighted: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """``Z_s = Z T^-1``, shape (n, k)."""
    if transform.shape == (1, 1):
        return weighted / transform[0, 0]
    return np.linalg.solve(transform.T, weighted.T).T


def log_abs_determinant(triangular: Array) -> Array:
    """``log|det|`` of a triangular matrix."""
    return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(triangular))))
