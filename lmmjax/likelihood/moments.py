"""One grouping factor (and a few dense columns beside it): cost by distinct group designs.

With ``R_d'R_d = Z_j'W Z_j`` for the groups ``j`` of pattern ``d`` and ``c_j = R^-T Z_j'W [.]``,

    gram = W + sum_j c_j' K_d c_j = W + sum_d <K_d, sum_j c_j (x) c_j>,
    K_d = (I + R_d Lambda Lambda' R_d')^-1,

where ``W`` is the Gram matrix within groups. The data enter through second moments of ``c_j`` per
pattern: in a balanced design there is one pattern, and the cost no longer depends on the number of
groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.likelihood import smallblock
from lmmjax.likelihood.dense import Reduced, eliminate_dense, split_gram
from lmmjax.likelihood.products import matmul
from lmmjax.likelihood.pytree import register, static


def pair_indices(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each entry of a symmetric matrix's upper triangle."""
    return np.triu_indices(size)


def symmetric_positions(size: int) -> np.ndarray:
    """Position of each entry of a symmetric matrix in its packed upper triangle, (size, size)."""
    row, col = pair_indices(size)
    position = np.zeros((size, size), np.int32)
    position[row, col] = position[col, row] = np.arange(row.size)
    return position


@register
@dataclass(frozen=True)
class MomentBlocks:
    """Cross-products of one grouping factor, summed over the groups of each pattern.

    Attributes
    ----------
    root : Array, shape (k, k, D)
        ``R`` of each distinct group design.
    count : Array, shape (D,)
        Number of groups of each pattern.
    moments : Array, shape (k (k + 1) / 2 * D, w w)
        Sums of ``c_j (x) c_j``, both halves of an off-diagonal entry of ``K`` together.
    within : Array, shape (w, w)
        ``W``.
    order : tuple of int
        Position of each term in the model's order: the eliminated one, then the dense rest.
    rest_levels : tuple of int
        Number of levels of each remaining term. The ``w`` columns are theirs, those of X, and y.
    """

    root: Any
    count: Any
    moments: Any
    within: Any
    order: tuple[int, ...] = static()
    rest_levels: tuple[int, ...] = static()

    def reduce(self, factors: tuple[Array, ...]) -> Reduced:
        """Integrate out all random effects; ``factors`` holds one Lambda per term."""
        first, *rest = (factors[i] for i in self.order)
        kept, logdets = smallblock.kept_share(self.root, first)
        gram = self.within + matmul(kept.reshape(-1), self.moments).reshape(self.within.shape)
        parts = split_gram(tuple(rest), self.rest_levels, gram)
        logdet, gram = eliminate_dense(tuple(rest), self.rest_levels, *parts)
        return Reduced(logdet + jnp.sum(self.count * logdets), gram)
