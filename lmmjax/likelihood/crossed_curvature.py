"""Derivatives of ``log|I + Lambda'S Lambda|`` of a crossed design's remaining effects.

With ``P = A^-1``, everything that first and second derivatives need of the matrices of size q is a
few sums over P and over ``P Lambda'S_i Lambda``, by terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.likelihood.crossed import symmetric
from lmmjax.likelihood.dense import scale_rows

#: Singular values of Lambda above this leave enough digits in ``I - A^-1``, by bytes of a number:
#: the error is about eps / WELL_SCALED^2.
WELL_SCALED = {8: 1e-2, 4: 3e-2}


@dataclass(frozen=True)
class RestFactors:
    """Block-diagonal Lambda of the terms that are left."""

    factors: tuple[Array, ...]
    levels: tuple[int, ...]

    @property
    def sizes(self) -> list[int]:
        """Columns of each term."""
        return [factor.shape[0] for factor in self.factors]

    @property
    def scalar(self) -> bool:
        """Whether Lambda is diagonal by its shape: then a lower triangle can be scaled alone."""
        return all(size == 1 for size in self.sizes)

    @property
    def places(self) -> list[slice]:
        """Rows of each term."""
        rows = [size * count for size, count in zip(self.sizes, self.levels, strict=True)]
        return [slice(int(a), int(b)) for a, b in pairwise(np.cumsum([0, *rows]))]

    def astype(self, dtype: np.dtype) -> RestFactors:
        """The same in another precision."""
        return RestFactors(tuple(f.astype(dtype) for f in self.factors), self.levels)

    def times(self, matrix: Array) -> Array:
        """``Lambda M``."""
        return scale_rows(self.factors, self.levels, matrix, transpose=False)

    def transposed(self, matrix: Array) -> Array:
        """``Lambda' M``."""
        return scale_rows(self.factors, self.levels, matrix)

    def both(self, matrix: Array, transpose: bool = True) -> Array:
        """``Lambda' M Lambda`` (or ``Lambda M Lambda'``) of symmetric M, or of a triangle of it.

        Of a triangle only where Lambda is diagonal.
        """
        if self.scalar:
            pairs = zip(self.factors, self.levels, strict=True)
            diagonal = jnp.concatenate([jnp.broadcast_to(f[0, 0], (n,)) for f, n in pairs])
            return diagonal[:, None] * matrix * diagonal
        half = scale_rows(self.factors, self.levels, matrix, transpose)
        return scale_rows(self.factors, self.levels, half.T, transpose)

    def on_term(self, t: int, factor: Array, matrix: Array, transpose: bool = True) -> Array:
        """Block-diagonal ``factor'`` (or ``factor``) times the rows of term t, zero elsewhere."""
        own = self.places[t]
        part = scale_rows((factor,), (self.levels[t],), matrix[own], transpose=transpose)
        return jnp.zeros_like(matrix).at[own].set(part)

    def rows(self, matrix: Array, t: int) -> Array:
        """Rows of term t as (levels, k, columns)."""
        return matrix[self.places[t]].reshape(self.levels[t], self.sizes[t], -1)

    def block(self, matrix: Array, t: int, t2: int) -> Array:
        """Part of two terms as (levels, k, levels, k)."""
        part = matrix[self.places[t], self.places[t2]]
        return part.reshape(self.levels[t], self.sizes[t], self.levels[t2], self.sizes[t2])


class Curvature(NamedTuple):
    """What derivatives of ``log|A|`` need of the matrices of size q.

    Attributes
    ----------
    overlaps : list of Array, each (k_t, k_t)
        Sum over levels of ``(S Lambda)_l P_l'``: with ``2 Lambda_i`` the first derivatives.
    first_pairs : list of Array
        ``tr(P A_i P A_j)`` of two parameters of the eliminated factor.
    mixed : list of list of Array, each (k_t, k_t)
        For such a parameter and a term: with ``2 Lambda_j`` their second derivatives.
    rest_pairs : dict of Array
        For two terms the tensor T with ``2 sum Lambda_i[a, b] Lambda_j[c, d] T[a, b, c, d]`` their
        second derivative but for that of Lambda itself.
    """

    overlaps: list[Array]
    first_pairs: list[Array]
    mixed: list[list[Array]]
    rest_pairs: dict[tuple[int, int], Array]


