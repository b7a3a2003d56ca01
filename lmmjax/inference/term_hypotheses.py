"""The hypotheses that an analysis of variance tests of each term: types I, II and III.

They are those of lmerTest (and SAS). With ``X = Q R`` (R of unit diagonal):

- type I: the rows of R of a term's columns (each term adjusted for those before it);
- type II: the same with a term's columns, and those of the terms that contain it, moved last
  (each term adjusted for all that do not contain it);
- type III: a term's part of the estimable functions of the model with all indicator columns, made
  orthogonal to those of the terms that contain it (in a design without empty cells: equality of
  unweighted means).

Columns are centred (where there is an intercept) and brought to unit length before anything is
decided about them, because neither a unit nor an origin may change a hypothesis. The intercept's
own row is never needed: no term contains it in the sense of type II or III, and no type tests it.

Source: SAS/STAT User's Guide, "The Four Types of Estimable Functions".
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.checks import independent_columns
from lmmjax.formula import write_factor

if TYPE_CHECKING:
    from lmmjax.coding import PartCoder
    from lmmjax.result import LinearMixedModelResult

#: A part of a column, relative to its length, that is zero but for rounding.
ROUNDING = 1e-12
#: The same of a solution, in which the columns' condition (1e7 at most) has multiplied it.
SOLVED = 1e-8


def coder_of_rows(fit: LinearMixedModelResult, contrasts: bool) -> PartCoder:
    """Return a coder of the fit's own rows, with its contrasts or with treatment contrasts."""
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
    return PartCoder(columns, deepcopy(coding.state), coding.env)


def numeric_factors(coder: PartCoder, factors: set[str]) -> set[str]:
    """Return those of a model's factors that are numbers, which are not indicators of levels."""
    numeric = set()
    for factor in factors:
        made = full_columns(coder, (factor,))
        indicators = np.all((made == 0.0) | (made == 1.0)) and np.all(made.sum(axis=1) == 1.0)
        if not (indicators and (made.shape[1] > 1 or factor in coder.columns.levels)):
            numeric.add(factor)
    return numeric


def full_columns(coder: PartCoder, factors: tuple[str, ...]) -> np.ndarray:
    """Return the columns of a term by itself, a factor by all its levels."""
    names = [write_factor(f, coder.columns) for f in factors]
    return coder.code("0 + " + ":".join(names))[1]


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


