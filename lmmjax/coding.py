"""Columns of model matrices, coded once at the fit and identically ever after."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from .checks import not_numeric
from .columns import Column, match_levels, unseen_levels
from .errors import DataError
from .expressions import Name
from .formula import FormulaSpec
from .frames import Frame, unknown_column
from .grouping import GroupCoding
from .parser import read_terms, read_value


class Columns(Mapping[str, Column]):
    """The columns that a formula uses, complete rows only.

    Parameters
    ----------
    columns : dict of str to Column
        Columns of equal length.
    n : int
        That length.
    levels : dict of str to tuple of str
        Labels of the factors among them: filled at the fit, obeyed afterwards.
    contrasts : mapping
        Contrasts by column name, for factors that shall not have treatment contrasts.
    names : list of str
        All names in the frame, for messages.
    numeric : set of str, optional
        At prediction the columns that were numbers at the fit.
    rows : np.ndarray of int, shape (n,), optional
        Where these rows stand in the user's frame, for messages.
    """

    def __init__(
        self,
        columns: dict[str, Column],
        n: int,
        levels: dict[str, tuple[str, ...]],
        contrasts: Mapping[str, Any],
        names: list[str],
        numeric: set[str] | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        self._columns = columns
        self.n = n
        self.levels = levels
        self.contrasts = contrasts
        self.names = names
        self.rows = rows
        self.numeric = numeric

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def unknown(self, name: str) -> DataError:
        """The error for a name that is no column."""
        return unknown_column(name, self.names)

    def is_factor(self, name: str) -> bool:
        """Whether a column is coded by levels; numbers are not, unless they were at the fit."""
        if name in self.levels:
            return True
        column = self._columns[name]
        if column.kind == "other":
            raise DataError(
                f"column {name!r} {not_numeric(column, self.rows)}; or to text, if it is a factor"
            )
        if self.numeric is not None and name in self.numeric and column.kind != "number":
            raise DataError(
                f"column {name!r} was numeric when the model was fitted, and is {column.dtype} now"
            )
        return column.kind != "number"

    def factor(self, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """Codes, shape (n,), and labels of a factor, by the fit's levels once there are some."""
        codes, labels = self._columns[name].factor()
        known = self.levels.setdefault(name, labels)
        if labels is not known and labels != known:
            codes, unseen = match_levels(codes, labels, known)
            if unseen:
                raise unseen_levels(name, unseen, known)
        return codes, known


@lru_cache(maxsize=512)
def plain_terms(text: str) -> tuple[bool, tuple[str, ...]] | None:
    """The intercept and the columns of terms such as ``1 + x + f``; None of any others."""
    terms = read_terms(text)
    names = []
    for term in terms.terms:
        first, *others = term
        if others or not isinstance(first.node, Name):
            return None
        names.append(first.name)
    return terms.intercept, tuple(names)


@dataclass(frozen=True, eq=False)
class Part:
    """One model matrix: the fixed part, or the left side of a bar.

    Attributes
    ----------
    text : str
        Its terms.
    names : tuple of str
        Names of its k columns.
    assign : tuple of int
        For each column the term it belongs to: 0 the intercept, t the t-th of `term_names`.
    term_names : tuple of str
        The terms without the intercept, in order: ``("recipe", "temperature", ...)``.
    term_factors : tuple of tuple of str
        For each of them the variables (or calls) that it multiplies.
    structure : tuple of Structure or None
        How each term was made; None where the plain path made the columns.
    """

    text: str
    names: tuple[str, ...]
    assign: tuple[int, ...]
    term_names: tuple[str, ...]
    term_factors: tuple[tuple[str, ...], ...]
    structure: Any = None


