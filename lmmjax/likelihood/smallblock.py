"""Linear algebra of many small matrices, batch axis last.

XLA's batched CPU Cholesky calls LAPACK once per matrix. For the small blocks of mixed models it is
several times quicker to write the recurrences out over the matrix indices, each step one elementwise
operation over the whole batch, which XLA fuses (and which vectorises on every device).
All arrays have shape ``(k, k, ...)`` or ``(k, w, ...)``: matrix axes first, batch axes last.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

#: Up to this size the recurrences are written out; beyond, LAPACK (the graph would grow as k**3).
UNROLL = 4


Rows = list[list[Array]]


def _rows(matrix: Array) -> Rows:
    return [[matrix[i, j] for j in range(matrix.shape[1])] for i in range(matrix.shape[0])]


def _stack(rows: Rows) -> Array:
    return jnp.stack([jnp.stack(row) for row in rows])


def _product(x: Rows, y: Rows) -> Rows:
    return [
        [sum((x[i][l] * y[l][j] for l in range(1, len(y))), x[i][0] * y[0][j])
         for j in range(len(y[0]))]
        for i in range(len(x))
    ]  # fmt: skip


def _transpose(x: Rows) -> Rows:
    return [list(column) for column in zip(*x, strict=True)]


def _inverse_factor(a: Rows) -> tuple[Rows, Array]:
    """``L^-1`` (lower triangle; the rest is None) and ``log|A|``."""
    k = len(a)
    lower: list[list[Any]] = [[None] * k for _ in range(k)]
    inverse: list[list[Any]] = [[None] * k for _ in range(k)]
    pivots = []
    for j in range(k):
        pivot = a[j][j]
        for l in range(j):
            pivot = pivot - lower[j][l] ** 2
        pivots.append(pivot)
        inverse[j][j] = jax.lax.rsqrt(pivot)
        for i in range(j + 1, k):
            entry = a[i][j]
            for l in range(j):
                entry = entry - lower[i][l] * lower[j][l]
            lower[i][j] = entry * inverse[j][j]
    for j in range(k):
        for i in range(j + 1, k):
            total = lower[i][j] * inverse[j][j]
            for l in range(j + 1, i):
                total = total + lower[i][l] * inverse[l][j]
            inverse[i][j] = -inverse[i][i] * total
    # One logarithm per pair of pivots: half the cost, and no overflow in 32 bits either.
    pairs = [pivots[i] * pivots[i + 1] if i + 1 < k else pivots[i] for i in range(0, k, 2)]
    return inverse, sum((jnp.log(x) for x in pairs[1:]), jnp.log(pairs[0]))


def _shrinkage_system(root: Array, factor: Array) -> Rows:
    """Entries of ``I + R Lambda Lambda' R'``."""
    scaled = _product(_rows(root), _rows(factor))
    system = _product(scaled, _transpose(scaled))
    for i, row in enumerate(system):
        row[i] = 1.0 + row[i]
    return system


def matmul(a: Array, b: Array) -> Array:
    """``a @ b`` for each batch element; either may lack the batch axes."""
    if max(a.shape[0], a.shape[1], b.shape[1]) > UNROLL:
        if a.ndim == 2:
            return jnp.tensordot(a, b, 1)
        return jnp.einsum("ij...,jk...->ik...", a, b if b.ndim > 2 else b[..., None])
    return _stack(_product(_rows(a), _rows(b)))


def inverse_factor(matrix: Array) -> tuple[Array, Array]:
    """``L^-1`` and ``log|A|`` of symmetric positive definite ``A = L L'``.

    Parameters
    ----------
    matrix : Array, shape (k, k, ...)

    Returns
    -------
    inverse : Array, shape (k, k, ...)
        The lower-triangular inverse of the Cholesky factor.
    logdet : Array, shape (...)
    """
    k = matrix.shape[0]
    if k > UNROLL:
        first = jnp.moveaxis(matrix, (0, 1), (-2, -1))
        lower = jnp.linalg.cholesky(first)
        eye = jnp.broadcast_to(jnp.eye(k, dtype=matrix.dtype), first.shape)
        inverse = jax.lax.linalg.triangular_solve(lower, eye, left_side=True, lower=True)
        diagonal = jnp.diagonal(lower, axis1=-2, axis2=-1)
        inverse = jnp.moveaxis(inverse, (-2, -1), (0, 1))
        return inverse, 2.0 * jnp.sum(jnp.log(diagonal), axis=-1)
    rows, logdet = _inverse_factor(_rows(matrix))
    zero = jnp.zeros_like(logdet)
    return _stack([[zero if x is None else x for x in row] for row in rows]), logdet


def shrinkage(root: Array, factor: Array) -> tuple[Array, Array]:
    """``L^-1`` and ``log|A|`` of ``A = I + R Lambda Lambda' R' = L L'``.

    ``root`` is ``R``, shape ``(k, k, B)``, with ``R'R = Z'WZ`` of a group; ``factor`` is ``Lambda``.
    ``A^-1 = L^-T L^-1`` is what is left of the group's own signal: 1 without random effects, 0 when they
    are free. Positive terms only, so nothing cancels, whatever the size of Lambda.
    """
    k = root.shape[0]
    if k <= UNROLL:
        return inverse_factor(_stack(_shrinkage_system(root, factor)))
    scaled = matmul(root, factor)
    eye = jnp.eye(k, dtype=scaled.dtype).reshape((k, k) + (1,) * (scaled.ndim - 2))
    return inverse_factor(eye + matmul(scaled, jnp.swapaxes(scaled, 0, 1)))


def kept_share(root: Array, factor: Array) -> tuple[Array, Array]:
    """Upper triangle of ``A^-1``, shape ``(k (k + 1) / 2, B)``, and ``log|A|``; see :func:`shrinkage`.

    Kept apart from it because entries that are never stacked in between fuse into one kernel.
    """
    k = root.shape[0]
    if k > UNROLL:
        inverse, logdet = shrinkage(root, factor)
        kept = jnp.einsum("ai...,aj...->ij...", inverse, inverse)
        return kept[np.triu_indices(k)], logdet
    if k == 1:
        square = (root[0, 0] * factor[0, 0]) ** 2
        return (1.0 / (1.0 + square))[None], jnp.log1p(square)
    inverse, logdet = _inverse_factor(_shrinkage_system(root, factor))
    entries = []
    for i in range(k):
        for j in range(i, k):
            terms = [inverse[l][i] * inverse[l][j] for l in range(j, k)]
            entries.append(sum(terms[1:], terms[0]))
    return jnp.stack(entries), logdet
