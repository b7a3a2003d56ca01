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

#: Spreads that a column's mean may lie from zero before it is moved there.
FAR = 10.0


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


def origins(columns: np.ndarray, root_weights: np.ndarray) -> np.ndarray:
    """Return what to take off each column beside a leading intercept, shape (k,).

    Differences of numbers that are nearly alike are exact; those of their products are not. A
    column that is far from zero, seen from its spread (years, times of day in seconds), is moved
    to its mean, because an orthonormal basis of columns as they are would be one of rounding.
    Columns near zero, and those without an intercept beside them, stay.
    """
    nothing = np.zeros(columns.shape[1])
    if not columns.size or columns.shape[1] < 2:
        return nothing
    present = columns[root_weights > 0]
    if not len(present) or (present[:, 0] != present[0, 0]).any() or present[0, 0] == 0.0:
        return nothing
    middle = present[0] + (present - present[0]).mean(axis=0)
    spread = np.abs(present - middle).max(axis=0)
    far = np.abs(middle) > FAR * spread
    far[0] = False
    return np.where(far, middle / present[0, 0], 0.0)


def fixed_basis(X: np.ndarray, root_weights: np.ndarray) -> FixedBasis:
    """Return an orthonormal basis of the columns of ``sqrt(w) X``; X has shape (n, p)."""
    p = X.shape[1]
    if p == 0:
        return FixedBasis(np.zeros((X.shape[0], 0)), np.zeros((0, 0)), np.zeros((0, 0)))
    origin = origins(X, root_weights)
    weighted = root_weights[:, None] * (X - X[:, :1] * origin)
    size = np.sqrt(np.mean(weighted**2, axis=0))
    q, r = np.linalg.qr(weighted / size)
    sign = np.where(np.diagonal(r) < 0, -1.0, 1.0)
    factor = r * sign[:, None] * size
    inverse = np.linalg.inv(factor)
    # X = (X - x_1 o') + x_1 o' = Q (R + R_1 o'), and the inverse by what was taken off.
    inverse[0] -= origin @ inverse
    return FixedBasis(q * sign, factor + factor[:, :1] * origin, inverse)


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


def standardize_term(
    Z: np.ndarray, root_weights: np.ndarray, structures: tuple[Covariance, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``T`` and ``Z_s`` of one term, ``sqrt(w) Z = Z_s T``.

    Parameters
    ----------
    Z : ndarray, shape (n, k)
    root_weights : ndarray, shape (n,)
    structures : tuple of Covariance
        Of its bars, which decide how general ``T`` may be.

    Returns
    -------
    transform : ndarray, shape (k, k)
        Block-diagonal over the bars.
    columns : ndarray, shape (n, k)
    """
    transform = np.zeros((Z.shape[1], Z.shape[1]))
    columns = np.empty(Z.shape)
    at = 0
    for structure in structures:
        own = slice(at, at + structure.size)
        at += structure.size
        affine = structure.equivariance == "affine" and structure.size > 1
        block = Z[:, own]
        origin = origins(block, root_weights) if affine else np.zeros(structure.size)
        weighted = root_weights[:, None] * (block - block[:, :1] * origin)
        T = _bar_transform(weighted, structure, affine)
        if structure.size == 1:
            columns[:, own] = weighted / T[0, 0]
        else:
            columns[:, own] = np.linalg.solve(T.T, weighted.T).T
        transform[own, own] = T + T[:, :1] * origin
    return transform, columns


def _bar_transform(weighted: np.ndarray, structure: Covariance, affine: bool) -> np.ndarray:
    """Return ``T`` of one bar, shape (k, k)."""
    if structure.equivariance == "none":
        return np.eye(structure.size)
    size = np.sqrt(np.mean(weighted**2, axis=0))
    size = np.where(size > 0, size, 1.0)
    if affine:
        r = qr_triangle(weighted / size)
        diagonal = np.abs(np.diagonal(r))
        if r.shape[0] == structure.size and diagonal.min() > 1e-9 * diagonal.max():
            sign = np.where(np.diagonal(r) < 0, -1.0, 1.0)
            return sign[:, None] * r * size / np.sqrt(weighted.shape[0])
    return np.diag(size)


def log_abs_determinant(triangular: Array) -> Array:
    """``log|det|`` of a triangular matrix."""
    return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(triangular))))
