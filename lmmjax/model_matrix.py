"""Terms to columns, as R's ``model.matrix`` makes and names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from .columns import unseen_levels
from .errors import DataError
from .evaluate import Block, Levels, Values
from .expressions import Name
from .factor_coding import code_levels, contrast
from .parser import read_terms, read_value
from .terms import Factor

#: Numbers in one matrix beyond which it is not made: 16 GiB of them.
_MAX_SIZE = 2**31


@dataclass(frozen=True)
class Structure:
    """How a term's columns were made at the fit.

    Attributes
    ----------
    reduced : tuple of bool
        For each of its factors whether it has a column less than levels.
    columns : tuple of str
        Names of its columns.
    """

    reduced: tuple[bool, ...]
    columns: tuple[str, ...]


class Evaluator:
    """Model matrices and expressions over one set of columns.

    Parameters
    ----------
    columns : lmmjax.coding.Columns
        The columns.
    state : tuple of two dict
        State of transforms and levels of factors: filled by a fit, obeyed afterwards.
    env : mapping
        Functions and constants that the caller lets formulas use.
    """

    def __init__(self, columns: Any, state: tuple[dict, dict], env: Mapping[str, Any]) -> None:
        self.columns = columns
        self.evaluated = Values(columns, state, env)
        self._factors: dict[str, np.ndarray | Levels | Block] = {}

    def values(self, text: str) -> np.ndarray:
        """The values, float64, shape (n,), of the expression `text`."""
        return self.evaluated.numbers(read_value(text), text)

    def matrix(
        self, text: str, structure: tuple[Structure, ...] | None = None
    ) -> tuple[np.ndarray, tuple[Structure, ...]]:
        """The model matrix, shape (n, k), of the terms `text`, and how each term was made.

        Parameters
        ----------
        text : str
        structure : tuple of Structure, optional
            The fit's, which new data follow. The intercept is the first of them, if there is one.
        """
        terms = read_terms(text)
        found = {factor.source: self._factor(factor) for term in terms.terms for factor in term}
        kinds = {source: not isinstance(value, Levels) for source, value in found.items()}
        if structure is None:
            reduced = reductions(
                terms.intercept, [tuple(f.source for f in term) for term in terms.terms], kinds
            )
        else:
            reduced = [made.reduced for made in structure[int(terms.intercept) :]]
        n = self.columns.n
        made: list[np.ndarray] = [np.ones((n, 1))] if terms.intercept else []
        out = [Structure((), ("(Intercept)",))] if terms.intercept else []
        for term, drops in zip(terms.terms, reduced, strict=True):
            names, block = self._term(term, drops, found)
            made.append(block)
            out.append(Structure(drops, names))
        matrix = np.concatenate(made, axis=1) if made else np.empty((n, 0))
        return matrix, tuple(out)

    def _factor(self, factor: Factor) -> np.ndarray | Levels | Block:
        if factor.source not in self._factors:
            self._factors[factor.source] = self._evaluate(factor)
        return self._factors[factor.source]

    def _evaluate(self, factor: Factor) -> np.ndarray | Levels | Block:
        node, columns = factor.node, self.columns
        if isinstance(node, Name):
            name = node.name
            if name not in columns:
                raise columns.unknown(name)
            if not columns.is_factor(name):
                return columns[name].numbers()
            codes, levels = columns.factor(name)
            found = Levels(codes, levels)
        else:
            encoded = self.evaluated.encoded(node, factor.name)
            if not isinstance(encoded, Levels):
                return encoded
            found = encoded
        given = columns.contrasts.get(factor.name)
        if given is None:
            return found
        return Levels(found.codes, found.labels, contrast(given, f"for {factor.name!r}"))

    def _term(
        self,
        term: tuple[Factor, ...],
        reduced: tuple[bool, ...],
        found: Mapping[str, np.ndarray | Levels | Block],
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """Columns of a term: products of its factors' columns, the first factor's fastest."""
        coded = [
            _columns_of(factor.name, found[factor.source], drop)
            for factor, drop in zip(term, reduced, strict=True)
        ]
        count = 1
        for columns in coded:
            count *= len(columns)
        if count * max(self.columns.n, 1) > _MAX_SIZE:
            raise DataError(
                f"the term {':'.join(f.name for f in term)!r} has {count:,} columns in "
                f"{self.columns.n:,} rows, which no memory holds"
            )
        names: list[str] = []
        made = np.empty((self.columns.n, count))
        for j, combination in enumerate(product(*(list(c.items()) for c in reversed(coded)))):
            parts = combination[::-1]
            names.append(":".join(name for name, _ in parts))
            made[:, j] = parts[0][1]
            for _, values in parts[1:]:
                made[:, j] *= values
        return tuple(names), made


def _columns_of(
    name: str, value: np.ndarray | Levels | Block, reduced: bool
) -> dict[str, np.ndarray]:
    """Columns of one factor of a term, under their names."""
    if isinstance(value, Levels):
        if (value.codes < 0).any():
            raise unseen_levels(name, ("missing",), value.labels)
        return code_levels(name, value.codes, value.labels, value.contrasts, reduced)
    if isinstance(value, Block):
        columns = value.values.T
        return {f"{name}{s}": column for s, column in zip(value.suffixes, columns, strict=True)}
    return {name: value}


def reductions(
    intercept: bool, terms: list[tuple[str, ...]], numeric: Mapping[str, bool]
) -> list[tuple[bool, ...]]:
    """For each factor of each term whether it has a column less than levels, by R's rule.

    A factor is reduced where the term without it is in the model too; and if there is no intercept,
    the first factor that is a term by itself is not. (Chambers & Hastie 1992, section 2.4.)

    Examples
    --------
    >>> reductions(True, [("f",), ("x",), ("x", "f")], {"f": False, "x": True})
    [(True,), (False,), (False, True)]
    """
    present = {frozenset(term) for term in terms} | {frozenset()}
    full_one_due = not intercept
    out = []
    for term in terms:
        whole = frozenset(term)
        drops = []
        for factor in term:
            reduced = not numeric[factor] and whole - {factor} in present
            if reduced and full_one_due and len(term) == 1:
                reduced = full_one_due = False
            drops.append(reduced)
        out.append(tuple(drops))
    return out
