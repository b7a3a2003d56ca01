"""Checks of a design before anything is computed.

Errors for what cannot be fitted, one warning for each thing that can be but says little.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .columns import Column
from .errors import DataError, DesignWarning, RankWarning, ScaleWarning, warn
from .numbers_as_text import what_would_read

_RANK_TOLERANCE = 1e-7  # R's qr()
_SPAN_TOLERANCE = 1e-8  # part of a column, relative to it, that others may lack for rounding
_CONSTANT_TOLERANCE = 1e-12  # spread over size below which a column is rounding noise
_SCALE_RATIO = 1e6
_SMALLEST = 1e-152  # a response whose squares, and sums of them, are normal numbers


def finite_columns(columns: Mapping[str, Column], rows: np.ndarray) -> None:
    """Raise DataError at an infinite value; `rows` are positions in the user's frame."""
    for name, column in columns.items():
        if column.kind == "number" and column.values.dtype.kind == "f":
            bad = ~np.isfinite(column.values)
            if bad.any():
                row = int(np.argmax(bad))
                raise DataError(
                    f"column {name!r} has {int(bad.sum())} infinite value(s), the first "
                    f"({column.values[row]}) at row {int(rows[row])}: correct them or set them to "
                    "missing"
                )


def check_finite(matrix: np.ndarray, names: Sequence[str], rows: np.ndarray) -> None:
    """Raise DataError at an infinite value of a model matrix, shape (n, k)."""
    if np.isfinite(matrix).all():
        return
    row, j = np.argwhere(~np.isfinite(matrix))[0]
    raise DataError(
        f"{names[j]!r} is {matrix[row, j]} at row {int(rows[row])}: the transform has no finite "
        "value there"
    )


def check_response(y: np.ndarray, name: str) -> None:
    """Raise DataError for a response, shape (n,), that does not vary, or has no squares."""
    low, high = y.min(initial=np.inf), y.max(initial=-np.inf)
    if y.size and low == high:
        raise DataError(
            f"the response {name!r} has no variance: it is {y[0]:g} in all {len(y)} rows"
        )
    size = max(abs(low), abs(high))
    if y.size and not _SMALLEST <= size <= 1.0 / _SMALLEST:
        raise DataError(
            f"the response {name!r} is of the size {size:.0e}, whose square is no double-precision "
            f"number: give it in other units, such as {name} * 1e{-round(np.log10(size))}"
        )


def check_response_column(column: Column) -> None:
    """Raise DataError for a response column that does not hold numbers."""
    if column.kind == "number":
        return
    name = column.name
    if column.kind == "bool":
        raise DataError(
            f"the response {name!r} is boolean: a linear mixed model needs numbers. A yes/no "
            "response calls for a logistic model; if 0 and 1 are meant as numbers, use "
            "astype(float)"
        )
    raise DataError(f"the response {name!r} {not_numeric(column)}")


def not_numeric(column: Column, rows: np.ndarray | None = None) -> str:
    """Say that a column does not hold numbers, what it holds, and how it becomes numbers.

    `rows` are the positions of its rows in the user's frame.
    """
    holds_objects = column.dtype.startswith("object")
    if column.kind in ("text", "factor") or holds_objects:
        if not column.categories:
            return f"is not numeric: it has dtype {column.dtype} and no values"
        if all(isinstance(v, (int, float)) for v in column.categories):
            advice = f"convert it with pandas.to_numeric(data[{column.name!r}])"
        else:
            advice = what_would_read(column.name, column.categories, column.values, rows)
        return f"is not numeric (dtype {column.dtype}): {advice}"
    return f"holds {column.dtype} data: convert it to real numbers first"


def check_weights(weights: np.ndarray, rows: np.ndarray) -> None:
    """Raise DataError unless all weights, shape (n,), are positive and finite."""
    bad = ~(weights > 0) | ~np.isfinite(weights)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(
            f"weights must be positive and finite: {int(bad.sum())} are not, the first "
            f"({weights[row]:g}) at row {int(rows[row])}; leave out rows that shall not count"
        )


def independent_columns(X: np.ndarray, intercept: int | None) -> np.ndarray:
    """Positions of the columns of X, shape (n, p), that are not combinations of earlier ones.

    R's limited pivoting: columns are taken in order, and one whose part orthogonal to those before
    it is shorter than 1e-7 of itself is left out. With an intercept column the others are centred
    first, so that lengths are spreads and a large mean hides nothing.

    Parameters
    ----------
    X : np.ndarray, shape (n, p)
        The columns.
    intercept : int or None
        Position of the intercept's column, if there is one.
    """
    p = X.shape[1]
    if p == 0 or (p == 1 and intercept == 0):
        return np.arange(p)
    size = np.abs(X).max(axis=0)
    scaled = X / np.where(size > 0, size, 1.0)
    if intercept is not None:
        centred = scaled - scaled.mean(axis=0)
        # A second pass removes what rounding left of a large mean.
        centred -= centred.mean(axis=0)
        centred[:, intercept] = 1.0
        scaled = centred
    norm = np.sqrt(np.einsum("ij,ij->j", scaled, scaled))
    alive = norm > _CONSTANT_TOLERANCE * np.sqrt(len(X))
    unit = scaled / np.where(alive, norm, 1.0)
    # A well-conditioned Gram matrix proves independence at a tenth of the cost.
    if alive.all() and np.linalg.eigvalsh(unit.T @ unit)[0] > 1e-8:
        return np.arange(p)
    order = list(range(p))
    if intercept is not None:
        # Centring has already taken the intercept out of the others.
        order.remove(intercept)
        order.insert(0, intercept)
    basis: list[np.ndarray] = []
    kept: list[int] = []
    for j in order:
        if not alive[j]:
            continue
        rest = unit[:, j].copy()
        for _ in range(2):  # twice is enough (Kahan; Parlett)
            for q in basis:
                rest -= (q @ rest) * q
        length = np.linalg.norm(rest)
        if length > _RANK_TOLERANCE and len(basis) < len(X):
            basis.append(rest / length)
            kept.append(j)
    return np.array(sorted(kept), np.int64)


