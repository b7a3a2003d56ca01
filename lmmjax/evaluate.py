"""Values of expressions over the columns of a data set.

The tree of :mod:`lmmjax.expressions` is walked; nothing is compiled and nothing handed to Python as
text. Arithmetic is in double precision, as in R, so that whole numbers do not wrap around.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .checks import not_numeric
from .columns import Column, label, match_levels, unseen_levels
from .errors import DataError, FormulaError, LmmError
from .expressions import Binary, Brackets, Call, Literal, Name, Node, Number, Text, Unary
from .factor_coding import contrast, made_contrast
from .frames import column_from_values
from .functions import (
    CONSTANTS,
    CONTRASTS,
    FACTORS,
    ROWWISE,
    SPECIAL,
    SUMMARIES,
    TRANSFORMS,
    known_functions,
)

#: Numbers in a row of a formula's own, as in ``levels = 1:20``.
_MAX_SEQUENCE = 100_000
#: Columns of one transform, and the degree of a spline: more is a mistake, or is meant to take all
#: memory and time.
_MAX_COLUMNS, _MAX_DEGREE = 1_000, 20

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    **{"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.power},
    **{"%%": np.mod, "%/%": np.floor_divide},
}
_COMPARISON: dict[str, Callable[[Any, Any], Any]] = {
    **{"==": np.equal, "!=": np.not_equal, "<": np.less, ">": np.greater},
    **{"<=": np.less_equal, ">=": np.greater_equal},
}
_LOGIC: dict[str, Callable[[Any, Any], Any]] = {"&": np.logical_and, "|": np.logical_or}


class _NotANumber(Exception):
    """A column of text or levels where a number is needed; named one level up."""


@dataclass(frozen=True, eq=False)
class Levels:
    """A factor that an expression made: a code for each row, and the levels in order."""

    codes: np.ndarray
    labels: tuple[str, ...]
    contrasts: Any = None


@dataclass(frozen=True, eq=False)
class Block:
    """Several columns that a transform made, shape (n, k), and what follows its name in theirs."""

    values: np.ndarray
    suffixes: tuple[str, ...]


class Values:
    """Evaluates expressions over one set of columns.

    Parameters
    ----------
    columns : lmmjax.coding.Columns
        The columns.
    state : tuple of two dict
        What transforms and factors found at the fit, by their text: filled then, obeyed afterwards.
    env : mapping
        Functions and constants of the caller.
    """

    def __init__(self, columns: Any, state: tuple[dict, dict], env: Mapping[str, Any]) -> None:
        self.columns = columns
        self.n = columns.n
        self.transforms, self.factors = state
        self.env = env

    def of(self, node: Node, text: str) -> Any:
        """The value of an expression; errors name it by its `text`."""
        with np.errstate(all="ignore"):
            try:
                return self._value(node)
            except _NotANumber as error:
                (column,) = error.args
                raise DataError(
                    f"cannot compute {text!r}: column {column.name!r} "
                    f"{not_numeric(column, self.columns.rows)}"
                ) from None
            except LmmError:
                raise
            except Exception as error:
                # Whatever a transform, or a caller's function, makes of its arguments.
                raise DataError(
                    f"cannot compute {text!r}: {type(error).__name__}: {error}"
                ) from error

    def numbers(self, node: Node, text: str) -> np.ndarray:
        """The value of an expression as one number for each row, float64, shape (n,)."""
        found = self.of(node, text)
        if isinstance(found, Column):
            raise DataError(f"column {found.name!r} {not_numeric(found, self.columns.rows)}")
        raw = np.asarray(found.values if isinstance(found, Block) else found)
        if raw.dtype.kind == "b":
            raise DataError(f"{text!r} is true or false in each row; a number is needed")
        if isinstance(found, Levels) or raw.dtype.kind not in "iuf":
            raise DataError(f"{text!r} is not numeric; a number is needed for each row")
        values = raw.astype(np.float64)
        if values.ndim == 0:
            values = np.full(self.n, float(values))
        if values.shape == (self.n, 1):
            values = values[:, 0]
        if values.shape != (self.n,):
            raise DataError(f"{text!r} has shape {values.shape}; one number for each row is needed")
        return values

    def encoded(self, node: Node, text: str) -> np.ndarray | Levels | Block:
        """The value of an expression as a term has it: a column of numbers, several, or levels."""
        found = self.of(node, text)
        if isinstance(found, (Levels, Block)):
            return found
        if isinstance(found, Column):
            return self._levels(found, text)
        array = np.asarray(found)
        if array.ndim == 0 and array.dtype.kind in "iufb":
            return np.full(self.n, float(array))
        if array.ndim == 2 and array.dtype.kind in "iufb" and len(array) == self.n:
            return _block(array)
        if array.shape != (self.n,):
            raise DataError(f"{text!r} gives {array.shape} values for {self.n} rows")
        if array.dtype.kind in "iuf":
            return array.astype(np.float64)
        if array.dtype.kind == "b":
            # In R a comparison is a factor, of FALSE and TRUE whichever of them occur.
            self.factors.setdefault(text, ("FALSE", "TRUE"))
            return self._levels(column_from_values(text, array), text)
        return self._levels(column_from_values(text, array.astype(object)), text)

    def _value(self, node: Node) -> Any:
        if isinstance(node, (Number, Text, Literal)):
            return node.value
        if isinstance(node, Name):
            return self._name(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, Brackets):
            items = [self._value(item) for item in node.items]
            return items[0] if node.opener == "(" and len(items) == 1 else items
        if isinstance(node, Unary):
            operand = self._value(node.operand)
            if node.operator == "!":
                return np.logical_not(_number(operand))
            number = _number(operand)
            return -number if node.operator == "-" else number
        return _binary(node, self._value(node.left), self._value(node.right))

    def _name(self, node: Name) -> Any:
        name = node.name
        if name in self.columns:
            column = self.columns[name]
            return column.values if column.kind in ("number", "bool") else column
        if not node.quoted:
            if name in self.env and not callable(self.env[name]):
                return self.env[name]
            if name in CONSTANTS:
                return CONSTANTS[name]
        raise self.columns.unknown(name)

    def _call(self, node: Call) -> Any:
        name = node.function
        if name not in self.env and not _is_function(name):
            raise self._unknown_function(name)
        given = [self._value(value) for key, value in node.arguments if key is None]
        named = {key: self._value(value) for key, value in node.arguments if key is not None}
        if len(given) + len(named) < len(node.arguments):
            raise FormulaError(f"an argument of {node} is named twice")
        if name in self.env:
            return self._callers(name, given, named)
        if name in CONTRASTS:
            return made_contrast(CONTRASTS[name], given, named)
        if name in FACTORS:
            return self._factor(str(node), FACTORS[name], *given, **named)
        if name in TRANSFORMS:
            return self._transform(node, given, named)
        if name in SUMMARIES:
            found = self.transforms.get(str(node))
            if found is None:
                found = float(SUMMARIES[name](*map(_number, given), **_counts(named)))
                self.transforms[str(node)] = found
            return found
        if name in ROWWISE:
            return ROWWISE[name](*map(_number, given), **{k: _number(v) for k, v in named.items()})
        return self._special(name, node, given, named)

    def _special(self, name: str, node: Call, given: list, named: dict) -> Any:
        if name == "c":
            return [item for value in given for item in (value if _several(value) else [value])]
        if name == "relevel":
            return self._relevel(str(node), *given, **named)
        if name == "dummy":
            return self._dummy(*given, **named)
        if name == "I":
            (value,) = given
            return value
        test, yes, no = given
        return np.where(_number(test), _row_values(yes), _row_values(no))

    def _unknown_function(self, name: str) -> FormulaError:
        first, _, method = name.partition(".")
        if method and first in self.columns:
            return FormulaError(
                f"methods of columns, such as {name}(), are not called in formulas: write a "
                f"function, as in clip({first}, 0, 1), or compute the column first"
            )
        known = [*known_functions(), *self.env]
        close = difflib.get_close_matches(name, known, 2, 0.7)
        near = f" (did you mean {' or '.join(f'{c}()' for c in close)}?)" if close else ""
        return FormulaError(
            f"there is no function {name}() for formulas{near}: pass your own in by its name, "
            f"env={{{name!r}: ...}}, or compute the column first"
        )

    def _callers(self, name: str, given: list, named: dict) -> Any:
        function = self.env[name]
        if not callable(function):
            raise FormulaError(
                f"env holds {name!r}, which is no function, and the formula calls it"
            )
        return function(*map(_row_values, given), **{k: _row_values(v) for k, v in named.items()})

    def _transform(self, node: Call, given: list, named: dict) -> Any:
        """A transform of formulaic's, which keeps what it finds at the fit."""
        from formulaic.transforms import TRANSFORMS as FORMULAIC

        name = node.function
        spelled = TRANSFORMS[name]
        named = {spelled.get(key, key): value for key, value in named.items()}
        if not given:
            raise FormulaError(f"{node} has nothing to transform")
        values = np.asarray(_number(given[0]), np.float64)
        if values.shape != (self.n,):
            raise DataError(f"{node} is given {values.shape} values for {self.n} rows")
        options = list(_counts(dict(enumerate(given[1:]))).values())
        named = _counts(named)
        sizes = [v for v in (*options, *named.values()) if isinstance(v, int)]
        if name not in ("scale", "center", "standardize") and max(sizes, default=0) > _MAX_COLUMNS:
            raise DataError(f"{node} asks for {max(sizes)} columns: it can make {_MAX_COLUMNS}")
        if name == "bs" and not 0 <= named.get("degree", 3) <= _MAX_DEGREE:
            raise DataError(f"{node}: the degree must be between 0 and {_MAX_DEGREE}")
        state = self.transforms.setdefault(str(node), {})
        if name == "poly" and not state:
            _check_degree(values, str(node), options, named)
        return _block(FORMULAIC[name](values, *options, _state=state, **named))

    # Factors

    def _column(self, value: Any) -> Column:
        if isinstance(value, Column):
            return value
        if isinstance(value, Levels):
            return Column("", "factor", value.codes, "category", value.labels)
        column = column_from_values("", np.asarray(value))
        column.identifiers()
        return column

    def _levels(
        self, column: Column, key: str, levels: Any = None, first: Any = None, contrasts: Any = None
    ) -> Levels:
        """Codes of a factor; its levels are settled when it is first seen."""
        codes, labels = column.factor()
        if key not in self.factors:
            wanted = labels if levels is None else tuple(map(label, levels))
            if len(set(wanted)) < len(wanted):
                raise DataError(f"{key!r} names a level twice: {', '.join(map(repr, wanted))}")
            if first is not None:
                if label(first) not in wanted:
                    raise DataError(
                        f"{key!r} has no level {label(first)!r} to be the reference: it has "
                        + ", ".join(map(repr, wanted[:10]))
                    )
                wanted = (label(first), *(lab for lab in wanted if lab != label(first)))
            self.factors[key] = wanted
        known = self.factors[key]
        codes, unseen = match_levels(codes, labels, known)
        if unseen:
            raise unseen_levels(key, unseen, known)
        return Levels(codes, known, contrasts)

    def _factor(
        self, key: str, default: str | None, data: Any, contrasts: Any = None, *, levels: Any = None
    ) -> Levels:
        """``C(x)``, ``factor(x)``: a column by its levels, whatever it holds."""
        # R's factor(x, c("a", "b")) names levels, C(x, c(...)) one contrast.
        if levels is None and isinstance(contrasts, list) and not key.startswith("C("):
            contrasts, levels = None, contrasts
        coded = contrast(default if contrasts is None else contrasts, "in the formula")
        return self._levels(self._column(data), key, levels=levels, contrasts=coded)

    def _relevel(self, key: str, data: Any, ref: Any) -> Levels:
        """``relevel(x, "b")``: the level `ref` becomes the first, the reference."""
        if isinstance(data, Levels):
            column = Column("", "factor", data.codes, "category", data.labels)
            return self._levels(column, key, levels=data.labels, first=ref)
        return self._levels(self._column(data), key, first=ref)

    def _dummy(self, data: Any, level: Any) -> np.ndarray:
        """``dummy(x, "b")``: 1 where x is b, 0 elsewhere, as lme4's."""
        codes, labels = self._column(data).factor()
        # A level that new data happen to lack is a column of zeros.
        return (
            (codes == labels.index(label(level))) * 1.0 if label(level) in labels else codes * 0.0
        )


