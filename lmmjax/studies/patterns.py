"""What expected information needs of a design: its distinct blocks of rows, by their products.

Rows fall into blocks that share no level of any grouping factor. Blocks with the same products
count once. Products are those of orthonormal columns, ``X = Q R``, since squares of others lose
digits (of calendar years, all that matter); R is put back at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.units import column_units
from lmmjax.likelihood.pytree import register, static

if TYPE_CHECKING:
    from lmmjax.design import Design

#: Random effects in a block beyond which its products are too large.
MAX_EFFECTS = 1500
#: Entries of a block up to which it is laid out with its zeros.
DENSE = 100_000


@register
@dataclass(frozen=True, eq=False)
class DesignPatterns:
    """What power needs of a design; made by :meth:`of`, a pytree.

    Attributes
    ----------
    products : Array, shape (D, w, w)
        ``[Z X]'[Z X]`` of each distinct block, with Z and X orthonormal over all rows.
    rows : Array, shape (D,)
        Its number of rows.
    count : Array, shape (D,)
        Number of such blocks.
    groups, per_group : float
        Number of blocks, and their mean number of rows.
    x_root : Array, shape (p, p)
        Gives back X from its orthonormal columns.
    z_roots : tuple of Array, shape (k_t, k_t)
        The same of each term's columns.
    levels : tuple of int
        Levels of each term in a block (the largest number; the rest is padded with zeros).
    blocks : tuple of tuple of int
        Sizes of each term's blocks of correlated effects.
    units : tuple of int
        Of each fixed effect, as :func:`lmmjax.inference.units.column_units` gives them.
    """

    products: Any
    rows: Any
    count: Any
    groups: Any
    per_group: Any
    x_root: Any
    z_roots: tuple[Any, ...]
    levels: tuple[int, ...] = static()
    blocks: tuple[tuple[int, ...], ...] = static()
    units: tuple[int, ...] = static()

    @classmethod
    def of(cls, design: Design) -> DesignPatterns:
        """Find the blocks of a design, and those that are alike.

        Raises
        ------
        LmmError
            A block has more than 1500 random effects.

        Examples
        --------
        >>> import lmmjax as lj
        >>> from lmmjax.studies.patterns import DesignPatterns
        >>> frame = lj.simulate_design({"id": 50}, within={"time": range(5)}, between={"arm": 2})
        >>> design = lj.Design.from_formula("y ~ arm * time + (time | id)", frame)
        >>> patterns = DesignPatterns.of(design)
        >>> patterns.products.shape, patterns.count
        ((2, 6, 6), array([25., 25.]))
        """
        label = _components(design)
        count = int(label.max()) + 1
        root = np.sqrt(design.weights)[:, None]
        sizes, columns, places, z_roots = [], [], [], []
        start = 0
        for term in design.terms:
            local, most = _local_levels(label, term.index)
            k = term.Z.shape[1]
            sizes.append(most)
            Z, z_root = _orthonormal(term.Z * root)
            columns.append(Z)
            z_roots.append(z_root)
            places.append(start + local[:, None] * k + np.arange(k))
            start += most * k
        if start > MAX_EFFECTS:
            raise LmmError(
                f"{start} random effects hang together (crossed factors): analytic power takes up "
                f"to {MAX_EFFECTS}; use lj.power(), which simulates"
            )
        order = np.argsort(label, kind="stable")
        ends = np.cumsum(np.bincount(label, minlength=count))[:-1]
        X, x_root = _orthonormal(design.X * root)
        width = start + X.shape[1]
        values = np.hstack([*columns, X])
        at = np.hstack([*places, np.broadcast_to(np.arange(start, width), X.shape)])
        made = [
            np.append(_product(values[own], at[own], width).ravel(), own.size)
            for own in np.split(order, ends)
        ]
        table = np.array(made)
        # Alike up to rounding, relative to the lengths of the columns that an entry multiplies
        length = np.sqrt(table[:, : width**2 : width + 1].max(axis=0))
        scale = np.append(np.outer(length, length).ravel(), 1.0)
        _, first, counts = np.unique(
            np.round(table / scale, 11), axis=0, return_index=True, return_counts=True
        )
        return cls(
            table[first, :-1].reshape(-1, width, width),
            table[first, -1],
            counts.astype(np.float64),
            np.float64(count),
            np.float64(X.shape[0] / count),
            x_root,
            tuple(z_roots),
            tuple(sizes),
            tuple(term.blocks for term in design.terms),
            tuple(column_units(design.coding).tolist()),
        )


def _product(values: np.ndarray, at: np.ndarray, width: int) -> np.ndarray:
    """``A'A`` of the matrix with a row's values in these of its columns, and zeros elsewhere."""
    if len(values) * width <= DENSE:
        wide = np.zeros((len(values), width))
        np.put_along_axis(wide, at, values, axis=1)
        return wide.T @ wide
    from scipy.sparse import csr_array

    ends = np.arange(0, values.size + 1, values.shape[1])
    sparse = csr_array((values.ravel(), at.ravel(), ends), shape=(len(values), width))
    return (sparse.T @ sparse).toarray()


def _orthonormal(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of mean square 1 that are orthogonal, and the matrix that gives back those given."""
    Q, R = np.linalg.qr(columns)
    scale = np.sqrt(len(columns))
    return Q * scale, R / scale


def _components(design: Design) -> np.ndarray:
    """Block of each row: rows that share a level, or are joined through others that do."""
    if not design.terms:
        raise LmmError("analytic power needs a grouping factor")
    if len(design.terms) == 1:
        return design.terms[0].index.astype(np.int64)
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([0] + [len(term.levels) for term in design.terms])
    first = design.terms[0].index
    ends = [start + term.index for start, term in zip(starts[1:], design.terms[1:], strict=False)]
    pairs = (np.tile(first, len(ends)), np.concatenate(ends))
    graph = coo_matrix((np.ones(pairs[0].size), pairs), shape=(starts[-1], starts[-1]))
    label = connected_components(graph, directed=False)[1]
    return np.unique(label[first], return_inverse=True)[1].astype(np.int64)


def _local_levels(label: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, int]:
    """Number of each row's level within its block, and the largest number of levels of a block."""
    pairs, place = np.unique(np.stack([label, index], axis=1), axis=0, return_inverse=True)
    each = np.bincount(pairs[:, 0], minlength=int(label.max()) + 1)
    first = np.cumsum(each) - each
    place = place.reshape(-1)
    return place - first[label], int(each.max())
