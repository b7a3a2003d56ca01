"""One form for every column, and the levels of factors."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import DataError


@dataclass(frozen=True, eq=False)
class Column:
    """A column in the form that the design needs.

    Attributes
    ----------
    name : str
        Its name in the frame.
    kind : str
        ``"number"``, ``"bool"``, ``"factor"`` (declared categories), ``"text"`` (categories by
        sorting) or ``"other"`` (dates, complex numbers, mixed objects).
    values : np.ndarray, shape (n,)
        Numbers; booleans; or, of every other kind, codes into `categories` with -1 for missing.
    dtype : str
        What the frame called it, for messages.
    categories : tuple
        Values of the categories in order; empty for numbers and booleans.
    missing : np.ndarray of bool, shape (n,), or None
        True where a value is missing; None if none is.
    """

    name: str
    kind: str
    values: np.ndarray
    dtype: str
    categories: tuple = ()
    missing: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> "Column":
        """The column at some rows."""
        missing = None if self.missing is None else self.missing[rows]
        if missing is not None and not missing.any():
            missing = None
        return replace(self, values=self.values[rows], missing=missing)

    def numbers(self) -> np.ndarray:
        """The values as float64, shape (n,)."""
        return np.asarray(self.values, np.float64)

    def factor(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Codes, shape (n,), int32, and the labels of the categories that occur, in order.

        Missing values have code -1.
        """
        if self.kind in ("factor", "text", "other"):
            codes, values = self.values, self.categories
        elif self.kind == "bool":
            codes, values = self.values.astype(np.int32), (False, True)
        else:
            codes, values = factorize_numbers(self.values)
        if self.missing is not None:
            codes = np.where(self.missing, -1, codes)
        return drop_unused(codes, tuple(map(label, values)))

    def series(self) -> Any:
        """The column as a pandas Series, for expressions; text and factors as categoricals."""
        import pandas as pd

        if self.kind in ("factor", "text", "other"):
            return pd.Series(pd.Categorical.from_codes(self.values, list(self.categories)))
        return pd.Series(self.values)

    def describe(self, row: int) -> str:
        """The value at a row, for messages."""
        if self.kind in ("factor", "text", "other"):
            code = int(self.values[row])
            return "missing" if code < 0 else repr(self.categories[code])
        return repr(self.values[row].item())


def label(value: Any) -> str:
    """A category's label: ``308`` for 308 and 308.0, as R writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, (float, np.floating)):
        return f"{float(value):.15g}"
    return str(value)


def factorize_numbers(values: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Codes, shape (n,), and the sorted distinct values; NaN has code -1."""
    n = len(values)
    if values.dtype.kind == "i" and n:
        low = int(values.min())
        span = int(values.max()) - low + 1
        if span <= 4 * n + 1024:
            # Identifiers fill a short range: counting is much faster than sorting.
            shifted = values - low
            present = np.bincount(shifted, minlength=span) > 0
            codes = (np.cumsum(present, dtype=np.int32) - 1)[shifted]
            return codes, tuple((np.flatnonzero(present) + low).tolist())
    unique, codes = np.unique(values, return_inverse=True)
    codes = codes.astype(np.int32).reshape(-1)
    if unique.dtype.kind == "f" and len(unique) and np.isnan(unique[-1]):
        unique = unique[:-1]
        codes[codes == len(unique)] = -1
    return codes, tuple(unique.tolist())


def drop_unused(codes: np.ndarray, labels: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Renumber the codes so that only labels that occur remain, in their order."""
    if codes.size and codes.min() < 0:
        counts = np.bincount(codes[codes >= 0], minlength=len(labels))
    else:
        counts = np.bincount(codes, minlength=len(labels))
    if counts.all():
        return codes.astype(np.int32, copy=False), labels
    used = counts > 0
    new = np.cumsum(used, dtype=np.int32) - 1
    renumbered = np.where(codes < 0, np.int32(-1), new[codes])
    return renumbered, tuple(lab for lab, u in zip(labels, used.tolist(), strict=True) if u)


def match_levels(
    codes: np.ndarray, labels: tuple[str, ...], known: tuple[str, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Codes into `known` instead of `labels` (-1 where there is none), and the unknown labels."""
    if labels == known:
        return codes, ()
    place = {lab: i for i, lab in enumerate(known)}
    new = np.array([place.get(lab, -1) for lab in labels] + [-1], np.int32)
    return new[codes], tuple(lab for lab in labels if lab not in place)


def unseen_levels(name: str, unseen: tuple[str, ...], levels: tuple[str, ...]) -> DataError:
    """The error for categories that a fixed factor did not have."""
    return DataError(
        f"the factor {name!r} has levels that the fit did not see: "
        f"{', '.join(map(repr, unseen[:5]))}{', ...' if len(unseen) > 5 else ''}; it knows "
        f"{', '.join(map(repr, levels[:10]))}{', ...' if len(levels) > 10 else ''}"
    )