def unit_columns(X: np.ndarray, centre: bool) -> tuple[np.ndarray, np.ndarray]:
    """Columns, shape (n, k), centred where asked, of length 1 (or 0), and their lengths."""
    size = np.abs(X).max(axis=0, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    X = X / size
    if centre:
        X = X - X.mean(axis=0)
        # A second pass removes what rounding left of a large mean.
        X = X - X.mean(axis=0)
    length = np.linalg.norm(X, axis=0)
    alive = length > ROUNDING * np.sqrt(len(X))
    length = np.where(alive, length, 1.0)
    return np.where(alive, X / length, 0.0), size * length


def coordinates(columns: np.ndarray, basis: np.ndarray, centre: bool) -> np.ndarray:
    """Return K with ``columns = basis K``, shape (k, m), but for constants if `centre`.

    Parameters
    ----------
    columns : ndarray, shape (n, m)
        In the span of the basis (and a constant).
    basis : ndarray, shape (n, k)
        Independent columns.
    centre : bool
        Whether the model has an intercept, which takes up constants.

    Notes
    -----
    An entry is zero where its part of the column is, relative to the column's length.
    """
    unit, size = unit_columns(basis, centre)
    wanted, length = unit_columns(columns, centre)
    q, r = np.linalg.qr(unit)
    found = np.linalg.solve(r, q.T @ wanted)
    found[np.abs(found) < SOLVED] = 0.0
    K = found * length / size[:, None]
    # Most are columns of the basis themselves, or sums of a few: exactly so.
    whole = np.round(K)
    return np.where((whole != 0.0) & (np.abs(K - whole) < SOLVED), whole, K)


def sequential(X: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Return ``R`` with unit diagonal of ``X = Q R``, shape (p, p).

    Parameters
    ----------
    X : ndarray, shape (n, p)
    intercept : ndarray of bool, shape (p,)
        Which column is the intercept; its row of R is left as that of the identity.
    """
    R = np.eye(X.shape[1])
    others = ~intercept
    unit, size = unit_columns(X[:, others], bool(intercept.any()))
    # The conversion is for NumPy's type stubs.
    r = np.asarray(np.linalg.qr(unit, mode="r"))
    r[np.abs(r) < ROUNDING] = 0.0
    R[np.ix_(others, others)] = r / np.diagonal(r)[:, None] * (size / size[:, None])
    return R


def type_one(X: np.ndarray, assign: np.ndarray, count: int) -> list[np.ndarray]:
    """Contrasts of each of ``count`` terms, adjusted for the terms before it."""
    rows = sequential(X, assign == 0)
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
        rows[:, order] = sequential(X[:, order], assign[order] == 0)
        out.append(rows[own[order]])
    return out


def type_three(
    fit: LinearMixedModelResult, contained: list[tuple[int, ...]], coder: PartCoder
) -> list[np.ndarray]:
    """Contrasts of each term that do not depend on how often each cell was observed.

    Notes
    -----
    ``full = base K`` are the columns of the model with all indicators, so that the coefficients of
    the base are ``K theta`` and its functions ``u' base coefficients`` are ``(K' u)' theta``. Those
    of a term are its columns of K', less what lies in those of the terms that contain it; ``U``
    keeps what this makes of u, which is the hypothesis.
    """
    coding = fit.design.coding
    X, base, assign = fit.design.X, fit.design.X, np.array(coding.assign)
    centre = coding.has_intercept
    if coding.contrasts:
        # Degrees of freedom of several-df tests depend on the basis: treatment contrasts', always.
        part, base = coder_of_rows(fit, contrasts=False).code(coding.fixed.text)
        keep = independent_columns(base, 0 if part.names[:1] == ("(Intercept)",) else None)
        base, assign = base[:, keep], np.array(part.assign)[keep]
    full = np.concatenate([full_columns(coder, f) for f in coding.term_factors], axis=1)
    tested = assign > 0
    to_base = np.eye(len(assign))[tested]
    base, assign = base[:, tested], assign[tested]
    if coding.contrasts:
        to_base = coordinates(X, base, centre)
    G = coordinates(full, base, centre).T
    U = np.eye(len(assign))
    for t in sorted(range(len(contained)), key=lambda t: -len(coding.term_factors[t])):
        own, above = assign == t + 1, np.isin(assign, [a + 1 for a in contained[t]])
        if above.any() and own.any():
            inside = G[:, above]
            size = np.linalg.norm(inside, axis=0)
            shares = np.linalg.lstsq(inside / size, G[:, own], rcond=1e-10)[0] / size[:, None]
            G[:, own] -= inside @ shares
            U[:, own] -= U[:, above] @ shares
    U[np.abs(U) < SOLVED] = 0.0
    return [U[:, assign == t + 1].T @ to_base for t in range(len(contained))]


def hypotheses_of_terms(fit: LinearMixedModelResult, type: str) -> dict[str, np.ndarray]:
    """Return the contrasts of each term, shape (q, p), by its name; q may be 0."""
    coding = fit.design.coding
    names, assign, X = coding.term_names, np.array(coding.assign), fit.design.X
    if not X.shape[1]:
        return {}
    if type == "I" or len(names) <= 1:
        rows = type_one(X, assign, len(names))
    else:
        coder = coder_of_rows(fit, contrasts=True)
        factors = {f for each in coding.term_factors for f in each}
        contained = containing(coding.term_factors, numeric_factors(coder, factors))
        if type == "II":
            rows = type_two(X, assign, contained)
        else:
            rows = type_three(fit, contained, coder)
    return dict(zip(names, rows, strict=True))
