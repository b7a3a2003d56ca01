"""The last step of every elimination: the effects that are left, by one dense Cholesky factor."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lmmjax.likelihood.segments import varying_like

#: Matrices up to this size are inverted column by column.
LEAF = 80


class Reduced(NamedTuple):
    """What is left when all random effects are integrated out.

    Attributes
    ----------
    logdet : Array, scalar
        ``log|V|`` of ``V = I + Z Lambda Lambda' Z'`` (weights folded into the rows); equals
        ``log|A|``.
    gram : Array, shape (p + 1, p + 1)
        ``[X y]' V^-1 [X y]``.
    """

    logdet: Array
    gram: Array


@jax.custom_jvp
def spd_inverse_and_logdet(matrix: Array) -> tuple[Array, Array]:
    """Inverse and log-determinant of a symmetric positive definite matrix, by halves.

    Only the lower triangle is read.

    With ``W = A11^-1 A12`` and ``S = A22 - A21 W``, the blocks of the inverse are
    ``A11^-1 + W S^-1 W'``, ``-W S^-1`` and ``S^-1``. All but the leaves is matrix products of
    full blocks: on a CPU about a third of the time of a Cholesky factor and two triangular solves.
    LAPACK is kept out of the leaves too: its threads spin on after each call, and on two cores
    that costs the products more than half of their speed.
    """
    size = matrix.shape[0]
    if size <= LEAF:
        return _sweep(jnp.tril(matrix) + jnp.tril(matrix, -1).T)
    cut = size // 2
    below = matrix[cut:, :cut]
    top, logdet_top = spd_inverse_and_logdet(matrix[:cut, :cut])
    W = top @ below.T
    bottom, logdet_bottom = spd_inverse_and_logdet(matrix[cut:, cut:] - below @ W)
    corner = -W @ bottom
    inverse = jnp.block([[top - corner @ W.T, corner], [corner.T, bottom]])
    return inverse, logdet_top + logdet_bottom


@spd_inverse_and_logdet.defjvp
def _spd_inverse_and_logdet_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    inverse, logdet = spd_inverse_and_logdet(*primals)
    lower = jnp.tril(tangents[0])
    moved = lower + jnp.tril(lower, -1).T
    # d(A^-1) = -A^-1 dA A^-1,   d log|A| = tr(A^-1 dA)
    return (inverse, logdet), (-inverse @ moved @ inverse, jnp.sum(inverse * moved))


def _sweep(matrix: Array) -> tuple[Array, Array]:
    """Inverse and log-determinant by symmetric sweeps (Goodnight 1979), one column at a time."""
    size = matrix.shape[0]
    ids = jnp.arange(size)

    def sweep(at: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        swept, pivots = state
        row = swept[at]
        pivot = row[at]
        hit = ids == at
        left = jnp.where(hit, 1.0, row)
        right = jnp.where(hit, -1.0, row) / pivot
        inner = swept - left[:, None] * right
        swept = jnp.where(hit[:, None], right, jnp.where(hit, left[:, None] / pivot, inner))
        return swept, pivots.at[at].set(pivot)

    start = matrix, varying_like(jnp.ones(size, matrix.dtype), matrix)
    swept, pivots = jax.lax.fori_loop(0, size, sweep, start)
    return -swept, jnp.sum(jnp.log(pivots))


@jax.custom_jvp
def logdet_and_quadratic(matrix: Array, right: Array) -> tuple[Array, Array]:
    """``log|A|`` and ``F' A^-1 F`` of positive definite ``A``, (q, q), and ``F``, (q, r).

    The derivatives, forward and reverse, of first and second order, use the closed forms
    ``d log|A| = tr(A^-1 dA)`` and ``d(F'A^-1F) = dF'X + X'dF - X' dA X`` with ``X = A^-1 F``.
    Differentiating the Cholesky factor itself costs two triangular solves and products of size q
    more.
    """
    factor = jnp.linalg.cholesky(matrix, symmetrize_input=False)
    half = jax.scipy.linalg.solve_triangular(factor, right, lower=True)
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor))), half.T @ half


@logdet_and_quadratic.defjvp
def _logdet_and_quadratic_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    matrix, right = primals
    d_matrix, d_right = tangents
    value = logdet_and_quadratic(matrix, right)
    inverse, _ = spd_inverse_and_logdet(matrix)
    solved = inverse @ right
    cross = solved.T @ d_right
    d_logdet = jnp.sum(inverse * d_matrix)
    return value, (d_logdet, cross + cross.T - solved.T @ (d_matrix @ solved))


def scale_rows(
    factors: tuple[Array, ...], levels: tuple[int, ...], matrix: Array, transpose: bool = True
) -> Array:
    """``Lambda' M`` (or ``Lambda M``) for block-diagonal Lambda of several terms, level by level.

    ``matrix`` has shape ``(q, r)``, its rows term by term, level by level, column by column.
    """
    if all(factor.shape[0] == 1 for factor in factors):
        # One product by a vector fuses with what comes before and after it.
        pairs = zip(factors, levels, strict=True)
        diagonal = jnp.concatenate([jnp.broadcast_to(f[0, 0], (count,)) for f, count in pairs])
        return diagonal[:, None] * matrix
    parts, at = [], 0
    for factor, count in zip(factors, levels, strict=True):
        k = factor.shape[0]
        block = matrix[at : at + k * count]
        if k == 1:
            parts.append(factor[0, 0] * block)
        else:
            cube = block.reshape(count, k, -1)
            small = factor.T if transpose else factor
            parts.append(jnp.einsum("ab,lbr->lar", small, cube).reshape(block.shape))
        at += k * count
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts)


def eliminate_dense(
    factors: tuple[Array, ...],
    levels: tuple[int, ...],
    schur: Array,
    cross: Array,
    corner: Array,
) -> tuple[Array, Array]:
    """Integrate out the terms that are left, given the Gram matrix over ``[rest | X y]`` in parts.

    Parameters
    ----------
    factors : tuple of Array, each (k_t, k_t)
    levels : tuple of int
        Number of levels of each term, ``q = sum(k_t levels_t)``.
    schur : Array, shape (q, q)
    cross : Array, shape (q, r)
    corner : Array, shape (r, r)

    Returns
    -------
    logdet : Array, scalar
    gram : Array, shape (r, r)
    """
    if not factors:
        return jnp.zeros((), corner.dtype), corner
    # A = I + Lambda' S Lambda
    half = scale_rows(factors, levels, schur)
    system = scale_rows(factors, levels, half.T) + jnp.eye(schur.shape[0], dtype=schur.dtype)
    logdet, explained = logdet_and_quadratic(system, scale_rows(factors, levels, cross))
    return logdet, corner - explained


def split_gram(
    factors: tuple[Array, ...], levels: tuple[int, ...], gram: Array
) -> tuple[Array, Array, Array]:
    """Parts of a Gram matrix over ``[rest | X y]`` as :func:`eliminate_dense` takes them."""
    q = sum(f.shape[0] * count for f, count in zip(factors, levels, strict=True))
    return gram[:q, :q], gram[:q, q:], gram[q:, q:]
