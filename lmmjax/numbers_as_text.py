"""Numbers that a column holds as text: which value is in the way, and what would read them.

A file with ``n/a`` for a missing value, or with decimal commas, gives a column of text. Everything
that then asks for numbers explains itself with the words of this module.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_EXPONENT = r"([eE][+-]?\d+)?"
_PLAIN = re.compile(rf"[+-]?(\d+\.?\d*|\.\d+){_EXPONENT}")
_COMMA = re.compile(rf"[+-]?(\d{{1,3}}(\.\d{{3}})+|\d+)?,\d+{_EXPONENT}")
_GROUPED = re.compile(rf"[+-]?\d{{1,3}}(,\d{{3}})+(\.\d+)?{_EXPONENT}")


@dataclass(frozen=True)
class Spelling:
    """How the distinct values of a column are written.

    Attributes
    ----------
    plain, comma, grouped : tuple of int
        Positions of those that are numbers as Python writes them; with a decimal comma
        (``3,5``, ``1.234,5``); with commas between thousands (``1,234.5``). One that may be either
        of the last two (``1,234``) counts as grouped if all that hold a comma may be.
    other : tuple of int
        Positions of those that are no number in any spelling.
    """

    plain: tuple[int, ...]
    comma: tuple[int, ...]
    grouped: tuple[int, ...]
    other: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many are numbers in one spelling or another."""
        return len(self.plain) + len(self.comma) + len(self.grouped)


def spelling(values: Sequence[Any]) -> Spelling:
    """Sort the distinct values of a column by how they are written.

    Examples
    --------
    >>> spelling(["1", "2,5", "n/a"])
    Spelling(plain=(0,), comma=(1,), grouped=(), other=(2,))
    """
    texts = [str(value).strip() if not isinstance(value, bool) else "" for value in values]
    plain = tuple(i for i, text in enumerate(texts) if _PLAIN.fullmatch(text))
    commas = [i for i, text in enumerate(texts) if "," in text]
    grouped = tuple(i for i in commas if _GROUPED.fullmatch(texts[i]))
    comma = tuple(i for i in commas if _COMMA.fullmatch(texts[i]))
    if len(grouped) >= len(comma):
        comma = tuple(i for i in comma if i not in set(grouped))
    else:
        grouped = tuple(i for i in grouped if i not in set(comma))
    known = {*plain, *comma, *grouped}
    return Spelling(plain, comma, grouped, tuple(i for i in range(len(texts)) if i not in known))


def what_would_read(
    name: str, values: Sequence[Any], codes: np.ndarray, rows: np.ndarray | None = None
) -> str:
    """Say which value keeps a column from being read as numbers, and what would read it.

    Parameters
    ----------
    name : str
        The column.
    values : sequence
        Its distinct values.
    codes : np.ndarray of int, shape (n,)
        For each row the position of its value; negative where it is missing.
    rows : np.ndarray of int, shape (n,), optional
        Where these rows stood in the user's frame, if not in this order.

    Returns
    -------
    str
        An advice, without a full stop.

    Examples
    --------
    >>> print(what_would_read("x", ["1.5", "2", "n/a"], np.array([0, 1, 2])))
    row 2 holds 'n/a', which is no number: if it stands for a missing value, read the file with
    pandas.read_csv(..., na_values=['n/a']) (on the command line: --na-values n/a)
    >>> print(what_would_read("x", ["1,5", "2"], np.array([1, 0])))
    row 1 holds '1,5', with a decimal comma: read the file with pandas.read_csv(..., decimal=',')
    (on the command line: --decimal ,), or use data['x'].str.replace(',', '.').astype(float)
    """
    found = spelling(values)
    column = f"data[{name!r}]"

    def first(positions: Sequence[int]) -> tuple[int, Any]:
        at = int(np.argmax(np.isin(codes, positions)))
        return at if rows is None else int(rows[at]), values[int(codes[at])]

    advice = []
    if found.comma:
        row, value = first(found.comma)
        thousands = any("." in str(values[i]) for i in found.comma)
        options = "decimal=','" + (", thousands='.'" if thousands else "")
        flags = "--decimal ," + (" --thousands ." if thousands else "")
        undotted = f"{column}.str.replace('.', '')" if thousands else column
        advice.append(
            f"row {row} holds {value!r}, with a decimal comma: read the file with "
            f"pandas.read_csv(..., {options}) (on the command line: {flags}), or use "
            f"{undotted}.str.replace(',', '.').astype(float)"
        )
    if found.grouped:
        row, value = first(found.grouped)
        advice.append(
            f"row {row} holds {value!r}, with commas between thousands: read the file with "
            "pandas.read_csv(..., thousands=',') (on the command line: --thousands ,), or use "
            f"{column}.str.replace(',', '').astype(float)"
        )
    if found.other and found.numbers:
        row, value = first(found.other)
        shown = [values[i] for i in found.other[:3]]
        written = ", ".join(map(repr, shown))
        flags = " ".join(f"--na-values {_shell(str(v))}" for v in shown)
        advice.append(
            f"row {row} holds {value!r}, which is no number: if it stands for a missing value, "
            f"read the file with pandas.read_csv(..., na_values=[{written}]) (on the command "
            f"line: {flags})"
        )
    elif found.other:
        row, value = first(found.other)
        advice.append(f"row {row} holds {value!r}, which is no number")
    if not advice:
        return f"its values are numbers stored as text: convert it with pandas.to_numeric({column})"
    return "; ".join(advice)


def _shell(text: str) -> str:
    return text if re.fullmatch(r"[\w./+-]+", text) else f"'{text}'"