class PartCoder:
    """Makes model matrices from columns; one for a fit, one for each set of new data.

    Parameters
    ----------
    columns : Columns
        What to make them from.
    state : tuple of two dict
        State of transforms and of factors inside calls, shared by the fit and its predictions.
    env : mapping, optional
        Functions and constants that the caller lets formulas use.
    """

    def __init__(
        self, columns: Columns, state: tuple[dict, dict], env: Mapping[str, Any] | None = None
    ) -> None:
        self.columns = columns
        self.state = state
        self.env = env or {}
        self._evaluator: Any = None

    def with_default_contrasts(self) -> "PartCoder":
        """The coder of random-effects terms, which `contrasts` do not concern, as in lme4."""
        columns = self.columns
        if not columns.contrasts:
            return self
        plain = Columns(
            *(columns._columns, columns.n, columns.levels, {}),
            *(columns.names, columns.numeric, columns.rows),
        )
        return PartCoder(plain, self.state, self.env)

    @property
    def evaluator(self) -> Any:
        """What makes columns of products and calls."""
        if self._evaluator is None:
            from .model_matrix import Evaluator

            self._evaluator = Evaluator(self.columns, self.state, self.env)
        return self._evaluator

    def values(self, text: str) -> np.ndarray:
        """The values, shape (n,), of a column or an expression."""
        node = read_value(text)
        if isinstance(node, Name) and node.name in self.columns:
            column = self.columns[node.name]
            if column.kind != "number":
                raise DataError(f"column {column.name!r} {not_numeric(column, self.columns.rows)}")
            return column.numbers()
        return self.evaluator.values(text)

    def code(self, text: str) -> tuple[Part, np.ndarray]:
        """Settle the coding of the terms `text`, and make their matrix, shape (n, k)."""
        terms = plain_terms(text)
        if terms is not None and self._is_plain(terms[1]):
            return self._code_plain(text, *terms)
        matrix, structure = self.evaluator.matrix(text)
        read = read_terms(text)
        factors = tuple(tuple(f.name for f in term) for term in read.terms)
        names = tuple(name for made in structure for name in made.columns)
        start = 0 if read.intercept else 1
        assign = tuple(t for t, made in enumerate(structure, start) for _ in made.columns)
        term_names = tuple(map(":".join, factors))
        return Part(text, names, assign, term_names, factors, structure), matrix

    def matrix(self, part: Part) -> np.ndarray:
        """The matrix, shape (n, k), of terms whose coding is settled."""
        if part.structure is not None:
            return self.evaluator.matrix(part.text, part.structure)[0]
        terms = plain_terms(part.text)
        assert terms is not None
        return self._code_plain(part.text, *terms)[1]

    def _is_plain(self, names: tuple[str, ...]) -> bool:
        columns = self.columns
        for name in names:
            if name not in columns:
                raise columns.unknown(name)
        return not any(name in columns.contrasts for name in names)

    def _code_plain(
        self, text: str, intercept: bool, names: tuple[str, ...]
    ) -> tuple[Part, np.ndarray]:
        """What the general path would give for added columns, in a fraction of its time."""
        columns, n = self.columns, self.columns.n
        if not names and intercept:
            return _INTERCEPT, np.ones((n, 1))
        made: list[np.ndarray] = [np.ones((n, 1))] if intercept else []
        labels = ["(Intercept)"] if intercept else []
        assign = [0] * len(labels)
        spanned = intercept
        for term, name in enumerate(names, start=1):
            if columns.is_factor(name):
                codes, levels = columns.factor(name)
                if spanned and len(levels) == 1:
                    raise DataError(
                        f"the factor {name!r} has one level ({levels[0]!r}) in the rows used, so "
                        "it has no effect to estimate: leave it out of the formula"
                    )
                # Without an intercept the first factor stands in for it, by all its levels.
                start = 1 if spanned else 0
                spanned = True
                made.append((codes[:, None] == np.arange(start, len(levels))).astype(np.float64))
                labels += [f"{name}{level}" for level in levels[start:]]
                assign += [term] * (len(levels) - start)
            else:
                made.append(columns[name].numbers()[:, None])
                labels.append(name)
                assign.append(term)
        part = Part(text, tuple(labels), tuple(assign), names, tuple((name,) for name in names))
        return part, np.concatenate(made, axis=1) if made else np.empty((n, 0))


_INTERCEPT = Part("1", ("(Intercept)",), (0,), (), ())


@dataclass(frozen=True, eq=False)
class NewTerm:
    """A random-effects term for new rows.

    Attributes
    ----------
    group : str
        Name of the grouping factor.
    Z : np.ndarray, shape (m, k)
        Its columns.
    index : np.ndarray of int32, shape (m,)
        Level of each row; -1 for a level that the fit did not see, or a missing one.
    """

    group: str
    Z: np.ndarray
    index: np.ndarray


