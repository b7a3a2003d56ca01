"""One form for every column, and the levels of factors."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import DataError

#: From here on floats no longer hold every integer.
EXACT = 2.0**53

_NARROW = {"float32": np.float32, "float16": np.float16, "Float32": np.float32}


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
        if self.dtype in _NARROW:
            # The shortest text that tells narrow floats apart is that of their own precision.
            values = np.array(values, _NARROW[self.dtype])
        labels = tuple(map(label, values))
        if self.kind in ("factor", "other") and len(set(labels)) < len(labels):
            raise self._alike(labels)
        return drop_unused(codes, labels)

    def _alike(self, labels: tuple[str, ...]) -> DataError:
        """The error for two categories that would have one label."""
        twice = next(lab for k, lab in enumerate(labels) if lab in labels[:k])
        same = [c for c, lab in zip(self.categories, labels, strict=True) if lab == twice]
        return DataError(
            f"column {self.name!r} holds {same[0]!r} and {same[1]!r}, which are different values "
            "with the same label: make them one type, or write them apart"
        )

    def identifiers(self) -> None:
        """Raise DataError if these cannot tell levels apart: whole numbers rounded to floats."""
        if self.kind != "number" or self.values.dtype.kind != "f" or not self.values.size:
            return
        size = np.abs(self.values)
        largest = np.nanmax(size, initial=0.0)
        if largest >= EXACT and np.isfinite(largest):
            row = int(np.nanargmax(size))
            raise DataError(
                f"column {self.name!r} holds whole numbers beyond 2^53 stored as floats, which "
                f"rounds them, so that neighbours are one (row {row}: {self.values[row]:.0f}): "
                "read the column as text, or as Int64, which has missing values too"
            )

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
    """Write a category's label, another one for each value: ``308`` for 308 and for 308.0.

    Fifteen digits, as R writes them, where they tell a float from its neighbours; more where they
    do not. TRUE and FALSE are R's too.

    Examples
    --------
    >>> label(0.1), label(0.1 + 0.2), label(1e15), label(1e300), label(True)
    ('0.1', '0.30000000000000004', '1000000000000000', '1e+300', 'TRUE')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (float, np.floating)):
        # A narrow float's own text is shorter than that of the double it becomes.
        number = float(value) if isinstance(value, float) else float(str(value))
        if abs(number) < 2.0**64 and number == int(number):
            return str(int(number))
        short = f"{number:.15g}"
        return short if float(short) == number else repr(number)
    if isinstance(value, (bool, np.bool_)):
        return "TRUE" if value else "FALSE"
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
