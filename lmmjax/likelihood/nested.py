"""A chain of nested grouping factors, finest first: linear cost, block by block.

Each level of the finest factor holds its own cross-products over
``[own | ancestors | rest | X y]``. Eliminating it leaves a Gram matrix over the remaining columns,
which is added into its parent's; and so on up the chain. What stays at the top (terms that cross
the chain, X, y) is dense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lmmjax.likelihood import smallblock
from lmmjax.likelihood.dense import Reduced, eliminate_dense, split_gram
from lmmjax.likelihood.pytree import register, static


def sum_children(gram: Array, parent: Array | None, count: int) -> Array:
    """Sum ``(w, w, L)`` over the children of each of ``count`` parents."""
    if parent is None:
        return jnp.sum(gram, axis=-1, keepdims=True)
    batch_first = jnp.moveaxis(gram, -1, 0)
    return jnp.moveaxis(jax.ops.segment_sum(batch_first, parent, count), 0, -1)


def contract_children(half: Array, parent: Array | None, count: int) -> Array:
    """Sum of ``F_j'F_j`` over children: ``half`` of shape (k, w, L) to (w, w, count)."""
    if parent is None:
        return jnp.einsum("kal,kbl->ab", half, half)[..., None]
    return sum_children(jnp.einsum("kal,kbl->abl", half, half), parent, count)


@register
@dataclass(frozen=True)
class Nested:
    """Cross-products of a chain of nested factors.

    Attributes
    ----------
    root : Array, shape (k_1, k_1, L_1)
        ``R_j`` of each level of the finest factor.
    columns : Array, shape (k_1, w_1, L_1)
        ``c_j = R_j^-T Z_j'W [ancestors | rest | X y]``.
    within : Array, shape (w_1, w_1, L_2)
        Gram matrices within the finest groups, summed for each parent.
    parents : tuple of (Array or None)
        Parent of each level, for each factor of the chain; None where everything goes to the top.
    levels : tuple of int
        Number of levels of the chain's factors, finest first.
    order : tuple of int
        Position in the model's order: the chain, then the dense rest.
    rest_levels : tuple of int
    """

    root: Any
    columns: Any
    within: Any
    parents: tuple[Any, ...]
    levels: tuple[int, ...] = static()
    order: tuple[int, ...] = static()
    rest_levels: tuple[int, ...] = static()

    def reduce(self, factors: tuple[Array, ...]) -> Reduced:
        """Integrate out all random effects; ``factors`` holds one Lambda per term."""
        ordered = tuple(factors[i] for i in self.order)
        depth = len(self.levels)
        counts = (*self.levels[1:], 1)
        inverse, logdets = smallblock.shrinkage(self.root, ordered[0])
        half = smallblock.matmul(inverse, self.columns)
        gram = self.within + contract_children(half, self.parents[0], counts[0])
        logdet = jnp.sum(logdets)
        for i in range(1, depth):
            k = ordered[i].shape[0]
            # A = I + Lambda' S Lambda;  S_ww - S_wk Lambda A^-1 Lambda' S_kw
            scaled = smallblock.matmul(ordered[i].T, gram[:k])
            eye = jnp.eye(k, dtype=gram.dtype)[..., None]
            inverse, logdets = smallblock.inverse_factor(
                eye + smallblock.matmul(scaled[:, :k], ordered[i])
            )
            half = smallblock.matmul(inverse, scaled[:, k:])
            left = sum_children(gram[k:, k:], self.parents[i], counts[i])
            gram = left - contract_children(half, self.parents[i], counts[i])
            logdet = logdet + jnp.sum(logdets)
        rest = ordered[depth:]
        parts = split_gram(rest, self.rest_levels, gram[..., 0])
        rest_logdet, gram = eliminate_dense(rest, self.rest_levels, *parts)
        return Reduced(logdet + rest_logdet, gram)
