"""Numbers as R prints them: columns of equal decimals, p values, abbreviated names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"), (0.1, "."))
LEGEND = "Signif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1"


def _split(value: float, digits: int) -> tuple[int, int]:
    """Decimal exponent, and digits after the first, of a value at `digits` significant digits."""
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    return int(exponent), len(mantissa.rstrip("0").partition(".")[2])


def same_decimals(values: Iterable[float], digits: int) -> list[str]:
    """Numbers with common decimals, enough for each to show `digits` significant digits.

    This is R's ``format()``: trailing zeros that no number needs are dropped, and scientific
    notation is used where it is narrower.

    Examples
    --------
    >>> same_decimals([612.0897, 35.0717, 654.941], 4)
    ['612.09', ' 35.07', '654.94']
    >>> same_decimals([1.3e-06], 3)
    ['1.3e-06']
    """
    values = [float(v) for v in values]
    finite = [v for v in values if math.isfinite(v)]
    decimals = mantissa = 0
    left = 1
    large = False
    for v in finite:
        if v == 0:
            continue
        exponent, after = _split(v, digits)
        decimals = max(decimals, after - exponent)
        mantissa = max(mantissa, after)
        left = max(left, exponent + 1)
        large = large or abs(exponent) >= 100
    sign = any(v < 0 for v in finite)
    fixed_width = sign + left + (decimals + 1 if decimals else 0)
    scientific_width = sign + 1 + (mantissa + 1 if mantissa else 0) + (5 if large else 4)
    style = f".{decimals}f" if fixed_width <= scientific_width else f".{mantissa}e"
    odd = {"nan": "NaN", "inf": "Inf", "-inf": "-Inf"}
    texts = [odd.get(str(v)) or format(v, style) for v in values]
    width = max(map(len, texts), default=0)
    return [t.rjust(width) for t in texts]


def p_texts(p: Sequence[float], digits: int = 3) -> list[str]:
    """P values as R's ``format.pval`` gives them.

    Examples
    --------
    >>> p_texts([1e-20, 3.2638e-06, 0.0123])
    ['< 2e-16', '3.26e-06', '0.0123']
    """
    p = [float(v) for v in p]
    eps = np.finfo(float).eps
    texts = ["NaN"] * len(p)
    groups: tuple[list[int], list[int]] = ([], [])
    for i, v in enumerate(p):
        if v >= eps:
            groups[0 if math.floor(math.log10(v)) >= -3 else 1].append(i)
    for group in groups:
        for i, text in zip(group, same_decimals([p[i] for i in group], digits), strict=True):
            texts[i] = text.strip()
    shown = [texts[i] for group in groups for i in group]
    below = f"< {eps:.0e}" if shown and max(map(len, shown)) > 6 else f"<{eps:.0e}"
    return [below if v < eps else t for v, t in zip(p, texts, strict=True)]


def star(p: float) -> str:
    """The star of a p value; empty if there is none."""
    return next((mark for bound, mark in STARS if p <= bound), "")


def coefficient_columns(
    left: np.ndarray, t: np.ndarray, digits: int = 4
) -> tuple[list[list[str]], list[str]]:
    """Estimates, errors and degrees of freedom (columns of `left`), and t values, as R prints them.

    As in ``printCoefmat``: rounded so that the smallest keeps `digits` significant digits, then
    with decimals in common.
    """
    size = np.abs(left[np.isfinite(left) & (left != 0)])
    magnitude = 1 + math.floor(math.log10(size.min())) if size.size else 0
    places = max(1, digits - magnitude)
    flat = same_decimals(np.round(left, places).ravel().tolist(), digits)
    rows = [flat[i * left.shape[1] : (i + 1) * left.shape[1]] for i in range(left.shape[0])]
    return rows, same_decimals(np.round(t, digits - 1).tolist(), digits)


def abbreviate(name: str, length: int) -> str:
    """A name shortened as by R's ``abbreviate``: vowels go first, then small letters, from the end.

    Examples
    --------
    >>> [abbreviate("temperature185", length) for length in (11, 6)]
    ['tempertr185', 'tmp185']
    """
    letters = list(name)
    for drop in ("aeiou", "abcdefghijklmnopqrstuvwxyz"):
        for i in range(len(letters) - 1, 0, -1):
            if len(letters) <= length:
                break
            if letters[i] in drop and letters[i - 1] != " ":
                del letters[i]
    return "".join(letters)


def zap_small(values: np.ndarray, digits: int) -> np.ndarray:
    """Numbers rounded to `digits` significant digits of the largest, as R's ``zapsmall``."""
    largest = float(np.max(np.abs(values), initial=0.0))
    if not (0.0 < largest < np.inf):
        return values
    return np.round(values, max(0, math.floor(digits - math.log10(largest) + 0.5))) + 0.0


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], align: str, separator: str = " "
) -> list[str]:
    """Lines of a table whose columns are aligned by `align`, one of "l" and "r" for each column."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, c)) for c in columns]
    lines = []
    for row in (header, *rows):
        cells = [
            c.ljust(w) if a == "l" else c.rjust(w)
            for c, w, a in zip(row, widths, align, strict=True)
        ]
        lines.append(separator.join(cells).rstrip())
    return lines
