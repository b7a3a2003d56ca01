"""Levels of grouping factors: the observed combinations of some columns, numbered as R does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .columns import Column, match_levels


@dataclass(frozen=True, eq=False)
class GroupCoding:
    """How the levels of a grouping factor are numbered.

    Attributes
    ----------
    factors : tuple of str
        The columns that are combined.
    factor_levels : tuple of tuple of str
        Labels of each column.
    codes : np.ndarray, shape (L,)
        For each level its place in the full crossing of `factor_levels`, the first factor slowest;
        increasing.
    levels : tuple of str
        Labels of the L observed combinations: ``"a:b"``.
    """

    factors: tuple[str, ...]
    factor_levels: tuple[tuple[str, ...], ...]
    codes: np.ndarray
    levels: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the grouping factor."""
        return ":".join(self.factors)

    def index(self, columns: Mapping[str, Column]) -> tuple[np.ndarray, np.ndarray]:
        """Level of each row, shape (n,), int32, -1 for none, and the rows with unknown levels."""
        crossed: Any = 0
        missing: Any = False
        for name, known in zip(self.factors, self.factor_levels, strict=True):
            columns[name].identifiers()
            codes, labels = columns[name].factor()
            codes, _ = match_levels(codes, labels, known)
            missing = missing | (codes < 0)
            crossed = crossed * len(known) + codes.astype(np.int64)
        at = np.minimum(np.searchsorted(self.codes, crossed), len(self.codes) - 1)
        found = (self.codes[at] == crossed) & ~missing
        return np.where(found, at, -1).astype(np.int32), np.flatnonzero(~found)


def code_group(
    factors: tuple[str, ...], columns: Mapping[str, Column]
) -> tuple[GroupCoding, np.ndarray]:
    """Number the observed combinations of some columns, and give each row its number.

    Returns
    -------
    GroupCoding
        The numbering.
    np.ndarray of int32, shape (n,)
        The level of each row.
    """
    for name in factors:
        columns[name].identifiers()
    coded = [columns[name].factor() for name in factors]
    factor_levels = tuple(labels for _, labels in coded)
    index, levels = coded[0]
    if len(factors) == 1:
        return GroupCoding(factors, factor_levels, np.arange(len(levels)), levels), index
    crossed = index.astype(np.int64)
    for codes, labels in coded[1:]:
        crossed = crossed * len(labels) + codes
    cells = 1
    for labels in factor_levels:
        cells *= len(labels)
    if cells <= 8 * len(crossed) + 1024:
        # Counting beats sorting while the full crossing is not much larger than the data.
        present = np.bincount(crossed, minlength=cells) > 0
        observed = np.flatnonzero(present)
        index = (np.cumsum(present, dtype=np.int32) - 1)[crossed]
    else:
        observed, index = np.unique(crossed, return_inverse=True)
        index = index.reshape(-1)
    rest = observed
    places = []
    for labels in reversed(factor_levels):
        rest, place = np.divmod(rest, len(labels))
        places.append(place.tolist())
    combined = list(zip(*reversed(places), strict=True))

    def joined(write: Callable[[str], str]) -> tuple[str, ...]:
        return tuple(
            ":".join(write(labels[p]) for labels, p in zip(factor_levels, row, strict=True))
            for row in combined
        )

    names = joined(str)
    if len(set(names)) < len(names):
        # "a:b" with "c" is another level than "a" with "b:c".
        names = joined(lambda lab: f"`{lab}`" if ":" in lab else lab)
    return GroupCoding(factors, factor_levels, observed, names), index.astype(np.int32)
