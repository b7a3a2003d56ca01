"""Tables of means and contrasts, laid out as R's emmeans prints them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.columns import label
from lmmjax.reading.numbers import same_decimals, table, zap_small

if TYPE_CHECKING:
    import pandas as pd

RATIOS = ("t.ratio", "z.ratio", "F.ratio")


def _digits(frame: pd.DataFrame, estimate: str) -> int:
    """Significant digits that tell each estimate from its ends two standard errors away."""
    if "SE" not in frame:
        return 7
    digits = 3
    for value, se in zip(frame[estimate], frame["SE"], strict=True):
        ends = np.array([value - 2.0 * se, value, value + 2.0 * se])
        largest = np.abs(ends).max()
        if not largest > 0:
            continue
        low, high = ends.min() / largest, ends.max() / largest
        spread = float(zap_small(np.array([high - low, low, high]), 8)[0])
        if spread > 0:
            digits = max(digits, round(1.51 - math.log10(spread)))
    return digits


def _missing(texts: list[str], values: np.ndarray, word: str = "NA") -> list[str]:
    return [t if v == v else word for t, v in zip(texts, values, strict=True)]


def _cells(frame: pd.DataFrame, estimate: str) -> tuple[dict[str, list[str]], str]:
    """Texts of each column, and how it is aligned."""
    digits = _digits(frame, estimate)
    cells, align = {}, ""
    for name in frame:
        values = frame[name].to_numpy()
        if values.dtype.kind not in "fiu":
            cells[str(name)] = [label(v) for v in values]
            align += "l"
            continue
        align += "r"
        x = zap_small(values.astype(np.float64), 7) if np.isfinite(values).all() else values
        if name in RATIOS:
            texts = [f"{v:.3f}" for v in x]
        elif name == "p.value":
            texts = [f"{v:.4f}" if v >= 0.00005 else "<.0001" for v in values]
        else:
            rounded = np.round(x.astype(np.float64), 2) if name in ("df", "df2") else x
            texts = [t.strip() for t in same_decimals(rounded.tolist(), digits)]
        cells[str(name)] = _missing(texts, values, "nonEst" if name == estimate else "NA")
    return cells, align


def _tables(
    frame: pd.DataFrame, estimate: str, by: Sequence[str]
) -> list[tuple[str, list[str], list[list[str]], str]]:
    """Title, header, rows and alignment of each table."""
    cells, align = _cells(frame, estimate)
    shown = [name for name in cells if name not in by]
    sides = "".join(a for a, name in zip(align, cells, strict=True) if name not in by)
    titles = [", ".join(f"{name} = {cells[name][row]}" for name in by) for row in range(len(frame))]
    out = []
    for title in dict.fromkeys(titles):
        rows = [row for row, own in enumerate(titles) if own == title]
        out.append((title, shown, [[cells[name][r] for name in shown] for r in rows], sides))
    return out


def text_of(frame: pd.DataFrame, estimate: str, by: Sequence[str], messages: Sequence[str]) -> str:
    """The tables as text, one for each level of `by`, and the messages under them."""
    made = _tables(frame, estimate, by)
    # One width for all tables: those of the rows together.
    header, sides = made[0][1], made[0][3]
    lines = table(header, [row for _, _, rows, _ in made for row in rows], sides)
    out: list[str] = []
    at = 1
    for title, _, rows, _ in made:
        if title:
            out.append(f"{title}:")
        out += [" " + lines[0], *(" " + line for line in lines[at : at + len(rows)]), ""]
        at += len(rows)
    return "\n".join([*out, *messages]).rstrip("\n")


def html_of(frame: pd.DataFrame, estimate: str, by: Sequence[str], messages: Sequence[str]) -> str:
    """The tables for notebooks."""
    from html import escape

    from lmmjax.reading.html import html_table

    parts = [
        html_table(header, rows, sides.count("l") or 1, title)
        for title, header, rows, sides in _tables(frame, estimate, by)
    ]
    parts += [f"<p>{escape(line)}</p>" for line in messages]
    return f"<div>{''.join(parts)}</div>"


class Shown:
    """Something with a frame, and lines to stand under it."""

    frame: pd.DataFrame
    by: tuple[str, ...]
    estimate_name: str
    messages: tuple[str, ...]

    def __str__(self) -> str:
        return text_of(self.frame, self.estimate_name, self.by, self.messages)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_of(self.frame, self.estimate_name, self.by, self.messages)

    def to_frame(self) -> pd.DataFrame:
        """The table as a frame of its own."""
        return self.frame.copy()