def _is_function(name: str) -> bool:
    known = (ROWWISE, SUMMARIES, TRANSFORMS, FACTORS, SPECIAL, CONTRASTS)
    return any(name in some for some in known)


def _several(value: Any) -> bool:
    return isinstance(value, (list, np.ndarray)) and np.ndim(value) > 0


def _number(value: Any) -> Any:
    """A value for arithmetic: float64, or booleans as they are."""
    if isinstance(value, Column):
        raise _NotANumber(value)
    if isinstance(value, Block) and value.values.shape[1] == 1:
        return value.values[:, 0]
    if value is None or isinstance(value, bool):
        return value
    array = np.asarray(value)
    if isinstance(value, (Levels, Block)) or array.dtype.kind not in "iufb":
        raise DataError("a factor, text or several columns stand where a number is needed")
    return array if array.dtype.kind == "b" else array.astype(np.float64)[()]


def _counts(named: dict) -> dict:
    """Arguments of a transform: whole numbers as integers, lists as arrays."""
    out = {}
    for key, value in named.items():
        if isinstance(value, (float, np.floating)) and float(value).is_integer():
            value = int(value)
        out[key] = np.asarray(value, np.float64) if isinstance(value, list) else value
    return out


def _row_values(value: Any) -> Any:
    """A value as a caller's function gets it: a factor as an array of its categories."""
    if isinstance(value, Levels):
        return np.array(value.labels, object)[value.codes]
    if isinstance(value, Column):
        return np.array(value.categories, object)[value.values]
    if isinstance(value, Block):
        return value.values
    return value


