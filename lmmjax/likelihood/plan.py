"""Which random effects to eliminate, and how: decided once per design, from the grouping alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.moments import pair_indices
from lmmjax.likelihood.rowgroups import rounded_up
from lmmjax.likelihood.segments import segment_sum

#: Terms beside the chain with at most this many effects in all are kept as dense columns.
DENSE_REST = 64
#: Largest dense matrix of a crossed design (effects on a side).
DENSE_LIMIT = 30_000
#: Second moments are kept while they are no larger than this (doubles), or not much larger than
#: what they summarise.
MOMENT_CELLS = 200_000


@dataclass(frozen=True)
class Plan:
    """Order of elimination.

    Attributes
    ----------
    kind : {"chain", "crossed"}
    chain : tuple of int
        Terms eliminated block by block, finest first.
    rest : tuple of int
        Terms left for the dense step.
    rest_levels : tuple of int
    """

    kind: Literal["chain", "crossed"]
    chain: tuple[int, ...]
    rest: tuple[int, ...]
    rest_levels: tuple[int, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """Positions of the terms in the order of elimination."""
        return self.chain + self.rest


@dataclass(frozen=True)
class Rows:
    """The rows of a design, sorted into the places of a plan."""

    own: np.ndarray
    own_index: np.ndarray
    own_levels: int
    dense: np.ndarray
    parent_index: np.ndarray | None
    parents: tuple[Any, ...]
    levels: tuple[int, ...]
    sparse: tuple[np.ndarray, ...]
    sparse_index: tuple[np.ndarray, ...]


def parent_of(fine: np.ndarray, coarse: np.ndarray, levels: int) -> np.ndarray | None:
    """Level of ``coarse`` that holds each level of ``fine``, or None if it is not nested."""
    parent = np.zeros(levels, coarse.dtype)
    parent[fine] = coarse
    return parent if np.array_equal(parent[fine], coarse) else None


def is_nested(fine: np.ndarray, coarse: np.ndarray) -> bool:
    """Whether each level of ``fine`` occurs in one level of ``coarse``; both of shape (n,)."""
    return parent_of(fine, coarse, int(fine.max()) + 1) is not None


def choose(indices: list[np.ndarray], levels: list[int], sizes: list[int]) -> Plan:
    """Eliminate the factor with most effects, with its ancestors if few effects are left beside.

    Otherwise it alone, sparsely: a crossed design.

    Parameters
    ----------
    indices : list of ndarray, each (n,)
        Level of each row, per term.
    levels, sizes : list of int
        Number of levels and of columns, per term.

    Returns
    -------
    Plan

    Raises
    ------
    LmmError
        The effects left of a crossed design exceed ``DENSE_LIMIT``.
    """
    effects = [k * count for k, count in zip(sizes, levels, strict=True)]
    by_size = sorted(range(len(levels)), key=lambda t: -effects[t])
    chain = [by_size[0]]
    for t in sorted(by_size[1:], key=lambda t: -levels[t]):
        if parent_of(indices[chain[-1]], indices[t], levels[chain[-1]]) is not None:
            chain.append(t)
    rest = [t for t in by_size if t not in chain]
    n_rest = sum(effects[t] for t in rest)
    if n_rest > DENSE_REST or n_rest * indices[0].size > 50_000_000:
        chain, rest = chain[:1], by_size[1:]
        n_rest = sum(effects[t] for t in rest)
        if n_rest > DENSE_LIMIT:
            raise LmmError(
                f"The grouping factors cross each other, and beside the largest one {n_rest:,} "
                f"random effects are left for a dense matrix of {8e-9 * n_rest**2:,.0f} GB (limit: "
                f"{DENSE_LIMIT:,} effects). Group the levels of the smaller factors more coarsely, "
                "or fit a sample of them."
            )
        return Plan("crossed", tuple(chain), tuple(rest), tuple(levels[t] for t in rest))
    return Plan("chain", tuple(chain), tuple(rest), tuple(levels[t] for t in rest))


def gather(
    plan: Plan, columns: list[np.ndarray], indices: list[np.ndarray], levels: list[int]
) -> Rows:
    """Sort the rows' columns into own, dense and sparse ones."""
    first = plan.chain[0]
    n = columns[first].shape[0]
    dense: list[np.ndarray] = []
    parents: list[Any] = []
    for fine, coarse in zip(plan.chain, plan.chain[1:], strict=False):
        dense.append(columns[coarse])
        parents.append(parent_of(indices[fine], indices[coarse], levels[fine]))
    parents.append(None)
    sparse: tuple[np.ndarray, ...] = ()
    if plan.kind == "crossed":
        sparse = tuple(columns[t] for t in plan.rest)
    else:
        for t in plan.rest:
            k = columns[t].shape[1]
            block = np.zeros((n, levels[t], k))
            block[np.arange(n), indices[t]] = columns[t]
            dense.append(block.reshape(n, -1))
    return Rows(
        own=columns[first],
        own_index=indices[first],
        own_levels=levels[first],
        dense=np.concatenate([np.zeros((n, 0)), *dense], axis=1),
        parent_index=indices[plan.chain[1]] if len(plan.chain) > 1 else None,
        parents=tuple(parents),
        levels=tuple(levels[t] for t in plan.chain),
        sparse=sparse,
        sparse_index=tuple(indices[t] for t in plan.rest) if sparse else (),
    )


