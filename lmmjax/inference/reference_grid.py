"""The reference grid: all combinations of a model's predictors at which means are taken.

Factors stand at all their levels, numbers at their mean over the rows used; numbers with two values
count as factors, as in R's emmeans. Everything that follows is linear in the grid's rows, so a row
is kept as one vector: the model matrix's row, then what the data cannot tell (zero where a function
is estimable), then the offset.

Source: Searle, Speed & Milliken (1980), Am. Stat. 34, 216-221.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.coding import Columns, PartCoder
from lmmjax.columns import Column, label, match_levels
from lmmjax.errors import DataError, LmmError
from lmmjax.expressions import Call, Name, walk
from lmmjax.frames import Frame
from lmmjax.functions import LEVELS
from lmmjax.inference.estimability import estimability
from lmmjax.parser import value_of_factor

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult

#: Rows of a grid beyond which it is surely a mistake.
MAX_ROWS = 100_000
#: Numbers with at most so many values count as factors.
KEEP = 2
WEIGHTS = ("equal", "proportional", "outer", "cells", "flat")


@dataclass(frozen=True, eq=False)
class Variable:
    """A predictor: its levels in the grid, and how they are written in a frame.

    Attributes
    ----------
    name : str
    levels : ndarray, shape (L,)
        Labels of a factor, or numbers.
    codes : ndarray of int, shape (n,), or None
        Level of each row used, -1 for those at no level; None for a number at its mean or at given
        values.
    source : Column or None
        A factor's column, one row a level; None for a number.
    """

    name: str
    levels: np.ndarray
    codes: np.ndarray | None
    source: Column | None

    def __len__(self) -> int:
        return len(self.levels)

    def values(self, codes: np.ndarray) -> Any:
        """The variable where its levels are `codes`, as the fit's data had it."""
        if self.source is None:
            return self.levels.astype(np.float64)[codes]
        return self.source.take(codes).series()


@dataclass(frozen=True, eq=False)
class ReferenceGrid:
    """Linear functions at all combinations of the variables' levels.

    Attributes
    ----------
    fit : LinearMixedModelResult
    variables : tuple of Variable
        In the order of the formula.
    functions : ndarray, shape (L_1, ..., L_v, p + r + 1)
        Each cell's row of the model matrix, r coordinates that are zero where it is estimable, and
        its offset.
    counts : ndarray, shape (L_1, ..., L_v)
        Rows used in each cell, whatever the numbers that do not count as factors.
    """

    fit: LinearMixedModelResult
    variables: tuple[Variable, ...]
    functions: np.ndarray
    counts: np.ndarray

    def axis(self, name: str) -> int:
        """Position of a variable, or an error that says which there are."""
        names = [v.name for v in self.variables]
        if name not in names:
            raise LmmError(
                f"{name!r} is no predictor of the fixed effects: they are "
                f"{', '.join(map(repr, names)) or 'none'}"
            )
        return names.index(name)

    def averaged_over(self, kept: Sequence[str]) -> tuple[str, ...]:
        """Variables with several levels that are not among `kept`."""
        return tuple(v.name for v in self.variables if len(v) > 1 and v.name not in kept)

    def means(self, kept: Sequence[str], weights: Any = "equal") -> np.ndarray:
        """Functions at each combination of some variables, averaged over the others.

        Parameters
        ----------
        kept : sequence of str
        weights : str or array
            One of ``WEIGHTS``, or a number for each combination of the others (the first runs
            fastest).

        Returns
        -------
        ndarray, shape (m, p + r + 1)
            The first of `kept` runs fastest; NaN where no row has any weight.
        """
        own = [self.axis(name) for name in kept]
        others = [i for i in range(len(self.variables)) if i not in own]
        # The last axis of a C-ordered array runs fastest.
        order = own[::-1] + others[::-1]
        width = self.functions.shape[-1]
        m = int(np.prod([len(self.variables[i]) for i in own], dtype=int))
        cells = self.functions.transpose([*order, len(self.variables)]).reshape(m, -1, width)
        counts = self.counts.transpose(order).reshape(m, -1)
        if not counts.any():
            counts = np.ones_like(counts)
        w = _cell_weights(weights, counts, [len(self.variables[i]) for i in others[::-1]])
        total = w.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return np.einsum("mc,mcw->mw", w, cells) / np.where(total > 0, total, np.nan)


