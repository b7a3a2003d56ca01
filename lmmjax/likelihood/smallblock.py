"""Linear algebra of many small matrices, batch axis last.

XLA's batched CPU Cholesky calls LAPACK once per matrix. For the small blocks of mixed models it is
several times quicker to write the recurrences out over the matrix indices, each step one
elementwise operation over the whole batch, which XLA fuses (and which vectorises on every device).
All arrays have shape ``(k, k, ...)`` or ``(k, w, ...)``: matrix axes first, batch axes last.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

#: Up to this size the recurrences are written out; beyond, they loop (the graph grows as k**3).
UNROLL = 3


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


@jax.custom_jvp
def reciprocal_and_log(x: Array) -> tuple[Array, Array]:
    """``1 / x`` and ``log x``, whose derivatives reuse the reciprocal.

    No division is left in first and second derivatives, so XLA fuses all of them into few kernels.
    """
    return 1.0 / x, jnp.log(x)


@reciprocal_and_log.defjvp
def _reciprocal_and_log_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    inverse, log = reciprocal_and_log(*primals)
    share = inverse * tangents[0]
    return (inverse, log), (-inverse * share, share)


def _inverse_ldl(a: Rows) -> tuple[Rows, list[Array], Array]:
    """``L^-1`` (unit diagonal left out), ``1 / d`` and ``log|A|`` of ``A = L D L'``."""
    k = len(a)
    lower: list[list[Any]] = [[None] * k for _ in range(k)]
    scaled: list[list[Any]] = [[None] * k for _ in range(k)]
    inverse: list[list[Any]] = [[None] * k for _ in range(k)]
    shares, logdet = [], None
    for j in range(k):
        pivot = a[j][j]
        for l in range(j):
            pivot = pivot - lower[j][l] * scaled[j][l]
        share, log = reciprocal_and_log(pivot)
        shares.append(share)
        logdet = log if logdet is None else logdet + log
        for i in range(j + 1, k):
            entry = a[i][j]
            for l in range(j):
                entry = entry - lower[i][l] * scaled[j][l]
            scaled[i][j] = entry
            lower[i][j] = entry * share
    for j in range(k):
        for i in range(j + 1, k):
            total = lower[i][j]
            for l in range(j + 1, i):
                total = total + lower[i][l] * inverse[l][j]
            inverse[i][j] = -total
    assert logdet is not None
    return inverse, shares, logdet


def _inverse_ldl_loop(matrix: Array) -> tuple[Array, Array, Array]:
    """``L^-1``, ``1 / d`` and ``log|A|`` of ``A = L D L'``, column by column in a loop.

    Not LAPACK's batched routines: besides their loop over matrices, two of them that run at the
    same time on a machine of two cores can wait for each other forever (jaxlib 0.10.2).
    """
    k = matrix.shape[0]
    batch = (1,) * (matrix.ndim - 2)
    eye = jnp.broadcast_to(jnp.eye(k, dtype=matrix.dtype).reshape(k, k, *batch), matrix.shape)
    below = np.arange(k)

    def eliminate(state: Array, j: Array) -> tuple[Array, tuple[Array, Array]]:
        row = jax.lax.dynamic_index_in_dim(state, j, 0, keepdims=False)
        column = jax.lax.dynamic_index_in_dim(state, j, 1, keepdims=False)
        share, log = reciprocal_and_log(jax.lax.dynamic_index_in_dim(row, j, 0, keepdims=False))
        lower = jnp.where((below > j).reshape(k, *batch), column * share, 0.0)
        return state - lower[:, None] * row[None], (share, log)

    # Gauss on [A | I] leaves [D L' | L^-1].
    state, (shares, logs) = jax.lax.scan(
        eliminate, jnp.concatenate([matrix, eye], axis=1), jnp.arange(k)
    )
    return state[:, k:], shares, jnp.sum(logs, axis=0)


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
    if not k:  # as of a model without fixed effects
        return matrix, jnp.zeros(matrix.shape[2:], matrix.dtype)
    if k > UNROLL:
        inverse, shares, logdet = _inverse_ldl_loop(matrix)
        return jnp.sqrt(shares)[:, None] * inverse, logdet
    inverse, shares, logdet = _inverse_ldl(_rows(matrix))
    zero = jnp.zeros_like(logdet)
    roots = [jnp.sqrt(share) for share in shares]
    return _stack(
        [[roots[i] * inverse[i][j] if j < i else roots[i] if j == i else zero for j in range(k)]
         for i in range(k)]
    ), logdet  # fmt: skip


def shrinkage(root: Array, factor: Array) -> tuple[Array, Array]:
    """``L^-1`` and ``log|A|`` of ``A = I + R Lambda Lambda' R' = L L'``.

    ``root`` is ``R``, shape ``(k, k, B)``, with ``R'R = Z'WZ`` of a group; ``factor`` is
    ``Lambda``. ``A^-1 = L^-T L^-1`` is what is left of the group's own signal: 1 without random
    effects, 0 when they are free. Positive terms only, so nothing cancels, whatever the size of
    Lambda.
    """
    k = root.shape[0]
    if k <= UNROLL:
        return inverse_factor(_stack(_shrinkage_system(root, factor)))
    scaled = matmul(root, factor)
    eye = jnp.eye(k, dtype=scaled.dtype).reshape((k, k) + (1,) * (scaled.ndim - 2))
    return inverse_factor(eye + matmul(scaled, jnp.swapaxes(scaled, 0, 1)))


def kept_share(root: Array, factor: Array) -> tuple[Array, Array]:
    """Upper triangle of ``A^-1``, shape ``(k (k + 1) / 2, B)``, and ``log|A|``.

    For the ``A`` of :func:`shrinkage`; kept apart from it because entries that are never stacked in
    between fuse into one kernel.
    """
    k = root.shape[0]
    if k > UNROLL:
        inverse, logdet = shrinkage(root, factor)
        kept = jnp.einsum("ai...,aj...->ij...", inverse, inverse)
        return kept[np.triu_indices(k)], logdet
    inverse, shares, logdet = _inverse_ldl(_shrinkage_system(root, factor))
    entries = []
    for i in range(k):
        for j in range(i, k):
            # sum_l L^-1_li (1 / d_l) L^-1_lj
            entry = shares[j] if i == j else inverse[j][i] * shares[j]
            for l in range(j + 1, k):
                entry = entry + inverse[l][i] * (inverse[l][j] * shares[l])
            entries.append(entry)
    return jnp.stack(entries), logdet
