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

#: A table may be this many times as large as the rows, and of this many entries in any case;
#: beyond, sums are scattered.
PADDING, SMALL = 3, 1024


def rounded_up(size: int, least: int, share: int = 4) -> int:
    """Return the size of an array that holds ``size``: multiples of ``least``, or ``1 / share``.

    Designs that differ in the allocation of their rows then share what is compiled.

    Examples
    --------
    >>> [rounded_up(size, least=4) for size in (1, 4, 5, 17, 33, 1000)]
    [4, 4, 8, 20, 40, 1024]
    """
    step = max(least, (1 << max(size.bit_length() - 1, 0)) // share)
    return max(-(-size // step), 1) * step


@register
@dataclass(frozen=True)
class RowGroups:
    """Which group each row belongs to.

    Attributes
    ----------
    index : Array of int, shape (n,)
    table : Array of int, shape (count, length), or None
        Rows of each group, ``n`` where it has no more; None where groups differ too much in size.
        The lines are a little longer than the longest group: see :func:`rounded_up`.
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


def row_groups(index: np.ndarray, count: int, least: int = 4) -> RowGroups:
    """Lay out the rows by ``index``, shape (n,), with values below ``count``.

    Lines of the table are of lengths that :func:`rounded_up` gives for ``least``.
    """
    n = index.shape[0]
    sizes = np.bincount(index, minlength=count)
    longest = int(sizes.max(initial=0))
    if n and np.all(sizes == longest) and np.all(np.diff(index) >= 0):
        return RowGroups(index, None, count, True)
    if longest * count > max(PADDING * n, SMALL):
        return RowGroups(index, None, count, False)
    longest = rounded_up(longest, least)
    table = np.full((count, longest), n, np.int32)
    order = np.argsort(index, kind="stable")
    place = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    table[index[order], place] = order
    return RowGroups(index, table, count, False)


def orthonormal_rows(columns: Any, groups: RowGroups, tol: float = 1e-11) -> tuple[Any, Any]:
    """QR of every group's rows at once, by Gram-Schmidt with reorthogonalisation.

    Parameters
    ----------
    columns : ndarray or Array, shape (n, k)
    groups : RowGroups
    tol : float
        A column whose remainder is below ``tol`` times its norm in the group counts as dependent
        there: its row of ``R`` and its column of ``Q`` are zero.

    Returns
    -------
    q : shape (n, k)
        Orthonormal (or zero) columns within each group.
    root : shape (k, k, count)
        Upper-triangular ``R`` with ``Z_j = Q_j R_j``.

    Notes
    -----
    Works on rows, not on the Gram matrix, so the condition number is not squared
    (Golub & Van Loan 2013, section 5.2.9).
    """
    xp = namespace(columns)
    k = columns.shape[1]
    zero = xp.zeros(groups.count, columns.dtype)
    q: list[Any] = []
    root = [[zero] * k for _ in range(k)]
    for a in range(k):
        v = columns[:, a]
        norm = xp.sqrt(groups.sum(v * v))
        for _ in range(2 if a else 0):
            for b in range(a):
                r = groups.sum(q[b] * v)
                v = v - groups.spread(r) * q[b]
                root[b][a] = root[b][a] + r
        length = xp.sqrt(groups.sum(v * v))
        kept = length > tol * norm
        root[a][a] = xp.where(kept, length, 0.0)
        inverse = xp.where(kept, 1.0 / xp.where(kept, length, 1.0), 0.0)
        q.append(v * groups.spread(inverse))
    return xp.stack(q, axis=1), xp.stack([xp.stack(row) for row in root])
