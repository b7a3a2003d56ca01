"""Shares to the nearest whole: how often each of some items is taken so that its kinds keep theirs.

A study of 20 schools, ten an arm, is to have 30, or 12: which schools are taken once more, or left
out? Those that leave each arm, each sector, and each sector's schools of an arm with their shares.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Ranks that a quantity with a value for nearly every item is cut into.
BINS = 4


def kinds(values: np.ndarray) -> np.ndarray:
    """Code of each item, shape (items,), by its row of values, shape (items, k).

    Codes are in the order of their first item. Values that are alike up to rounding are one.
    """
    scale = np.abs(values).max(axis=0, initial=0.0)
    rounded = np.round(values / np.where(scale > 0, scale, 1.0), 11) + 0.0
    _, first, code = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[code.reshape(-1)]


def is_quantity(code: np.ndarray) -> bool:
    """Whether nearly every item has a kind of its own: then there are no shares to keep."""
    return 2 * (int(code.max(initial=-1)) + 1) > len(code)


def ranks(values: np.ndarray) -> np.ndarray:
    """Code of each item, shape (items,), by the rank of its value, in four equal parts."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return order * BINS // max(len(values), 1)


def copies(
    systems: Sequence[np.ndarray], n: int, weights: Sequence[float] | None = None
) -> np.ndarray:
    """How often each item is taken, n in all, so that every kind keeps its share.

    Parameters
    ----------
    systems : sequence of ndarray of int, shape (items,)
        Codes of the items' kinds, one array for each way to divide them.
    n : int
        Total.
    weights : sequence of float, optional
        What a deviation from the shares counts in each system; 1 by default.

    Returns
    -------
    ndarray of int, shape (items,)
        No two differ by more than one.

    Notes
    -----
    All are taken ``n // items`` times. The rest are taken one at a time, each the one whose kinds
    are furthest below their quotas, and of those the first. That minimises the squared deviations
    from the quotas, which for one system are largest remainders; for more it is minimisation as
    clinical trials know it (Pocock & Simon 1975, Biometrics 31, 103-115).

    Examples
    --------
    >>> arm = np.repeat([0, 1], 10)
    >>> np.bincount(arm, copies([arm], 12)).tolist()
    [6.0, 6.0]
    """
    items = len(systems[0])
    taken = np.full(items, n // items)
    rest = n % items
    if not rest:
        return taken
    code = np.stack(systems, axis=1)
    _, first, kind = np.unique(code, axis=0, return_index=True, return_inverse=True)
    # Types of items in the order of their first one; of each, those not yet taken.
    place = np.argsort(first)
    code, kind = code[first[place]], np.argsort(place)[kind.reshape(-1)]
    left = np.bincount(kind)
    chosen = np.zeros_like(left)
    weight = np.ones(code.shape[1]) if weights is None else np.asarray(weights)
    below = [np.bincount(own) * (rest / items) for own in systems]
    score = sum(w * b[own] for w, b, own in zip(weight, below, code.T, strict=True))
    for _ in range(rest):
        t = int(np.argmax(np.where(left > 0, np.round(score, 9), -np.inf)))
        left[t] -= 1
        chosen[t] += 1
        score = score - (code == code[t]) @ weight
    order = np.argsort(kind, kind="stable")
    starts = np.cumsum(np.bincount(kind)) - np.bincount(kind)
    within = np.empty(items, np.int64)
    within[order] = np.arange(items) - np.repeat(starts, np.bincount(kind))
    return taken + (within < chosen[kind])