def spanned(columns: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Whether each of the columns, shape (n, k), is a combination of those of X; shape (k,)."""
    size = np.linalg.norm(X, axis=0)
    q, _ = np.linalg.qr(X / np.where(size > 0, size, 1.0))
    left = columns - q @ (q.T @ columns)
    return np.linalg.norm(left, axis=0) <= _SPAN_TOLERANCE * np.linalg.norm(columns, axis=0)


def warn_dropped(dropped: Sequence[str]) -> None:
    """Say which fixed-effects columns were dropped."""
    one = len(dropped) == 1
    warn(
        f"{'a fixed-effects column is a combination' if one else 'fixed-effects columns are '}"
        f"{'' if one else 'combinations'} of earlier ones, to one part in 10 million, and "
        f"{'was' if one else 'were'} dropped: {', '.join(map(repr, dropped))}; the fit is the "
        "same but for that part. Leave redundant terms out if their coefficients matter, and give "
        "a small difference that matters as a column of its own",
        RankWarning,
    )


def check_size(n: int, p: int) -> None:
    """Raise DataError unless there are more rows than fixed-effects columns."""
    if n <= p:
        raise DataError(
            f"there are {n} complete rows for {p} fixed-effects coefficients: more rows than "
            "coefficients are needed"
        )


def check_term(term: Any, n: int, equal_weights: bool, structured: bool = False) -> None:
    """Raise DataError for a random-effects term that these data cannot estimate.

    A term whose covariance has a structure (`structured`) may have as many effects as rows: an
    autoregression is told from the residual variance by its correlations.
    """
    L = len(term.levels)
    if L < 2:
        raise DataError(
            f"the grouping factor {term.group!r} has one level ({term.levels[0]!r}): a variance "
            "between groups needs at least two"
        )
    if not equal_weights:
        # Known, unequal weights tell the residual variance from the groups'.
        return
    for size in term.blocks:
        if L * size < n:
            continue
        if size == 1:
            raise DataError(
                f"the grouping factor {term.group!r} has {L} levels in {n} rows: with one row for "
                "each level its variance cannot be told from the residual variance. Use a coarser "
                "grouping factor, or leave the term out"
            )
        if structured:
            continue
        raise DataError(
            f"the term on {term.group!r} has {L * size} random effects ({L} levels x {size} "
            f"columns: {', '.join(term.columns)}) in {n} rows: their variances cannot be told from "
            "the residual variance. Leave slopes out, or uncorrelate them with '||'"
        )


def flat_slopes(term: Any) -> list[str]:
    """Columns of a term, other than the intercept, that vary within none of its groups."""
    if len(term.columns) == 1 and term.columns[0] == "(Intercept)":
        return []
    index, Z = term.index, term.Z
    L = len(term.levels)
    first = np.empty(L, np.int64)
    first[index[::-1]] = np.arange(len(index) - 1, -1, -1)
    at = first[index]
    has_intercept = "(Intercept)" in term.columns
    flat = []
    for j, name in enumerate(term.columns):
        column = Z[:, j]
        if name == "(Intercept)" or (column != column[at]).any():
            continue
        # Indicators without an intercept, (0 + sex | id), are a variance for each kind of group.
        if not has_intercept and ((column == 0) | (column == 1)).all():
            continue
        flat.append(name)
    return flat


def warn_flat(flat: Sequence[tuple[str, str]]) -> None:
    """Say which slopes vary within no group; `flat` holds (column, grouping factor)."""
    shown = ", ".join(f"{c!r} within {g!r}" for c, g in flat)
    column, group = flat[0]
    warn(
        f"random slopes of columns that do not vary within any group: {shown}. Only differences in "
        f"spread between groups inform their variances; usually (1 | {group}) is meant, with "
        f"{column} among the fixed effects",
        DesignWarning,
    )


def warn_scales(X: np.ndarray, names: Sequence[str]) -> None:
    """Say so if the numeric columns of X, shape (n, p), are on wildly different scales."""
    if X.shape[1] < 2:
        return
    spread = X.max(axis=0) - X.min(axis=0)
    spread[((X == 0) | (X == 1)).all(axis=0)] = 0.0  # indicators have no unit
    spread[[name == "(Intercept)" for name in names]] = 0.0
    on = np.flatnonzero(spread > 0)
    if len(on) < 2:
        return
    low, high = on[np.argmin(spread[on])], on[np.argmax(spread[on])]
    if spread[high] > _SCALE_RATIO * spread[low]:
        warn(
            f"predictors are on very different scales: {names[high]!r} spans {spread[high]:.1e}, "
            f"{names[low]!r} {spread[low]:.1e}. The fit itself does not depend on units, but the "
            "table is easier to read after rescaling (scale(x), or other units)",
            ScaleWarning,
        )
