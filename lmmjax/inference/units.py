"""The units of coefficients: which of them may be compared in size.

The coefficients of a factor are in the units of the response. That of a number is in these units
for one of the number's own, and so are those of its products with factors.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lmmjax.coding import Coding

#: Calls that make a factor.
_FACTOR = re.compile(r"(C|factor|relevel|dummy)\(")
#: Calls whose columns are each in a unit of its own: powers of a number as they are.
_POWERS = re.compile(r"\braw\s*=\s*T")


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
        numbers = [f for f in factors if f not in coding.levels and not _FACTOR.match(f)]
        key: tuple[object, ...] = tuple(sorted(numbers))
        if any(_POWERS.search(f) for f in numbers):
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
