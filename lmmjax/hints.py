"""Hints about data that a model can be fitted to, and that probably mean something else.

A yes/no or a count response, numbers that are codes of groups, a number that stands for a missing
value, and numbers that were read as text. Each is a guess, so that the rules are narrow: none of
the shipped data sets, in whatever roles their columns are put, gives a hint.
"""

import re
from collections.abc import Mapping

import numpy as np

from .columns import Column
from .errors import DesignWarning, warn
from .expressions import Name
from .formula import FormulaSpec
from .numbers_as_text import spelling, what_would_read
from .parser import read_terms, read_value

#: Names, or last words of names, whose whole numbers are most likely labels; and words after them.
_GROUPS = frozenset(
    (
        *("arm", "batch", "block", "brand", "cage", "category", "center", "centre", "clinic"),
        *("cluster", "condition", "country", "diet", "drug", "ethnicity", "family", "genotype"),
        *("group", "grp", "hospital", "id", "ids", "kind", "lab", "litter", "operator"),
        *("participant", "patient", "plate", "plot", "race", "rater", "recipe", "region", "school"),
        *("site", "species", "strain", "subj", "subject", "treatment", "treat", "trt", "variety"),
        "ward",
    )
)
_NUMBERED = frozenset(("code", "id", "idx", "index", "no", "nr", "num", "number"))
_LOW = (-9.0, -99.0, -999.0, -9999.0, -99999.0)
_HIGH = (99.0, 999.0, 9999.0, 99999.0, 999999.0)
#: Rows that are looked at before all are.
_FIRST = 64
# A response counts as counts from these on: share of zeros, largest value, skewness.
_ZEROS, _LARGEST, _SKEW = 0.05, 3, 0.5
# A text column counts as numbers from these on: distinct numbers, and their share.
_NUMBERS, _SHARE = 5, 0.8


def warn_of_oddities(
    spec: FormulaSpec, named: Mapping[str, Column], rows: np.ndarray, response: bool
) -> None:
    """Give one warning of all that is odd about a model's columns.

    Parameters
    ----------
    spec : FormulaSpec
    named : mapping of str to Column
        The columns that it uses, complete rows only.
    rows : np.ndarray of int, shape (n,)
        Where these rows stand in the user's frame.
    response : bool
        Whether the response is among them.
    """
    found: list[str] = []
    left = read_value(spec.response)
    if response and isinstance(left, Name):
        found += _of_response(named[left.name])
    plain = {
        factor.node.name
        for term in read_terms(spec.fixed).terms
        for factor in term
        if isinstance(factor.node, Name)
    }
    for name, column in named.items():
        if column.kind == "number":
            found += _sentinel(column)
            if name in plain:
                found += _codes(column)
        elif column.kind == "text" and name in plain:
            found += _text(column, rows)
    if found:
        warn("; ".join(found), DesignWarning)


def _of_response(column: Column) -> list[str]:
    y = column.numbers()
    low, high = y.min(), y.max()
    start = y[:_FIRST]
    if ((start == low) | (start == high)).all() and ((y == low) | (y == high)).all():
        return [
            f"the response {column.name!r} has two values, {low:g} and {high:g}: a linear mixed "
            "model takes them for amounts; yes/no responses call for a logistic mixed model"
        ]
    if low != 0.0 or high < _LARGEST or (start != np.floor(start)).any():
        return []
    if (y != np.floor(y)).any() or np.mean(y == 0.0) < _ZEROS:
        return []
    centred = y - y.mean()
    if np.mean(centred**3) <= _SKEW * np.mean(centred**2) ** 1.5:
        return []
    return [
        f"the response {column.name!r} looks like counts (whole numbers from 0 to {high:g}, "
        f"{100 * np.mean(y == 0.0):.0f}% of them 0): counts call for a Poisson or negative "
        "binomial mixed model, or for a transform such as sqrt"
    ]


def _sentinel(column: Column) -> list[str]:
    """A number far from all others that is written where a value is missing."""
    values = column.numbers()
    low, high = float(values.min()), float(values.max())
    if low in _LOW:
        others = values[values != low]
        odd, reason = low, "although nothing else is negative"
        is_odd = bool(others.size) and others.min() >= 0.0
    elif high in _HIGH:
        others = values[values != high]
        odd, reason = high, "ten times as much as anything else"
        is_odd = bool(others.size) and 10.0 * np.abs(others).max() < high
    else:
        return []
    if not is_odd:
        return []
    count = len(values) - len(others)
    return [
        f"{column.name!r} is {odd:g} in {count} row{'s' if count > 1 else ''}, {reason}: if that "
        f"stands for missing, set it to NaN (data[{column.name!r}].replace({odd:g}, numpy.nan); on "
        f"the command line: --na-values {odd:g})"
    ]


def _codes(column: Column) -> list[str]:
    """Labels of groups that are used as amounts."""
    # Of schoolSES the last word says what it is, of schoolNR it says that it counts schools.
    words = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", column.name)]
    if len(words) > 1 and words[-1] in _NUMBERED:
        words.pop()
    if not words or words[-1] not in _GROUPS:
        return []
    distinct = np.unique(column.values)
    if len(distinct) < 3 or (distinct != np.floor(distinct)).any():
        # Two codes make one column either way.
        return []
    name = column.name
    low, middle, high = (f"{value:g}" for value in distinct[:3])
    return [
        f"{name!r} is used as an amount, although its {len(distinct)} whole numbers look like "
        f"labels: if they are, write factor({name}); as it is, the step from {low} to {middle} is "
        f"measured on one scale with that from {middle} to {high}"
    ]


def _text(column: Column, rows: np.ndarray) -> list[str]:
    """Numbers that one value, or decimal commas, made text."""
    found = spelling(column.categories)
    others = len(found.comma) + len(found.grouped) + len(found.other)
    few = found.numbers < max(_NUMBERS, _SHARE * len(column.categories))
    if few or not others:
        return []
    advice = what_would_read(column.name, column.categories, column.values, rows)
    return [
        f"{column.name!r} is text and was taken for a factor of {len(column.categories)} levels, "
        f"but {found.numbers} of them are numbers: {advice}"
    ]