@dataclass(frozen=True, eq=False)
class NewData:
    """New data, coded as the fit's were.

    Attributes
    ----------
    X : np.ndarray, shape (m, p)
        Fixed-effects columns, those dropped at the fit left out.
    dropped : np.ndarray, shape (m, r)
        The columns left out.
    terms : tuple of NewTerm
        In the order of ``Design.terms``; empty if random effects were not asked for.
    offset : np.ndarray, shape (m,)
        Offset; zeros if the model has none.
    y : np.ndarray, shape (m,), or None
        The response, if it was asked for.
    row_index : np.ndarray of int64, shape (m,)
        Positions of these rows in the given frame; rows with missing predictors are left out.
    n_rows : int
        Number of rows in the given frame.
    """

    X: np.ndarray
    dropped: np.ndarray
    terms: tuple[NewTerm, ...]
    offset: np.ndarray
    y: np.ndarray | None
    row_index: np.ndarray
    n_rows: int


@dataclass(frozen=True, eq=False)
class Coding:
    """What is needed to code new data as the fit's were, and how X's columns form terms.

    Attributes
    ----------
    spec : FormulaSpec
        The formula.
    fixed : Part
        Coding of the fixed part, all its columns.
    keep : np.ndarray of int64, shape (p,)
        Those of its columns that are in X.
    assign : tuple of int
        For each column of X its term: 0 the intercept, t the t-th of `term_names`.
    term_names : tuple of str
        Fixed-effects terms without the intercept.
    term_factors : tuple of tuple of str
        For each term the variables (or calls) that it multiplies.
    random : tuple of (GroupCoding, tuple of Part)
        For each random-effects term its levels and the coding of its bars.
    levels : dict of str to tuple of str
        Levels of the columns that are coded as factors, reference first.
    numeric : frozenset of str
        Columns that are used as numbers.
    contrasts : dict
        Contrasts by column, where they are not treatment contrasts.
    offset_source : str or None
        Where the `offset` argument came from: a column's name, ``"<array>"``, or None.
    env : dict
        Functions and constants that the caller lets the formula use.
    """

    spec: FormulaSpec
    fixed: Part
    keep: np.ndarray
    assign: tuple[int, ...]
    term_names: tuple[str, ...]
    term_factors: tuple[tuple[str, ...], ...]
    random: tuple[tuple[GroupCoding, tuple[Part, ...]], ...]
    levels: dict[str, tuple[str, ...]]
    numeric: frozenset[str]
    contrasts: dict[str, Any]
    offset_source: str | None = None
    env: dict[str, Any] = field(default_factory=dict, repr=False)
    state: tuple[dict, dict] = field(default_factory=lambda: ({}, {}), repr=False)

    @property
    def has_intercept(self) -> bool:
        """Whether X has an intercept column."""
        return 0 in self.assign

    def new_data(
        self,
        frame: Any,
        *,
        need_response: bool = False,
        allow_new_levels: bool = False,
        random: bool = True,
        offset: Any = None,
    ) -> NewData:
        """Code new data as the fit's were: categories, polynomial bases, knots, centring.

        Parameters
        ----------
        frame : data frame or mapping
            Any form that the fit takes; columns that are not needed may be absent.
        need_response : bool, default False
            Whether to compute the response too.
        allow_new_levels : bool, default False
            Whether levels of grouping factors that the fit did not see, and missing ones, are
            allowed; their rows get index -1.
        random : bool, default True
            Whether to code the random-effects terms; if not, their columns may be absent.
        offset : array, shape (number of rows,), or str, optional
            Offset, where the fit's was given as an array and thus is unknown for new rows.

        Returns
        -------
        NewData
            Matrices for the m rows without missing predictors.

        Raises
        ------
        DataError
            For an absent column, an unseen level of a factor, or of a grouping factor unless
            allowed.
        """
        from .new_data import code_new_data

        return code_new_data(
            self,
            Frame(frame),
            need_response=need_response,
            allow_new_levels=allow_new_levels,
            random=random,
            offset=offset,
        )
