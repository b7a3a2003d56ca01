"""Hypotheses as text: ``"recipeB - recipeC = 0"`` to rows of L and their right-hand sides.

The grammar, with coefficient names as the fit prints them:

    hypotheses = hypothesis ("," hypothesis)*
    hypothesis = sum ("=" sum)*              without "=", the sum is tested against 0
    sum        = product (("+" | "-") product)*
    product    = sign (("*" | "/") sign)*
    sign       = ("+" | "-") sign | number | name | "`" name "`" | "(" sum ")"
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from lmmjax.errors import LmmError

_NUMBER = re.compile(r"(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WORD = re.compile(r"[^\W\d][\w.]*")


def _spellings(name: str) -> re.Pattern[str]:
    """How a coefficient's name may be written: with other spaces, or in Python's way.

    ``I(x^2)`` is found as ``I(x ** 2)`` too, ``kkTRUE`` as ``kkTrue``.
    """
    written = re.escape(name)
    if "(" in name and name != "(Intercept)":
        pieces = re.findall(r"\w+|[^\w\s]", name)
        written = " *".join(r"(?:\^|\*\*)" if p == "^" else re.escape(p) for p in pieces)
    for ours, python in (("TRUE", "True"), ("FALSE", "False"), ("NULL", "None")):
        written = written.replace(ours, f"(?:{ours}|{python})")
    return re.compile(written)


def _in_word(character: str) -> bool:
    return character.isalnum() or character in ("_", ".")


class Hypotheses(NamedTuple):
    """``L beta = rhs``.

    Attributes
    ----------
    L : ndarray, shape (q, p)
    rhs : ndarray, shape (q,)
    labels : tuple of str
        Each row's text.
    """

    L: np.ndarray
    rhs: np.ndarray
    labels: tuple[str, ...]


class _Linear(NamedTuple):
    """``weights @ beta + constant``."""

    weights: np.ndarray
    constant: float

    def plus(self, other: _Linear, sign: float = 1.0) -> _Linear:
        return _Linear(self.weights + sign * other.weights, self.constant + sign * other.constant)

    def times(self, factor: float) -> _Linear:
        return _Linear(self.weights * factor, self.constant * factor)


class _Reader:
    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text = text
        self.position = {name: j for j, name in enumerate(names)}
        # The longest name first: "a:b" is one coefficient, not "a" and something else.
        self.by_length = [(name, _spellings(name)) for name in sorted(names, key=len, reverse=True)]
        self.at = 0

    def fail(self, message: str, length: int = 1) -> LmmError:
        shown = "".join(" " if c.isspace() else c for c in self.text)
        return LmmError(f"{message}\n    {shown}\n    {' ' * self.at}{'^' * length}")

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, *symbols: str) -> str | None:
        self.skip()
        found = self.text[self.at : self.at + 1]
        # "==" is written by those who think of tests as comparisons.
        if found == "=" and "=" in symbols and self.text[self.at : self.at + 2] == "==":
            self.at += 1
        if found and found in symbols:
            self.at += 1
            return found
        return None

    def name(self) -> str | None:
        """The longest coefficient name that starts here and ends with a word."""
        for name, spellings in self.by_length:
            found = spellings.match(self.text, self.at)
            if found is None:
                continue
            end = found.end()
            after = self.text[end : end + 1]
            if _in_word(name[-1]) and _in_word(after):
                continue
            self.at = end
            return name
        found = _WORD.match(self.text, self.at)
        if found and found[0] == "Intercept" and "(Intercept)" in self.position:
            self.at = found.end()
            return "(Intercept)"
        return None

    def column(self, name: str) -> _Linear:
        weights = np.zeros(len(self.position))
        weights[self.position[name]] = 1.0
        return _Linear(weights, 0.0)

    def atom(self) -> _Linear:
        if sign := self.take("+", "-"):
            return self.atom().times(-1.0 if sign == "-" else 1.0)
        if self.take("`"):
            end = self.text.find("`", self.at)
            quoted = self.text[self.at : end] if end >= 0 else ""
            if quoted not in self.position:
                raise self.fail(f"there is no coefficient {quoted!r}{self.hint(quoted)}")
            self.at = end + 1
            return self.column(quoted)
        self.skip()
        if name := self.name():
            return self.column(name)
        if number := _NUMBER.match(self.text, self.at):
            self.at = number.end()
            return _Linear(np.zeros(len(self.position)), float(number[0]))
        if self.take("("):
            inside = self.sum()
            if not self.take(")"):
                raise self.fail("a ')' is missing here")
            return inside
        if word := _WORD.match(self.text, self.at):
            raise self.fail(
                f"there is no coefficient {word[0]!r}{self.hint(word[0])}", len(word[0])
            )
        raise self.fail("a number or the name of a coefficient is expected here")

    def hint(self, name: str) -> str:
        close = difflib.get_close_matches(name, list(self.position), n=1)
        if close:
            return f"; did you mean {close[0]!r}?"
        return f"; the coefficients are {', '.join(map(repr, self.position))}"

    def product(self) -> _Linear:
        left = self.atom()
        while operator := self.take("*", "/"):
            at = self.at - 1
            right = self.atom()
            if operator == "*" and not left.weights.any():
                left, right = right, left
            if right.weights.any() or (operator == "/" and right.constant == 0.0):
                self.at = at
                raise self.fail(
                    "hypotheses are linear: a coefficient can only be multiplied by a number, or "
                    "divided by one that is not zero"
                )
            left = left.times(right.constant if operator == "*" else 1.0 / right.constant)
        return left

    def sum(self) -> _Linear:
        left = self.product()
        while operator := self.take("+", "-"):
            left = left.plus(self.product(), 1.0 if operator == "+" else -1.0)
        return left

    def hypotheses(self) -> list[tuple[_Linear, str]]:
        found: list[tuple[_Linear, str]] = []
        while True:
            self.skip()
            start = self.at
            sides = [self.sum()]
            while self.take("="):
                sides.append(self.sum())
            text = self.text[start : self.at].strip()
            if len(sides) == 1:
                sides.append(_Linear(np.zeros(len(self.position)), 0.0))
            for left, right in pairwise(sides):
                difference = left.plus(right, -1.0)
                if not difference.weights.any():
                    self.at = start
                    raise self.fail(f"{text!r} says nothing about any coefficient")
                found.append((difference, text))
            if self.take(","):
                continue
            self.skip()
            if self.at < len(self.text):
                raise self.fail("an operator, '=' or ',' is expected here")
            return found


def parse_hypotheses(text: str | Sequence[str], names: Sequence[str]) -> Hypotheses:
    """Read linear hypotheses about named coefficients.

    Parameters
    ----------
    text : str or sequence of str
        ``"time = 0"``, ``"recipeB - recipeC = 0, 2 * time = 1"``; an ``=`` may be left out, and
        then means ``= 0``. A name that reads like an expression may stand between backticks.
    names : sequence of str
        Names of the p coefficients.

    Returns
    -------
    Hypotheses
        ``L``, shape (q, p), ``rhs``, shape (q,), and the rows' texts.

    Raises
    ------
    LmmError
        The text cannot be read, names no coefficient, or is not linear.

    Examples
    --------
    >>> found = parse_hypotheses("b - 2 * c = 1", ["(Intercept)", "b", "c"])
    >>> found.L.tolist(), found.rhs.tolist()
    ([[0.0, 1.0, -2.0]], [1.0])
    """
    texts = [text] if isinstance(text, str) else list(text)
    rows = [row for each in texts for row in _Reader(each, names).hypotheses()]
    return Hypotheses(
        np.stack([linear.weights for linear, _ in rows]),
        np.array([0.0 - linear.constant for linear, _ in rows]),
        tuple(label for _, label in rows),
    )


def as_hypotheses(given: Any, rhs: Any, names: Sequence[str]) -> Hypotheses:
    """Text or numbers as ``L beta = rhs``, or an error that says what is wrong with them.

    Parameters
    ----------
    given : str, sequence of str, array or data frame, shape (q, p) or (p,)
        Hypotheses, or the coefficients' weights; a frame's rows name them.
    rhs : float or array of shape (q,), optional
        Beside weights; by default 0.
    names : sequence of str, length p
        The coefficients.

    Examples
    --------
    >>> as_hypotheses([[0, 1, -1]], 2.0, ["(Intercept)", "b", "c"]).labels
    ('b - c',)
    """
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, Sequence) and texts and all(isinstance(t, str) for t in texts):
        found = parse_hypotheses(texts, names)
        if rhs is not None:
            raise LmmError("hypotheses given as text hold their right-hand sides: leave rhs out")
        return found
    try:
        L = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise LmmError(
            "hypotheses about coefficients are text (one, or a list of them), or an array of the "
            f"coefficients' weights, not {given!r}"
        ) from None
    L = L[None] if L.ndim == 1 else L
    p = len(names)
    if L.ndim != 2 or L.shape[1] != p or not L.shape[0]:
        raise LmmError(
            f"L has shape {np.shape(given)}; it needs one column for each of the {p} coefficients: "
            + ", ".join(names)
        )
    right = np.zeros(len(L)) if rhs is None else np.asarray(rhs, np.float64)
    if right.ndim == 0:
        right = np.full(len(L), float(right))
    if right.shape != (len(L),):
        raise LmmError(f"rhs has shape {right.shape}; L has {len(L)} rows")
    if not (np.all(np.isfinite(L)) and np.all(np.isfinite(right))):
        raise LmmError("L and rhs must be finite")
    empty = np.flatnonzero(~L.any(axis=1))
    if empty.size:
        raise LmmError(f"row {int(empty[0])} of L is zero: it says nothing about any coefficient")
    # The rows of a data frame have names; a list has an `index` too, which is another thing.
    index = getattr(given, "index", None) if hasattr(given, "columns") else None
    labels = [_label(row, names) for row in L] if index is None else [str(i) for i in index]
    return Hypotheses(L, right, tuple(labels))


def _label(row: np.ndarray, names: Sequence[str]) -> str:
    parts = []
    for weight, name in zip(row, names, strict=True):
        if weight:
            size = "" if abs(weight) == 1.0 else f"{abs(weight):g} * "
            sign = ("-" if weight < 0 else "") if not parts else (" - " if weight < 0 else " + ")
            parts.append(f"{sign}{size}{name}")
    return "".join(parts)
