"""Predictions, their standard errors and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.coding import Coding
from lmmjax.errors import DataError, LmmError, RankWarning, warn
from lmmjax.frames import Frame, column_from_values
from lmmjax.inference.estimability import estimability
from lmmjax.reading.coefficients import check_level, contrast_df, moved_rows, t_quantile

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult


@dataclass(frozen=True, eq=False)
class Rows:
    """Coded rows to predict for.

    Attributes
    ----------
    X : ndarray, shape (m, p)
    Z : list of ndarray, each (m, k_t)
        Of every term of the model; zero where a term is not included.
    levels : list of ndarray of int, each (m,)
        -1 for levels that the fit did not see.
    offset : ndarray, shape (m,)
    left_out : list of (int, ndarray)
        Terms that are not included, with their columns, where a prediction interval needs them.
    weights : ndarray, shape (m,)
    determined : ndarray of bool, shape (m,)
        Whether the data determine the fixed effects' part.
    """

    X: np.ndarray
    Z: list[np.ndarray]
    levels: list[np.ndarray]
    offset: np.ndarray
    left_out: list[tuple[int, np.ndarray]]
    weights: np.ndarray
    determined: np.ndarray


def predict(
    fit: LinearMixedModelResult,
    newdata: Any,
    *,
    include_re: bool | str | Sequence[str],
    allow_new_levels: bool,
    interval: str | None,
    level: float,
    se: bool,
    offset: Any,
    weights: Any,
) -> pd.Series | pd.DataFrame:
    """Do the work of :meth:`LinearMixedModelResult.predict`, which documents it."""
    import pandas as pd

    level = check_level(level)
    if interval not in (None, "confidence", "prediction"):
        raise LmmError(f"interval must be None, 'confidence' or 'prediction', not {interval!r}")
    included = _included(fit, include_re)
    future = interval == "prediction"
    index: pd.Index
    if newdata is None:
        if offset is not None or weights is not None:
            raise LmmError("offset and weights are for new rows: give newdata too")
        rows, where, index = _own_rows(fit, included), None, fit.index
    else:
        frame = Frame(newdata)
        rows, where, n = _new_rows(fit, frame, included, allow_new_levels, future, offset, weights)
        own = getattr(newdata, "index", None)
        index = own if isinstance(own, pd.Index) else pd.RangeIndex(n)
    columns = {"fit": rows.X @ fit.beta + rows.offset}
    for t in included:
        effects = np.sum(rows.Z[t] * fit.raw.modes[t][np.maximum(rows.levels[t], 0)], axis=1)
        columns["fit"] += np.where(rows.levels[t] >= 0, effects, 0.0)
    if se or interval:
        variance = _variance(fit, rows, included)
        if se:
            columns["se"] = np.sqrt(variance)
        if interval:
            df = np.full(len(variance), np.inf)
            if future:
                variance = variance + fit.sigma**2 / rows.weights
                for t, Z in rows.left_out:
                    half = Z @ fit.raw.factors[t]
                    variance = variance + fit.sigma**2 * np.sum(half**2, axis=1)
            elif not included:
                df = contrast_df(rows.X, fit.raw.estimate.fixed)
            # A row of zeros has no uncertainty, and no degrees of freedom.
            half = t_quantile(level, np.where(variance > 0, df, np.inf)) * np.sqrt(variance)
            columns["lower"], columns["upper"] = columns["fit"] - half, columns["fit"] + half
    if not rows.determined.all():
        for values in columns.values():
            values[~rows.determined] = np.nan
        at = np.arange(len(index)) if where is None else where
        _warn_undetermined(index[at[~rows.determined]], len(index))
    if where is not None and len(where) < len(index):
        for name, values in columns.items():
            columns[name] = np.full(len(index), np.nan)
            columns[name][where] = values
    if list(columns) == ["fit"]:
        return pd.Series(columns["fit"], index=index, name="fit")
    return pd.DataFrame(columns, index=index)


def _warn_undetermined(labels: pd.Index, count: int) -> None:
    """Name the rows for which there is no prediction."""
    some = len(labels)
    shown = ", ".join(map(str, labels[:5])) + (", ..." if some > 5 else "")
    warn(
        f"{some} of {count} predictions {'is' if some == 1 else 'are'} NaN, at row"
        f"{'' if some == 1 else 's'} {shown}: the data of the fit do not determine the fixed "
        "effects there (columns were dropped: a combination of levels without rows, or a copy of "
        "another column that is none here). Predict where there are data, or leave the "
        "interaction out of the formula",
        RankWarning,
    )


def _included(fit: LinearMixedModelResult, include_re: bool | str | Sequence[str]) -> list[int]:
    """Positions of the terms to include."""
    groups = [term.group for term in fit.design.terms]
    if isinstance(include_re, (bool, np.bool_)):
        return list(range(len(groups))) if include_re else []
    names = [include_re] if isinstance(include_re, str) else include_re
    if not isinstance(names, Sequence):
        raise LmmError(
            f"include_re must be True, False or names of grouping factors, not {include_re!r}"
        )
    for name in names:
        if name not in groups:
            raise LmmError(
                f"include_re names {name!r}, which is no grouping factor of the model: they are "
                f"{', '.join(map(repr, groups))}"
            )
    return [t for t, group in enumerate(groups) if group in names]


def _own_rows(fit: LinearMixedModelResult, included: list[int]) -> Rows:
    """The rows of the fit."""
    design = fit.design
    return Rows(
        X=design.X,
        Z=[
            term.Z if t in included else np.zeros_like(term.Z)
            for t, term in enumerate(design.terms)
        ],
        levels=[term.index for term in design.terms],
        offset=design.offset,
        left_out=[(t, term.Z) for t, term in enumerate(design.terms) if t not in included],
        weights=design.weights,
        determined=np.ones(design.n, bool),
    )


def _new_rows(
    fit: LinearMixedModelResult,
    frame: Frame,
    included: list[int],
    allow_new_levels: bool,
    future: bool,
    offset: Any,
    weights: Any,
) -> tuple[Rows, np.ndarray, int]:
    """New rows, their positions among all n new rows, and n."""
    design, coding = fit.design, fit.design.coding
    new = _part(coding, included).new_data(
        frame.data, allow_new_levels=allow_new_levels, random=bool(included), offset=offset
    )
    m = len(new.row_index)
    own = dict(zip(included, new.terms, strict=True))
    Z = [
        own[t].Z if t in own else np.zeros((m, term.Z.shape[1]))
        for t, term in enumerate(design.terms)
    ]
    levels = [
        own[t].index if t in own else _parents(fit, t, own, m) for t in range(len(design.terms))
    ]
    others = [t for t in range(len(design.terms)) if t not in own]
    left_out: list[tuple[int, np.ndarray]] = []
    keep = np.arange(m)
    if future and others:
        extra = _part(coding, others).new_data(
            _without_groups(coding, others, frame),
            allow_new_levels=True,
            offset=np.zeros(new.n_rows) if coding.offset_source is not None else None,
        )
        # A row may lack a predictor that only the terms left out need.
        _, keep, take = np.intersect1d(new.row_index, extra.row_index, return_indices=True)
        left_out = [(t, term.Z[take]) for t, term in zip(others, extra.terms, strict=True)]
    rows = new.row_index[keep]
    return (
        Rows(
            X=new.X[keep],
            Z=[z[keep] for z in Z],
            levels=[i[keep] for i in levels],
            offset=new.offset[keep],
            left_out=left_out,
            weights=_weights(frame, weights, new.n_rows)[rows],
            determined=_determined(fit, new.X[keep], new.dropped[keep]),
        ),
        rows,
        new.n_rows,
    )


def _determined(fit: LinearMixedModelResult, X: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Whether the data determine the fixed effects' part of new rows, shape (m,)."""
    if not dropped.shape[1]:
        return np.ones(len(X), bool)
    return np.all(estimability(fit).gap(X, dropped) == 0.0, axis=1)