def _binary(node: Binary, left: Any, right: Any) -> Any:
    op = node.operator
    if op in _ARITHMETIC:
        a, b = _number(left), _number(right)
        if a is None or b is None:
            raise DataError(f"NULL cannot be part of {node}")
        # Booleans count as 0 and 1.
        return _ARITHMETIC[op](np.asarray(a, np.float64), np.asarray(b, np.float64))[()]
    if op in _LOGIC:
        return _LOGIC[op](_number(left), _number(right))
    if op in _COMPARISON:
        return _compare(node, left, right)
    low, high = float(_number(left)), float(_number(right))
    if not abs(high - low) < _MAX_SEQUENCE:
        raise DataError(f"{node} is longer than {_MAX_SEQUENCE} numbers")
    step = 1.0 if high >= low else -1.0
    return (low + step * np.arange(int(abs(high - low) + 1e-10) + 1)).tolist()


def _compare(node: Binary, left: Any, right: Any) -> Any:
    op = node.operator
    a, b = _labels(left), _labels(right)
    if a is None and b is None:
        return _COMPARISON[op](left, right)
    if op not in ("==", "!="):
        raise DataError(f"{node} asks for an order of text or levels, which have none")
    a = np.asarray(label(left) if a is None and np.ndim(left) == 0 else a, object)
    b = np.asarray(label(right) if b is None and np.ndim(right) == 0 else b, object)
    if a.dtype != object or any(v is None for v in (a[()], b[()])):
        raise DataError(f"{node} compares text with numbers")
    return _COMPARISON[op](a, b).astype(bool)


