"""Eigenvalues of small symmetric matrices by Jacobi's rotations.

LAPACK's routine costs a call for each matrix, which for the few parameters of a fit is most of the
time; and two of its batched calls at once can block each other (jaxlib 0.10.2). Rotations are
elementwise: under ``vmap`` each is one operation for the whole batch.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from lmmjax.likelihood.segments import varying_like

#: Up to this size the rotations of a sweep are written out.
UNROLL = 4
#: Beyond this size LAPACK is left to it.
LARGEST = 12
#: Sweeps until rounding, by size: convergence is quadratic.
SWEEPS = {2: 1, 3: 5, 4: 6}
MORE_SWEEPS = 8


def symmetric_eigen(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues, in no order, and eigenvectors (columns) of a symmetric matrix, shape (m, m).

    Notes
    -----
    Golub & Van Loan (2013), section 8.5: cyclic Jacobi; beyond four rows in the parallel ordering,
    where each round turns ``m / 2`` disjoint planes at once.
    """
    m = matrix.shape[0]
    eye = jnp.eye(m, dtype=matrix.dtype)
    if m <= 1:
        return jnp.diagonal(matrix), eye
    if m > LARGEST:
        vectors, values = lax.linalg.eigh(matrix, symmetrize_input=False)
        return values, vectors
    if m <= UNROLL:
        state = matrix, varying_like(eye, matrix)
        state = lax.fori_loop(0, SWEEPS[m], lambda _, s: _sweep(*s), state)
        return jnp.diagonal(state[0]), state[1]
    return _parallel(matrix)


def _tangent(app: Array, aqq: Array, apq: Array) -> Array:
    """Tangent of the smaller angle that makes ``apq`` zero; 0 where it is already."""
    tiny = jnp.finfo(apq.dtype).tiny
    difference, twice = aqq - app, 2.0 * apq
    size = jnp.abs(difference) + jnp.sqrt(difference * difference + twice * twice)
    signed = jnp.where(difference < 0, -twice, twice)
    return jnp.where(size > tiny, signed / jnp.maximum(size, tiny), 0.0)


def _sweep(matrix: Array, vectors: Array) -> tuple[Array, Array]:
    m = matrix.shape[0]
    a = [[matrix[min(i, j), max(i, j)] for j in range(m)] for i in range(m)]
    v = [[vectors[i, j] for j in range(m)] for i in range(m)]
    for p in range(m):
        for q in range(p + 1, m):
            t = _tangent(a[p][p], a[q][q], a[p][q])
            c = lax.rsqrt(1.0 + t * t)
            s = t * c
            moved = t * a[p][q]
            a[p][p], a[q][q] = a[p][p] - moved, a[q][q] + moved
            a[p][q] = a[q][p] = jnp.zeros_like(moved)
            for r in range(m):
                if r not in (p, q):
                    x, y = a[r][p], a[r][q]
                    a[r][p] = a[p][r] = c * x - s * y
                    a[r][q] = a[q][r] = s * x + c * y
                x, y = v[r][p], v[r][q]
                v[r][p], v[r][q] = c * x - s * y, s * x + c * y
    return jnp.stack([jnp.stack(r) for r in a]), jnp.stack([jnp.stack(r) for r in v])


def _parallel(matrix: Array) -> tuple[Array, Array]:
    """Rounds of disjoint rotations; a fixed permutation between them brings all pairs together."""
    m = matrix.shape[0]
    even = m + m % 2
    half = even // 2
    # A row and column of zeros makes the number even: its rotations are of angle zero.
    state = jnp.zeros((2, even, even), matrix.dtype)
    state = state.at[0, :m, :m].set(matrix).at[1].set(jnp.eye(even, dtype=matrix.dtype))
    # Rows i and half + i meet; between rounds all but the first move on by one place in the ring.
    ring = np.concatenate([np.arange(half), np.arange(even - 1, half - 1, -1)])
    turned = np.concatenate([ring[:1], ring[-1:], ring[1:-1]])
    order = np.empty(even, np.int32)
    order[ring] = turned

    def round_of_rotations(_: Array, state: Array) -> Array:
        a, v = state[0], state[1]
        diagonal = jnp.diagonal(a)
        t = _tangent(diagonal[:half], diagonal[half:], jnp.diagonal(a[:half, half:]))
        c = lax.rsqrt(1.0 + t * t)
        s = t * c
        # Rows of a, then columns of both.
        upper, lower = a[:half], a[half:]
        a = jnp.concatenate(
            [c[:, None] * upper - s[:, None] * lower, s[:, None] * upper + c[:, None] * lower]
        )
        both = jnp.stack([a, v])
        left, right = both[..., :half], both[..., half:]
        both = jnp.concatenate([c * left - s * right, s * left + c * right], axis=-1)
        return jnp.stack([both[0][order][:, order], both[1][:, order]])

    rounds = MORE_SWEEPS * (even - 1)
    a, v = lax.fori_loop(0, rounds, round_of_rotations, state)
    if even == m:
        return jnp.diagonal(a), v
    # The added direction is still an eigenvector by itself: leave its column out.
    added = jnp.argmax(jnp.abs(v[m]))
    kept = jnp.where(jnp.arange(m) < added, jnp.arange(m), jnp.arange(m) + 1)
    return jnp.diagonal(a)[kept], v[:m, kept]
