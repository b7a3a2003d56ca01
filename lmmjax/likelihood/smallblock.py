"""Linear algebra of many small matrices, batch axis last.

XLA's batched CPU Cholesky calls LAPACK once per matrix. For the small blocks of mixed models it is
several times quicker to write the recurrences out over the matrix indices, each step one elementwise
operation over the whole batch, which XLA fuses (and which vectorises on every device).
All arrays have shape ``(k, k, ...)`` or ``(k, w, ...)``: matrix axes first, batch axes last.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

#: Up to this size the recurrences are written out; beyond, LAPACK (the graph would grow as k**3).
UNROLL = 4


def _rows(matrix: Array) -> list[list[Array]]:
    return [[matrix[i, j] for j in range(matrix.shape[1])] for i in range(matrix.shape[0])]


def _stack(rows: list[list[Array]]) -> Array:
    return jnp.stack([jnp.stack(row) for row in rows])


def _batch_first(matrix: Array) -> Array:
    return jnp.moveaxis(matrix, (0, 1), (-2, -1))


def _batch_last(matrix: Array) -> Array:
    return jnp.moveaxis(matrix, (-2, -1), (0, 1))


def matmul(a: Array, b: Array) -> Array:
    """``a @ b`` for each batch element; either may lack the batch axes."""
    if max(a.shape[0], a.shape[1], b.shape[1]) > UNROLL:
        if a.ndim == 2:
            return jnp.tensordot(a, b, 1)
        return jnp.einsum("ij...,jk...->ik...", a, b if b.ndim > 2 else b[..., None])
    x, y = _rows(a), _rows(b)
    return _stack(
        [
            [sum(x[i][l] * y[l][j] for l in range(1, len(y))) + x[i][0] * y[0][j]
             for j in range(len(y[0]))]
            for i in range(len(x))
        ]
    )  # fmt: skip


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
        first = _batch_first(matrix)
        lower = jnp.linalg.cholesky(first)
        eye = jnp.broadcast_to(jnp.eye(k, dtype=matrix.dtype), first.shape)
        inverse = jax.lax.linalg.triangular_solve(lower, eye, left_side=True, lower=True)
        diagonal = jnp.diagonal(lower, axis1=-2, axis2=-1)
        return _batch_last(inverse), 2.0 * jnp.sum(jnp.log(diagonal), axis=-1)
    a = _rows(matrix)
    lower: list[list[Array]] = [[a[0][0]] * k for _ in range(k)]
    inv: list[list[Array]] = [[jnp.zeros_like(a[0][0])] * k for _ in range(k)]
    pivots = []
    for j in range(k):
        pivot = a[j][j]
        for l in range(j):
            pivot = pivot - lower[j][l] ** 2
        pivots.append(pivot)
        inv[j][j] = jax.lax.rsqrt(pivot)
        for i in range(j + 1, k):
            entry = a[i][j]
            for l in range(j):
                entry = entry - lower[i][l] * lower[j][l]
            lower[i][j] = entry * inv[j][j]
    for j in range(k):
        for i in range(j + 1, k):
            total = lower[i][j] * inv[j][j]
            for l in range(j + 1, i):
                total = total + lower[i][l] * inv[l][j]
            inv[i][j] = -inv[i][i] * total
    # One logarithm per pair of pivots: half the cost, and no overflow in 32 bits either.
    pairs = [pivots[i] * pivots[i + 1] if i + 1 < k else pivots[i] for i in range(0, k, 2)]
    return _stack(inv), sum((jnp.log(x) for x in pairs[1:]), jnp.log(pairs[0]))


def outer_gram(factor: Array) -> Array:
    """``F' F`` for each batch element, ``F`` of shape ``(k, w, ...)``."""
    return matmul(jnp.swapaxes(factor, 0, 1), factor)


def shrinkage(root: Array, factor: Array) -> tuple[Array, Array]:
    """``L^-1`` and ``log|A|`` of ``A = I + R Lambda Lambda' R' = L L'``.

    ``root`` is ``R``, shape ``(k, k, B)``, with ``R'R = Z'WZ`` of a group; ``factor`` is ``Lambda``.
    ``A^-1 = L^-T L^-1`` is what is left of the group's own signal: 1 without random effects, 0 when they
    are free. Positive terms only, so nothing cancels, whatever the size of Lambda.
    """
    k = root.shape[0]
    scaled = matmul(root, factor)
    eye = jnp.eye(k, dtype=scaled.dtype).reshape((k, k) + (1,) * (scaled.ndim - 2))
    return inverse_factor(eye + matmul(scaled, jnp.swapaxes(scaled, 0, 1)))