def _part(coding: Coding, terms: list[int]) -> Coding:
    """The coding with some of the random-effects terms only."""
    random = tuple(coding.random[t] for t in terms)
    factors = {group.factors for group, _ in random}
    bars = tuple(bar for bar in coding.spec.bars if bar.group in factors)
    return replace(coding, random=random, spec=replace(coding.spec, bars=bars))


def _without_groups(coding: Coding, terms: list[int], frame: Frame) -> dict[str, Any]:
    """The frame's columns, with a level that is unknown for grouping factors left out."""
    spec = coding.spec
    used = {*spec.names, *(name for bar in spec.bars for name in bar.names)}
    columns = {name: frame.data[name] for name in frame.names if name in spec.variables}
    blank = np.full(frame.length(), "(unknown)", dtype=object)
    for t in terms:
        for name in coding.random[t][0].factors:
            if name not in used:
                columns[name] = blank
    return columns


def _parents(fit: LinearMixedModelResult, t: int, own: dict[int, Any], m: int) -> np.ndarray:
    """Levels of a term that is not included, where a term that is included is nested in it.

    The variance of a nested level's effect depends on the data of its whole parent level.
    """
    levels = np.full(m, -1, np.int32)
    outer = fit.design.terms[t]
    for s, rows in own.items():
        inner = fit.design.terms[s]
        parent = np.zeros(len(inner.levels), np.int32)
        parent[inner.index] = outer.index
        if np.array_equal(parent[inner.index], outer.index):
            levels = np.where((rows.index >= 0) & (levels < 0), parent[rows.index], levels)
    return levels


def _weights(frame: Frame, weights: Any, n: int) -> np.ndarray:
    """Weights of all n new rows."""
    if weights is None:
        return np.ones(n)
    column = (
        frame.column(weights)
        if isinstance(weights, str)
        else column_from_values("weights", weights)
    )
    if column.kind != "number" or len(column.values) != n:
        raise DataError(f"weights must be {n} numbers, one for each new row")
    values = column.numbers()
    if not (values > 0).all():
        raise DataError("weights must be positive")
    return values


def _variance(fit: LinearMixedModelResult, rows: Rows, included: list[int]) -> np.ndarray:
    """Variance of the predicted mean, shape (m,)."""
    if included:
        return fit.raw.linear_variances(rows.X, rows.Z, rows.levels)
    return np.sum(moved_rows(rows.X, fit.raw.estimate.fixed) ** 2, axis=1)
