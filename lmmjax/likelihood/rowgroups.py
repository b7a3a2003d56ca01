"""The rows of each group, laid out so that sums over groups are quick everywhere.

A scatter adds its elements one by one. Rows sorted into a table, one line a group, are summed line
by line: vectorised, with one more loop under ``vmap``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lmmjax.likelihood.pytree import register, static
from lmmjax.likelihood.segments import namespace

#: A table may be this many times as large as the rows; beyond, sums are scattered.
PADDING = 3


@register
@dataclass(frozen=True)
class RowGroups:
    """Which group each row belongs to.

    Attributes
    ----------
    index : Array of int, shape (n,)
    table : Array of int, shape (count, longest), or None
        Rows of each group, ``n`` where it has no more; None where groups differ too much in size.
    count : int
    in_order : bool
        Whether groups of one size follow each other: then the rows are the table.
    """

    index: Any
    table: Any
    count: int = static()
    in_order: bool = static()

    def sum(self, values: Any) -> Any:
        """Sums over the rows of each group: from shape (n,) to (count,)."""
        if namespace(values, self.index) is np:
            return np.bincount(self.index, weights=values, minlength=self.count)
        if self.in_order:
            return jnp.sum(values.reshape(self.count, -1), axis=1)
        if self.table is None:
            return jax.ops.segment_sum(values, self.index, self.count)
        padded = jnp.concatenate([values, jnp.zeros(1, values.dtype)])
        return jnp.sum(padded[self.table], axis=1)

    def sum_last(self, values: Any) -> Any:
        """Sums along the last axis: from shape (m, n) to (m, count)."""
        if namespace(values, self.index) is not np:
            return jax.vmap(self.sum)(values)
        # Sorted and summed in runs: np.add.at takes a hundred times as long.
        order = np.argsort(self.index, kind="stable")
        present, starts = np.unique(self.index[order], return_index=True)
        total = np.zeros((values.shape[0], self.count))
        total[:, present] = np.add.reduceat(values[:, order], starts, axis=1)
        return total

    def spread(self, by_group: Any) -> Any:
        """Each row's entry: from shape (count,) to (n,)."""
        if self.in_order and namespace(by_group) is jnp:
            longest = self.index.shape[0] // self.count
            return jnp.broadcast_to(by_group[:, None], (self.count, longest)).reshape(-1)
        return by_group[self.index]


def row_groups(index: np.ndarray, count: int) -> RowGroups:
    """Lay out the rows by ``index``, shape (n,), with values below ``count``."""
    n = index.shape[0]
    sizes = np.bincount(index, minlength=count)
    longest = int(sizes.max(initial=0))
    if n and np.all(sizes == longest) and np.all(np.diff(index) >= 0):
        return RowGroups(index, None, count, True)
    if longest * count > PADDING * max(n, 64):
        return RowGroups(index, None, count, False)
    table = np.full((count, longest), n, np.int32)
    order = np.argsort(index, kind="stable")
    place = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table[index[order], place] = order
    return RowGroups(index, table, count, False)
