"""Crossed grouping factors: the one with most effects is eliminated sparsely, the rest densely.

The Schur complement on the remaining effects is linear in the shrinkage matrices of the eliminated
levels,

    S = W + sum_j c_j' K_j c_j,        K_j = (I + R_j Lambda Lambda' R_j')^-1,

and ``c_j`` touches only the columns that occur together with level ``j``. So every entry of ``S``
is a fixed sparse combination of the entries of the ``K_j``: the products ``c_ja c_jb`` are formed
once, and an evaluation is one scatter-add. (Sorting the products by target first costs more than
it saves: measured on InstEval.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lmmjax.likelihood import smallblock
from lmmjax.likelihood.dense import Reduced, eliminate_dense
from lmmjax.likelihood.moments import symmetric_positions
from lmmjax.likelihood.pytree import register, static


@register
@dataclass(frozen=True)
class Crossed:
    """Cross-products of crossed factors.

    Attributes
    ----------
    root : Array, shape (k, k, L)
        ``R_j`` of the eliminated factor's levels.
    columns : Array, shape (k, r, L)
        ``c_j`` for the columns of X and y.
    product, product_source, product_target : Array, shape (N,)
        ``S[target] += product * K[source]`` on the lower triangle: sources index the packed ``K``
        (pair-major, level-minor), targets the flattened ``(q, q)`` matrix.
    entry, entry_source, entry_target : Array, shape (M,)
        Non-zero entries of ``c_j`` on the remaining effects: value, position ``a L + j`` in the
        ``(k, L)`` grid, and column.
    rest_within : Array, shape (q, q)
        Lower triangle of ``W`` among the remaining effects.
    cross_within : Array, shape (q, r)
        ``W`` between the remaining effects and ``[X y]``.
    within : Array, shape (r, r)
        ``W`` of ``[X y]``.
    order, rest_levels : tuple of int
    """

    root: Any
    columns: Any
    product: Any
    product_source: Any
    product_target: Any
    entry: Any
    entry_source: Any
    entry_target: Any
    rest_within: Any
    cross_within: Any
    within: Any
    order: tuple[int, ...] = static()
    rest_levels: tuple[int, ...] = static()

    def schur_part(self, packed: Array) -> Array:
        """``sum_j c_j' K_j c_j`` among the remaining effects, lower triangle, from packed ``K``."""
        flat = jnp.zeros(self.rest_within.size, packed.dtype)
        flat = flat.at[self.product_target].add(
            self.product * packed.reshape(-1)[self.product_source]
        )
        return flat.reshape(self.rest_within.shape)

    def schur_adjoint(self, weight: Array) -> Array:
        """Derivative of ``<weight, sum_j c_j' K_j c_j>`` in packed ``K``; ``weight`` symmetric."""
        # Only the lower triangle is stored, so off-diagonal entries count twice.
        doubled = 2.0 * weight - jnp.diag(jnp.diagonal(weight))
        k, levels = self.root.shape[0], self.root.shape[2]
        return jax.ops.segment_sum(
            self.product * doubled.reshape(-1)[self.product_target],
            self.product_source,
            k * (k + 1) // 2 * levels,
        ).reshape(-1, levels)

    def right_part(self, packed: Array) -> tuple[Array, Array]:
        """``sum_j c_j' K_j c_j`` between remaining effects and ``[X y]``, and among ``[X y]``."""
        k = self.columns.shape[0]
        kept = packed[symmetric_positions(k)]
        shrunk = jnp.einsum("abl,brl->arl", kept, self.columns)
        cross = self.spread(jnp.moveaxis(shrunk, 1, 2))
        return cross, jnp.einsum("kal,kbl->ab", self.columns, shrunk)

    def project(self, vectors: Array) -> Array:
        """``c_j v`` of every level for ``v`` on the remaining effects, (q, s) -> (k, L, s)."""
        k, levels = self.root.shape[0], self.root.shape[2]
        out = jax.ops.segment_sum(
            self.entry[:, None] * vectors[self.entry_target], self.entry_source, k * levels
        )
        return out.reshape(k, levels, -1)

    def spread(self, vectors: Array) -> Array:
        """``sum_j c_j' v_j``, the adjoint of :meth:`project`: (k, L, s) -> (q, s)."""
        by_entry = vectors.reshape(-1, vectors.shape[2])[self.entry_source]
        return jax.ops.segment_sum(
            self.entry[:, None] * by_entry,
            self.entry_target,
            self.rest_within.shape[0],
            indices_are_sorted=True,
        )

    def assemble(self, packed: Array) -> tuple[Array, Array, Array]:
        """Gram matrix over ``[rest | X y]`` in parts: S (q, q), cross (q, r), corner (r, r)."""
        lower = self.rest_within + self.schur_part(packed)
        cross, corner = self.right_part(packed)
        return symmetric(lower), self.cross_within + cross, self.within + corner

    def reduce(self, factors: tuple[Array, ...]) -> Reduced:
        """Integrate out all random effects; ``factors`` holds one Lambda per term."""
        first, *rest = (factors[i] for i in self.order)
        packed, logdets = smallblock.kept_share(self.root, first)
        logdet, gram = eliminate_dense(tuple(rest), self.rest_levels, *self.assemble(packed))
        return Reduced(logdet + jnp.sum(logdets), gram)


def symmetric(lower: Array) -> Array:
    """Symmetric matrix from its lower triangle."""
    return lower + jnp.tril(lower, -1).T