def _cell_weights(weights: Any, counts: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Weights, shape (m, c), of c cells that are averaged for each of m means."""
    if not isinstance(weights, str):
        w = np.asarray(weights, np.float64)
        if w.shape != (counts.shape[1],) or not np.all(np.isfinite(w)) or not w.sum() > 0:
            raise LmmError(
                f"weights has shape {w.shape}; it needs {counts.shape[1]} numbers with a positive "
                "sum, one for each combination of levels that is averaged over"
            )
        return np.broadcast_to(w, counts.shape)
    if weights == "equal":
        return np.ones(counts.shape)
    if weights == "proportional":
        return np.broadcast_to(counts.sum(axis=0), counts.shape)
    if weights == "outer":
        table = counts.sum(axis=0).reshape(sizes)
        product = np.ones(())
        for axis in range(table.ndim):
            margin = table.sum(axis=tuple(i for i in range(table.ndim) if i != axis))
            product = np.multiply.outer(product, margin / table.sum())
        return np.broadcast_to(product.reshape(-1), counts.shape)
    if weights == "cells":
        return counts
    if weights == "flat":
        return (counts > 0).astype(np.float64)
    known = ", ".join(map(repr, WEIGHTS))
    raise LmmError(f"weights must be one of {known}, or numbers, not {weights!r}")


class Predictors:
    """The variables at the rows used, and how they are coded; from these grids are made.

    Parameters
    ----------
    fit : LinearMixedModelResult
    """

    def __init__(self, fit: LinearMixedModelResult) -> None:
        from lmmjax.new_data import read_columns

        self.fit = fit
        design, coding = fit.design, fit.design.coding
        frame = Frame(fit.data)
        # After the response has been replaced, only predictors are still those of the frame.
        named = read_columns(frame, dict.fromkeys(coding.spec.names))
        self.columns = {name: column.take(design.row_index) for name, column in named.items()}
        self.coder = PartCoder(
            Columns(
                self.columns,
                design.n,
                dict(coding.levels),
                coding.contrasts,
                frame.names,
                set(coding.numeric),
            ),
            coding.state,
            coding.env,
        )
        self.estimability = estimability(fit)

    def is_factor(self, name: str) -> bool:
        """Whether a variable is coded by its levels, as a column or inside a call."""
        coding, column = self.fit.design.coding, self.columns[name]
        if name in coding.levels or column.kind != "number":
            return True
        read = (value_of_factor(f, self.columns) for term in coding.term_factors for f in term)
        return any(
            isinstance(node, Call)
            and node.function in LEVELS
            and node.arguments
            and isinstance(first := node.arguments[0][1], Name)
            and first.name == name
            for value in read
            for node in walk(value)
        )

    def step(self, name: str) -> float:
        """A small change of a number: a thousandth of its range."""
        values = self.columns[name].numbers()
        # A constant has no range; whatever its step, the data do not determine its effect.
        size = float(values.max() - values.min()) or float(np.abs(values).max()) or 1.0
        return 1e-3 * size

    def variables(self, at: Mapping[str, Any] | None) -> tuple[Variable, ...]:
        """All predictors, at their levels, their means, or the values of `at`."""
        given = dict(at or {})
        for name in given:
            if name not in self.columns:
                known = ", ".join(map(repr, self.columns)) or "none"
                raise LmmError(
                    f"at names {name!r}, which is no predictor of the fixed effects: they are "
                    f"{known}"
                )
        return tuple(
            self._factor(name, given.get(name))
            if self.is_factor(name)
            else self._number(name, given.get(name))
            for name in self.columns
        )

    def _factor(self, name: str, at: Any) -> Variable:
        column = self.columns[name]
        codes, labels = column.factor()
        levels = self.fit.design.coding.levels.get(name, labels)
        codes, _ = match_levels(codes, labels, levels)
        first = np.array([np.argmax(codes == i) for i in range(len(levels))])
        if at is not None:
            wanted = [label(v) for v in (at if _several(at) else [at])]
            unknown = [v for v in wanted if v not in levels]
            if unknown or not wanted or len(set(wanted)) < len(wanted):
                raise LmmError(
                    f"at gives {name!r} the levels {wanted}; it needs some of "
                    f"{', '.join(map(repr, levels))}, each once"
                )
            chosen = np.array([levels.index(v) for v in wanted])
            place = np.full(len(levels) + 1, -1)
            place[chosen] = np.arange(len(chosen))
            codes, first, levels = place[codes], first[chosen], tuple(wanted)
        return Variable(name, np.array(levels, object), codes, column.take(first))

    def _number(self, name: str, at: Any) -> Variable:
        values = self.columns[name].numbers()
        if at is not None:
            try:
                given = np.array(list(at) if _several(at) else [at], np.float64)
            except (TypeError, ValueError):
                given = np.array([np.nan])
            if not given.size or not np.all(np.isfinite(given)):
                raise LmmError(f"at gives {name!r} the values {at!r}; it needs finite numbers")
            if len(np.unique(given)) < len(given):
                raise LmmError(f"at gives {name!r} the same value twice: {at!r}")
            return Variable(name, given, None, None)
        distinct, codes = np.unique(values, return_inverse=True)
        if len(distinct) <= KEEP:
            return Variable(name, distinct, codes.reshape(-1), None)
        return Variable(name, np.array([values.mean()]), None, None)

    def grid(self, variables: tuple[Variable, ...]) -> ReferenceGrid:
        """Functions at all combinations of the variables' levels."""
        shape = tuple(len(v) for v in variables)
        rows = int(np.prod(shape, dtype=int))
        if rows > MAX_ROWS:
            raise LmmError(
                f"the reference grid has {rows:,} rows, at all combinations of "
                + ", ".join(f"{v.name!r} ({len(v)} levels)" for v in variables)
                + ": leave levels out with at="
            )
        codes = np.indices(shape).reshape(len(shape), rows)
        columns = {v.name: v.values(c) for v, c in zip(variables, codes, strict=True)}
        functions = self.functions(columns, rows)
        counts = np.zeros(shape)
        counted = [v for v in variables if v.codes is not None]
        if counted:
            own = np.stack([v.codes for v in counted if v.codes is not None])
            inside = np.all(own >= 0, axis=0)
            table = np.zeros(tuple(len(v) for v in counted))
            np.add.at(table, tuple(own[:, inside]), 1.0)
            # Cells do not tell values apart at which a number was put.
            counts += table.reshape([len(v) if v.codes is not None else 1 for v in variables])
        else:
            counts += 1.0
        return ReferenceGrid(self.fit, variables, functions.reshape(*shape, -1), counts)

    def functions(self, columns: dict[str, Any], rows: int) -> np.ndarray:
        """Linear functions, shape (rows, p + r + 1), at values of all variables."""
        fit = self.fit
        coding = fit.design.coding
        if not columns:
            columns = {"(none)": np.zeros(rows)}
        offset = None
        if coding.offset_source is not None:
            inside = sum((self.coder.values(text) for text in coding.spec.offsets), np.zeros(()))
            offset = np.full(rows, float(np.mean(fit.design.offset - inside)))
        try:
            new = coding.new_data(columns, random=False, offset=offset)
        except DataError as error:
            raise LmmError(
                f"the model's columns cannot be made at these values: {error}"
            ) from error
        if len(new.row_index) < rows:
            row = int(np.setdiff1d(np.arange(rows), new.row_index)[0])
            where = ", ".join(f"{k} = {np.asarray(v)[row]}" for k, v in columns.items())
            raise LmmError(f"the model's columns are not numbers where {where}: give at=")
        gap = self.estimability.gap(new.X, new.dropped)
        return np.concatenate([new.X, gap, new.offset[:, None]], axis=1)


def _several(values: Any) -> bool:
    return not isinstance(values, (str, bytes)) and np.ndim(values) > 0