def _labels(value: Any) -> Any:
    """Labels of what is compared as text, None of numbers."""
    if isinstance(value, str):
        return value
    if isinstance(value, Levels):
        return np.array(value.labels, object)[value.codes]
    if isinstance(value, Column):
        return np.array([label(v) for v in value.categories], object)[value.values]
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        return value.astype(object)
    return None


def _check_degree(values: np.ndarray, text: str, options: list, named: dict) -> None:
    """Raise DataError for an orthogonal polynomial that so few values do not determine."""
    degree = named.get("degree", options[0] if options else 1)
    raw = named.get("raw", options[1] if len(options) > 1 else False)
    if not isinstance(degree, int) or degree < 1:
        raise DataError(f"{text!r}: the degree must be a whole number of at least 1")
    distinct = len(np.unique(values))
    if not raw and degree >= distinct:
        raise DataError(
            f"{text!r} has {distinct} distinct values, which determine a polynomial of degree "
            f"{distinct - 1} at most"
        )


def _block(made: Any) -> np.ndarray | Block:
    """What a transform gives as one column or several, which R counts from 1."""
    made = getattr(made, "__wrapped__", made)
    if isinstance(made, Mapping):
        columns = {k: v for k, v in made.items() if not str(k).startswith("__")}
        shift = 1 if 0 in columns else 0
        suffixes = tuple(str(k + shift if isinstance(k, int) else k) for k in columns)
        arrays = [np.asarray(getattr(v, "__wrapped__", v), np.float64) for v in columns.values()]
        return Block(np.stack(arrays, axis=1), suffixes)
    array = np.asarray(made, np.float64)
    if array.ndim == 1:
        return array
    return Block(array, tuple(str(j + 1) for j in range(array.shape[1])))
