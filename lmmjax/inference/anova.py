"""Analysis of variance of one model: each term's F test, by types I, II and III.

Hypotheses as lmerTest (and SAS) define them. With ``X = Q R`` (R of unit diagonal):

- type I: the rows of R of a term's columns (each term adjusted for those before it);
- type II: the same with a term's columns, and those of the terms that contain it, moved last
  (each term adjusted for all that do not contain it);
- type III: a term's part of the estimable functions of the model with all indicator columns, made
  orthogonal to those of the terms that contain it (in a design without empty cells: equality of
  unweighted means).

Source: SAS/STAT User's Guide, "The Four Types of Estimable Functions".
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.contrasts import check_method, f_table, f_test
from lmmjax.reading.numbers import LEGEND, p_texts, same_decimals, star, table

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.coding import PartCoder
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
            return "\n".join([*self.heading, "(no terms but the intercept)"])
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


def sequential(X: np.ndarray) -> np.ndarray:
    """``R`` with unit diagonal of ``X = Q R``, shape (p, p)."""
    # The conversion is for NumPy's type stubs.
    r = np.asarray(np.linalg.qr(X, mode="r"))
    r = r / np.diagonal(r)[:, None]
    return np.where(np.abs(r) < 1e-12 * np.abs(r).max(), 0.0, r)


def _numeric_factors(coder: PartCoder, factors: set[str]) -> set[str]:
    """Those of a model's variables that are numbers: their columns are not indicators of levels."""
    numeric = set()
    for factor in factors:
        made = _full_columns(coder, (factor,))
        indicators = np.all((made == 0.0) | (made == 1.0)) and np.all(made.sum(axis=1) == 1.0)
        if not (indicators and (made.shape[1] > 1 or factor in coder.columns.levels)):
            numeric.add(factor)
    return numeric


def _full_columns(coder: PartCoder, factors: tuple[str, ...]) -> np.ndarray:
    """Columns of a term by itself, a factor by all its levels."""
    names = [f"`{f}`" if f in coder.columns and not f.isidentifier() else f for f in factors]
    return coder.code("0 + " + ":".join(names))[1]


def _coder(fit: LinearMixedModelResult, contrasts: bool) -> PartCoder:
    """Codes the fit's own rows again, with its contrasts or with treatment contrasts."""
    from lmmjax.coding import Columns, PartCoder
    from lmmjax.frames import Frame
    from lmmjax.new_data import read_columns

    coding, rows = fit.design.coding, fit.design.row_index
    frame = Frame(fit.data)
    named = read_columns(frame, dict.fromkeys(coding.spec.names))
    columns = Columns(
        {name: column.take(rows) for name, column in named.items()},
        len(rows),
        dict(coding.levels),
        coding.contrasts if contrasts else {},
        frame.names,
        set(coding.numeric),
    )
    return PartCoder(columns, deepcopy(coding.state))


def containing(
    term_factors: tuple[tuple[str, ...], ...], numeric: set[str]
) -> list[tuple[int, ...]]:
    """For each term, those that contain it: all its factors, more of them, the same numbers."""
    sets = [frozenset(factors) for factors in term_factors]
    return [
        tuple(
            other
            for other, theirs in enumerate(sets)
            if own < theirs and own & numeric == theirs & numeric
        )
        for own in sets
    ]


def type_one(X: np.ndarray, assign: np.ndarray, count: int) -> list[np.ndarray]:
    """Contrasts of each of ``count`` terms, adjusted for the terms before it."""
    rows = sequential(X)
    return [rows[assign == t + 1] for t in range(count)]


def type_two(
    X: np.ndarray, assign: np.ndarray, contained: list[tuple[int, ...]]
) -> list[np.ndarray]:
    """Contrasts of each term, adjusted for the terms that do not contain it."""
    p = X.shape[1]
    out = []
    for t, above in enumerate(contained):
        if not above:
            # Last of all: the rows of R are those of the identity.
            out.append(np.eye(p)[assign == t + 1])
            continue
        late = np.isin(assign, [t + 1, *(a + 1 for a in above)])
        own = assign == t + 1
        order = np.concatenate([np.flatnonzero(~late), np.flatnonzero(late)])
        rows = np.zeros((p, p))
        rows[:, order] = sequential(X[:, order])
        out.append(rows[own[order]])
    return out


def type_three(
    fit: LinearMixedModelResult, contained: list[tuple[int, ...]], coder: PartCoder
) -> list[np.ndarray]:
    """Contrasts of each term that do not depend on how often each cell was observed."""
    coding = fit.design.coding
    X, base, assign = fit.design.X, fit.design.X, np.array(coding.assign)
    if coding.contrasts:
        # Degrees of freedom of several-df tests depend on the basis: treatment contrasts', always.
        part, base = _coder(fit, contrasts=False).code(coding.fixed.text)
        from lmmjax.checks import independent_columns

        keep = independent_columns(base, 0 if part.names[:1] == ("(Intercept)",) else None)
        base, assign = base[:, keep], np.array(part.assign)[keep]
    full = [np.ones((len(X), 1))] if coding.has_intercept else []
    full += [_full_columns(coder, factors) for factors in coding.term_factors]
    # Only inner products of columns matter: work with the triangle instead of n rows.
    stacked = np.concatenate([X, base, *full], axis=1)
    triangle = np.asarray(np.linalg.qr(stacked, mode="r"))
    p = X.shape[1]
    X_r, base_r, full_r = triangle[:, :p], triangle[:, p : 2 * p], triangle[:, 2 * p :]
    # Rows of G: the indicator model's parameters; columns: estimable functions of them.
    G = np.linalg.lstsq(base_r, full_r, rcond=None)[0].T
    to_full = np.linalg.pinv(full_r, rcond=1e-10) @ X_r
    out: list[np.ndarray] = [np.zeros((0, p))] * len(contained)
    for t in sorted(range(len(contained)), key=lambda t: -len(coding.term_factors[t])):
        own, above = assign == t + 1, np.isin(assign, [a + 1 for a in contained[t]])
        functions = G[:, own]
        if above.any():
            inside = G[:, above]
            functions = functions - inside @ np.linalg.lstsq(inside, functions, rcond=1e-10)[0]
            G[:, own] = functions
        rows = functions.T @ to_full
        rows[np.abs(rows) < 1e-10 * max(1.0, np.abs(rows).max(initial=0.0))] = 0.0
        out[t] = rows[np.sum(np.abs(rows), axis=1) > 1e-8]
    return out


def hypotheses_of_terms(fit: LinearMixedModelResult, type: str) -> dict[str, np.ndarray]:
    """Contrasts of each term, shape (q, p), by its name."""
    coding = fit.design.coding
    names, assign, X = coding.term_names, np.array(coding.assign), fit.design.X
    if type == "I" or len(names) <= 1 or X.shape[1] <= 1:
        rows = type_one(X, assign, len(names))
    else:
        coder = _coder(fit, contrasts=True)
        factors = {f for each in coding.term_factors for f in each}
        contained = containing(coding.term_factors, _numeric_factors(coder, factors))
        if type == "II":
            rows = type_two(X, assign, contained)
        else:
            rows = type_three(fit, contained, coder)
    return dict(zip(names, rows, strict=True))


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
