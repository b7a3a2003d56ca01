"""Analysis of variance of one model: a table of each term's F test, by types I, II and III."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.contrasts import check_method, f_table, f_test
from lmmjax.inference.term_hypotheses import hypotheses_of_terms
from lmmjax.reading.numbers import LEGEND, p_texts, same_decimals, star, table

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult

METHOD_NAMES = {
    "satterthwaite": "Satterthwaite's method",
    "kenward-roger": "Kenward-Roger's method",
    "asymptotic": "asymptotic tests",
}


@dataclass(frozen=True, eq=False)
class AnovaTable:
    """A table of tests: prints as in R, and is a frame.

    Attributes
    ----------
    heading : tuple of str
        Lines above the table.
    frame : pandas.DataFrame
        One row a term, or a model.
    hypotheses : dict of str to ndarray, each (q, p)
        The contrasts of each term; empty for a comparison of models.
    notes : tuple of str
        Lines below the table.
    """

    heading: tuple[str, ...]
    frame: pd.DataFrame
    hypotheses: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """The table as a frame of its own."""
        return self.frame.copy()

    def _cells(self) -> tuple[list[str], list[list[str]], bool]:
        columns: list[list[str]] = []
        marks: list[str] = []
        for name in self.frame:
            values = self.frame[name].to_numpy()
            if str(name).startswith("Pr(") and not marks:
                # The stars are the first p value's, wherever it stands.
                marks = [star(p) if p == p else "" for p in values]
            present = np.array([v == v for v in values])
            shown = values[present].tolist()
            if str(name).startswith("Pr("):
                texts = p_texts(shown)
            elif values.dtype.kind in "iu" or str(name) in ("Df", "npar", "Eliminated"):
                texts = [f"{v:.0f}" for v in shown]
            else:
                texts = same_decimals(shown, 5)
            filled = iter(texts)
            columns.append([next(filled) if ok else "" for ok in present])
        starred = any(marks)
        if starred:
            columns.append([m.ljust(3) for m in marks])
        rows = [
            [str(label), *cells]
            for label, cells in zip(self.frame.index, zip(*columns, strict=True), strict=True)
        ]
        header = ["", *map(str, self.frame.columns), *([" " * 3] if starred else [])]
        return header, rows, starred

    def __str__(self) -> str:
        if not len(self.frame):
            return "\n".join([*self.heading, "(the fixed part has no terms to test)"])
        header, rows, starred = self._cells()
        lines = [*self.heading, *table(header, rows, "l" + "r" * (len(header) - 1))]
        return "\n".join([*lines, *(["---", LEGEND] if starred else []), *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        from lmmjax.reading.html import html_table

        above = "".join(f"<p>{escape(line)}</p>" for line in self.heading)
        if not len(self.frame):
            return above
        header, rows, _ = self._cells()
        below = "".join(f"<p>{escape(line)}</p>" for line in self.notes)
        return f"<div>{above}{html_table(header, rows)}{below}</div>"


def anova_of_terms(fit: LinearMixedModelResult, type: str | int, ddf: str) -> AnovaTable:
    """F test of each term; :meth:`LinearMixedModelResult.anova` documents it."""
    kind = {"1": "I", "2": "II", "3": "III"}.get(str(type), type)
    if kind not in ("I", "II", "III"):
        raise LmmError(f"type must be 'I', 'II' or 'III', not {type!r}")
    ddf = check_method(ddf)
    hypotheses = {k: L for k, L in hypotheses_of_terms(fit, kind).items() if len(L)}
    tests = [f_test(fit, L, np.zeros(len(L)), ddf) for L in hypotheses.values()]
    heading = f"Type {kind} Analysis of Variance Table with {METHOD_NAMES[ddf]}"
    return AnovaTable((heading,), f_table(tests, list(hypotheses)), hypotheses)
