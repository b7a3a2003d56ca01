"""The units of coefficients: which of them may be compared in size.

The coefficients of a factor are in the units of the response. That of a number is in these units
for one of the number's own, and so are those of its products with factors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.expressions import Call, Node
from lmmjax.functions import LEVELS
from lmmjax.parser import value_of_factor

if TYPE_CHECKING:
    from lmmjax.coding import Coding


def _makes_levels(node: Node) -> bool:
    """Whether a term's factor is a call whose columns are those of levels."""
    return isinstance(node, Call) and node.function in LEVELS


def _is_raw(node: Node) -> bool:
    """Whether its columns are each in a unit of its own: powers of a number as they are."""
    if not isinstance(node, Call) or node.function != "poly":
        return False
    named = {key or str(at): value for at, (key, value) in enumerate(node.arguments)}
    raw = named.get("raw", named.get("2"))
    return raw is not None and str(raw) not in ("FALSE", "F", "0")


def column_units(coding: Coding) -> np.ndarray:
    """Return a number for each fixed-effects column, shape (p,): equal where units are.

    Zero stands for the units of the response itself: the intercept, and factors.

    Examples
    --------
    >>> import lmmjax as lj
    >>> cake = lj.datasets.load("cake")
    >>> design = lj.Design.from_formula("angle ~ recipe * temp + (1 | recipe:replicate)", cake)
    >>> design.x_names
    ('(Intercept)', 'recipeB', 'recipeC', 'temp', 'recipeB:temp', 'recipeC:temp')
    >>> column_units(design.coding).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    known: dict[tuple[object, ...], int] = {(): 0}
    units = []
    for column, term in enumerate(coding.assign):
        factors = coding.term_factors[term - 1] if term else ()
        read = {f: value_of_factor(f, coding.spec.names) for f in factors if f not in coding.levels}
        numbers = [f for f, node in read.items() if not _makes_levels(node)]
        key: tuple[object, ...] = tuple(sorted(numbers))
        if any(_is_raw(read[f]) for f in numbers):
            key = (*key, column)
        units.append(known.setdefault(key, len(known)))
    return np.array(units, int)


def same_units(L: Any, units: Any, xp: Any = np) -> Any:
    """Whether the rows of L, shape (q, p), are in one unit: each in that of its first weight.

    Parameters
    ----------
    L : array, shape (q, p)
    units : array of int, shape (p,)
        As :func:`column_units` gives them.
    xp : module
        NumPy, or JAX's.
    """
    own = units[xp.argmax(L != 0.0, axis=1)]
    return xp.all(own == own[0])