def patterns(plan: Plan, root: np.ndarray) -> tuple[Any, Any, Any]:
    """Distinct ``R_j``: pattern of each group, a representative of each, how many groups have it.

    Only for a single factor. Groups whose rows hold the same numbers in the same order get bitwise
    equal ``R_j``, since sums run in row order; equality is exact, so nothing is approximated.
    """
    if len(plan.chain) > 1:
        return None, None, None
    k = root.shape[0]
    upper = np.ascontiguousarray(
        np.stack([root[a, b] for a, b in zip(*pair_indices(k), strict=True)], 1)
    )
    if upper.shape[1] == 1:
        keys = upper[:, 0]
    else:
        keys = upper.view([("", upper.dtype)] * upper.shape[1])[:, 0]
    _, chosen, pattern, count = np.unique(
        keys, return_index=True, return_inverse=True, return_counts=True
    )
    return pattern.reshape(-1).astype(np.int32), chosen, count


def moments_pay(k: int, n_patterns: int, width: int, n_groups: int) -> bool:
    """Whether second moments are small, absolutely or beside the columns that they replace."""
    cells = k * (k + 1) // 2 * n_patterns * (width * (width + 1) // 2)
    return cells <= max(MOMENT_CELLS, 4 * k * width * n_groups)


def crossed_template(
    plan: Plan, rows: Rows, own_rows: np.ndarray, root: np.ndarray, c: np.ndarray, fixed: np.ndarray
) -> Crossed:
    """Sparse cross-products of a crossed design (the response's column still empty)."""
    k, levels, index = root.shape[0], rows.own_levels, rows.own_index
    starts = np.cumsum(
        [0] + [z.shape[1] * m for z, m in zip(rows.sparse, plan.rest_levels, strict=True)]
    )
    q = int(starts[-1])
    level_parts, column_parts, value_parts = [], [], []
    for z, idx, count, start in zip(
        rows.sparse, rows.sparse_index, plan.rest_levels, starts, strict=False
    ):
        cell, where = np.unique(index.astype(np.int64) * count + idx, return_inverse=True)
        where = where.reshape(-1)
        for b in range(z.shape[1]):
            level_parts.append(cell // count)
            column_parts.append(start + (cell % count) * z.shape[1] + b)
            value_parts.append(
                np.stack(
                    [segment_sum(own_rows[:, a] * z[:, b], where, cell.size) for a in range(k)]
                )
            )
    level = np.concatenate(level_parts)
    column = np.concatenate(column_parts)
    value = np.concatenate(value_parts, axis=1)
    # Stable, so by runs: each term's part is sorted as it stands.
    order = np.argsort(level * q + column, kind="stable")
    level, column, value = level[order], column[order], value[:, order]

    # All pairs (a, b <= a) of columns that touch the same level. What belongs to a is repeated, not
    # looked up: this is most of the time that a design takes.
    per_level = np.bincount(level, minlength=levels)
    start_of = np.cumsum(per_level) - per_level
    width = np.arange(level.size) - start_of[level] + 1
    ends = np.cumsum(width)
    right = np.arange(ends[-1]) - np.repeat(ends - width - start_of[level], width)
    small = np.int32 if q * q < 2**31 and k * k * levels < 2**31 else np.int64
    target = np.repeat((column * q).astype(small), width) + column.astype(small)[right]
    source = np.repeat(level.astype(small), width)
    products, sources = [], []
    for pair, (a, b) in enumerate(zip(*pair_indices(k), strict=True)):
        product = np.repeat(value[a], width) * value[b][right]
        if a != b:
            product += np.repeat(value[b], width) * value[a][right]
        products.append(product)
        sources.append(source + small(pair * levels) if pair else source)
    product = np.concatenate(products) if k > 1 else products[0]
    source = np.concatenate(sources) if k > 1 else source

    # W = Z'Z - sum c'c (the products at K = I)
    diagonal_pairs = [
        pair for pair, (a, b) in enumerate(zip(*pair_indices(k), strict=True)) if a == b
    ]
    explained = sum(np.bincount(target, products[i], q * q) for i in diagonal_pairs)
    rest_within = _rest_gram(rows, starts, q) - np.reshape(explained, (q, q))
    cross = np.zeros((q, fixed.shape[1] + 1))
    residual = fixed.copy()
    for a in range(k):
        residual -= own_rows[:, [a]] * c[a].T[index]
    at = 0
    for z, idx, count in zip(rows.sparse, rows.sparse_index, plan.rest_levels, strict=True):
        for b in range(z.shape[1]):
            for i in range(fixed.shape[1]):
                cross[at + b : at + z.shape[1] * count : z.shape[1], i] = segment_sum(
                    z[:, b] * residual[:, i], idx, count
                )
        at += z.shape[1] * count
    within = np.zeros((fixed.shape[1] + 1, fixed.shape[1] + 1))
    within[:-1, :-1] = residual.T @ residual
    by_column = np.argsort(np.tile(column, k), kind="stable")
    by_row = np.concatenate([(level + a * levels).astype(small) for a in range(k)])
    return Crossed(
        root=root,
        columns=np.concatenate([c, np.zeros((k, 1, levels))], axis=1),
        product=_filled(product, 0.0),
        product_source=_filled(source, 0),
        product_target=_filled(np.tile(target, len(products)) if k > 1 else target, 0),
        entry=_filled(value.reshape(-1)[by_column], 0.0),
        entry_source=_filled(by_row[by_column], 0),
        # In order: what fills up comes last.
        entry_target=_filled(np.tile(column.astype(small), k)[by_column], q - 1),
        rest_within=np.tril(rest_within),
        cross_within=cross,
        within=within,
        order=plan.order,
        rest_levels=plan.rest_levels,
    )


def _filled(array: np.ndarray, value: float) -> np.ndarray:
    """Return a list of entries with a few that add zero, so that similar designs share a shape."""
    # By the allocation of their rows designs differ by about the square root.
    size = rounded_up(array.size, 64, share=max(8, math.isqrt(array.size) // 4))
    return np.pad(array, (0, size - array.size), constant_values=value)


def _rest_gram(rows: Rows, starts: np.ndarray, q: int) -> np.ndarray:
    """Lower triangle of ``Z'Z`` of the remaining terms."""
    gram = np.zeros((q, q))
    for s, (z_s, i_s) in enumerate(zip(rows.sparse, rows.sparse_index, strict=True)):
        k_s, own = z_s.shape[1], slice(starts[s], starts[s + 1])
        n_s = (starts[s + 1] - starts[s]) // k_s
        for a in range(k_s):
            for b in range(a + 1):  # a level meets itself alone
                at = starts[s] + np.arange(n_s) * k_s
                gram[at + a, at + b] = segment_sum(z_s[:, a] * z_s[:, b], i_s, n_s)
        for t in range(s):
            z_t, i_t = rows.sparse[t], rows.sparse_index[t]
            n_t = (starts[t + 1] - starts[t]) // z_t.shape[1]
            cell = i_s.astype(np.int64) * n_t + i_t
            block = np.empty((n_s, k_s, n_t, z_t.shape[1]))
            for a in range(k_s):
                for b in range(z_t.shape[1]):
                    sums = segment_sum(z_s[:, a] * z_t[:, b], cell, n_s * n_t)
                    block[:, a, :, b] = sums.reshape(n_s, n_t)
            gram[own, starts[t] : starts[t + 1]] = block.reshape(n_s * k_s, -1)
    return gram