def curvature(
    rest: RestFactors, S: Array, P: Array, S_first: list[Array], second: bool
) -> Curvature:
    """Sums over the matrices of size q, in the precision that P has.

    Where no factor is near singular, ``S Lambda P = Lambda^-T (I - P)`` spares further products.

    Parameters
    ----------
    rest : RestFactors
    S : Array, shape (q, q)
        Its lower triangle is enough where Lambda is diagonal.
    P : Array, shape (q, q)
        ``(I + Lambda'S Lambda)^-1``.
    S_first : list of Array
        Derivatives of S, their lower triangles.
    second : bool
        Whether second derivatives are wanted; if not, only ``overlaps`` are there.
    """
    rest = rest.astype(P.dtype)
    terms = range(len(rest.levels))
    S_first = [symmetric(each.astype(P.dtype)) for each in S_first]
    moved = [P @ rest.both(each) for each in S_first]  # P Lambda'S_i Lambda
    first_pairs = [
        jnp.sum(moved[n] * moved[n2].T) for n in range(len(moved)) for n2 in range(n + 1)
    ]

    def by_products(_: None) -> tuple[list[Array], list[list[Array]], dict]:
        whole = symmetric(S.astype(P.dtype)) if rest.scalar else S.astype(P.dtype)
        U = rest.transposed(whole).T  # S Lambda
        overlaps = [_by_rows(rest, U, P, t) for t in terms]
        if not second:
            return overlaps, [], {}
        H = U @ P
        N = whole - H @ U.T  # Z'V^-1Z
        mixed = []
        for n, each in enumerate(S_first):
            bent = rest.transposed(each).T
            mixed.append(
                [_by_rows(rest, bent, P, t) - _by_rows(rest, H, moved[n], t) for t in terms]
            )
        cells = {}
        for t in terms:
            for t2 in range(t + 1):
                # <P, Lambda_i'S Lambda_j> - tr(P B_i P B_j') = <P, Lambda_i' N Lambda_j>
                pair = rest.block(N, t, t2), rest.block(P, t, t2)
                same = jnp.einsum("lamc,lbmd->abcd", *pair)
                # tr(B_i P B_j P) = sum (Lambda_i'H)_{t t2} (Lambda_j'H)_{t2 t}
                pair = rest.block(H, t, t2), rest.block(H, t2, t)
                cells[t, t2] = same - jnp.einsum("lamd,mclb->abcd", *pair)
        return overlaps, mixed, cells

    def by_scaling(_: None) -> tuple[list[Array], list[list[Array]], dict]:
        # H = Lambda^-T (I - P) and N = H Lambda^-1 in the same sums.
        inverses = [jnp.linalg.inv(f) if f.shape[0] > 1 else 1.0 / f for f in rest.factors]
        traces = [_diagonal_blocks(rest, P, t) for t in terms]
        eyes = [jnp.eye(k, dtype=P.dtype) for k in rest.sizes]
        overlaps = [inverses[t].T @ (rest.levels[t] * eyes[t] - traces[t]) for t in terms]
        if not second:
            return overlaps, [], {}
        mixed = [[inverses[t].T @ _by_rows(rest, P, each, t) for t in terms] for each in moved]
        cells = {}
        for t in terms:
            for t2 in range(t + 1):
                squares = _squares(rest, P, t, t2)
                inner = -squares - jnp.swapaxes(squares, 2, 3)
                if t == t2:
                    eye, trace = eyes[t], traces[t]
                    inner = (
                        inner
                        + jnp.einsum("ac,bd->abcd", eye, trace)
                        + jnp.einsum("ad,bc->abcd", eye, trace - rest.levels[t] * eye)
                        + jnp.einsum("ad,bc->abcd", trace, eye)
                    )
                cells[t, t2] = jnp.einsum("pa,rc,pbrd->abcd", inverses[t], inverses[t2], inner)
        return overlaps, mixed, cells

    smallest = jnp.stack([_smallest_singular_value(f) for f in rest.factors])
    scaled = jnp.min(smallest) > WELL_SCALED[P.dtype.itemsize]
    overlaps, mixed, cells = jax.lax.cond(scaled, by_scaling, by_products, None)
    return Curvature(overlaps, first_pairs, mixed, cells)


def symmetric_times(lower: Array, columns: Array) -> Array:
    """``S v`` from the lower triangle of S: two thin products cost less than a transpose."""
    above = jnp.einsum("ab,as->bs", lower, columns)
    return lower @ columns + above - jnp.diagonal(lower)[:, None] * columns


def _smallest_singular_value(factor: Array) -> Array:
    if factor.shape[0] == 1:
        return jnp.abs(factor[0, 0])
    return jnp.min(jnp.linalg.svd(factor, compute_uv=False))


def _diagonal_blocks(rest: RestFactors, matrix: Array, t: int) -> Array:
    """Sum over the levels of term t of their own blocks, (k, k)."""
    if rest.sizes[t] == 1:
        return jnp.sum(jnp.diagonal(matrix)[rest.places[t]]).reshape(1, 1)
    own = np.arange(rest.levels[t])
    return jnp.sum(rest.block(matrix, t, t)[own, :, own, :], axis=0)


def _by_rows(rest: RestFactors, left: Array, right: Array, t: int) -> Array:
    """``sum_l left_l right_l'`` over the levels of term t, (k, k)."""
    if rest.sizes[t] == 1:
        own = rest.places[t]
        return jnp.sum(jnp.sum(left[own] * right[own], axis=0)).reshape(1, 1)
    return jnp.einsum("laq,lbq->ab", rest.rows(left, t), rest.rows(right, t))


def _squares(rest: RestFactors, matrix: Array, t: int, t2: int) -> Array:
    """``R[a, b, c, d] = sum M_lamc M_lbmd`` over the levels l of term t and m of term t2."""
    own = rest.block(matrix, t, t2)
    if rest.sizes[t] == rest.sizes[t2] == 1:
        part = matrix[rest.places[t], rest.places[t2]]
        return jnp.sum(jnp.sum(part * part, axis=0)).reshape(1, 1, 1, 1)
    return jnp.einsum("lamc,lbmd->abcd", own, own)
