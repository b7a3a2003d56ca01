"""Checks of single arguments: whole numbers, shares, and the method of estimation."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmmjax.errors import LmmError


def check_whole(name: str, value: Any, least: int) -> int:
    """A whole number of at least `least`, or an error that calls it `name`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise LmmError(f"{name} must be an int of at least {least}, not {value!r}")
    return int(value)


def check_share(name: str, value: Any) -> None:
    """Raise unless a number lies between 0 and 1, as a test's level does."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not 0 < value < 1:
        raise LmmError(f"{name} must lie between 0 and 1, not {value!r}")


def is_reml(method: Any) -> bool:
    """Return whether ``"REML"`` is asked for, or ``"ML"``, in small letters or large.

    Raises
    ------
    LmmError
        It is neither.

    Examples
    --------
    >>> is_reml("reml"), is_reml("ML")
    (True, False)
    """
    found = method.upper() if isinstance(method, str) else method
    if found not in ("REML", "ML"):
        raise LmmError(f"method must be 'REML' or 'ML', not {method!r}")
    return found == "REML"
