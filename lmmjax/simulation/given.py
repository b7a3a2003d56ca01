"""True values as people give them, by name, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lmmjax.covariance import canonical_factor
from lmmjax.errors import LmmError

#: A correlation matrix may miss being semidefinite by this much, for rounding.
PSD_TOL = 1e-8


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first twenty of them."""
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")


def read_number(value: Any, what: str) -> float:
    """A finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise LmmError(f"{what} must be a finite number, not {value!r}")
    return number


def read_sigma(value: Any) -> np.ndarray:
    """A positive residual standard deviation."""
    number = read_number(value, "sigma")
    if number <= 0:
        raise LmmError(f"sigma must be positive, not {value!r}")
    return np.asarray(number)


def put_named(
    vector: np.ndarray, names: Sequence[str], given: Mapping[str, Any], what: str, whose: str
) -> np.ndarray:
    """`vector` with the given values at the places of their names."""
    for name, value in given.items():
        if name not in names:
            raise LmmError(f"there is no {what} {name!r}; the {whose} are {listed(names)}")
        vector[names.index(name)] = read_number(value, f"the {what} {name!r}")
    return vector


def read_vector(given: Any, names: Sequence[str], what: str) -> np.ndarray:
    """A finite number for each name, in order."""
    try:
        vector = np.atleast_1d(np.array(given, np.float64))
    except (TypeError, ValueError):
        raise LmmError(f"the {what} must be numbers, not {given!r}") from None
    if vector.shape != (len(names),) or not np.all(np.isfinite(vector)):
        raise LmmError(
            f"the {what} must be {len(names)} finite numbers, for {listed(names)}; found {given!r}"
        )
    return vector


def read_by_group(
    given: Any, groups: tuple[str, ...], columns: tuple[tuple[str, ...], ...], what: str
) -> dict[str, Any]:
    """What is given for each grouping factor; a single one need not be named."""
    if given is None:
        return {}
    named = isinstance(given, Mapping)
    if named and all(key in groups for key in given):
        return dict(given)
    if len(groups) == 1:
        # By effect (or pair of effects) at once; a wrong name is found there.
        inner = {*columns[0]}
        if not named or any(
            key in inner or (isinstance(key, tuple) and inner.intersection(key)) for key in given
        ):
            return {groups[0]: given}
    if not named:
        raise LmmError(f"{what} must be a mapping by grouping factor: {listed(groups)}")
    wrong = next(key for key in given if key not in groups)
    raise LmmError(
        f"{what} names the grouping factor {wrong!r}, which the model does not have; it has "
        f"{listed(groups)}"
    )


def read_deviations(
    given: Any, group: str, names: tuple[str, ...], old: np.ndarray | None = None
) -> np.ndarray:
    """Standard deviations of a factor's effects; those that are not named stay as they are."""
    if isinstance(given, Mapping):
        start = np.full(len(names), np.nan) if old is None else old
        sds = put_named(start, names, given, f"random effect of {group!r}", "effects")
        if np.isnan(sds).any():
            lost = [name for name, value in zip(names, sds, strict=True) if np.isnan(value)]
            raise LmmError(f"the sd of {group!r} lacks {listed(lost)} (0 is possible)")
    else:
        sds = read_vector(given, names, f"sds of {group!r}")
    if sds.min(initial=0.0) < 0:
        raise LmmError(f"standard deviations cannot be negative: {group!r} has {sds.min():g}")
    return sds


def read_correlations(
    given: Any, group: str, names: tuple[str, ...], old: np.ndarray | None = None
) -> np.ndarray:
    """Correlation matrix of a factor's effects; pairs that are not named stay as they are."""
    k = len(names)
    out = np.eye(k) if old is None else old.copy()
    if given is None:
        return out
    if isinstance(given, Mapping):
        for pair, value in given.items():
            if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] == pair[1]:
                raise LmmError(
                    f"correlations of {group!r} go by pairs of effects, as "
                    f"{{({names[0]!r}, {names[-1]!r}): 0.5}}, not {pair!r}"
                )
            for name in pair:
                if name not in names:
                    raise LmmError(
                        f"there is no random effect {name!r} of {group!r}; the effects are "
                        f"{listed(names)}"
                    )
            i, j = (names.index(name) for name in pair)
            out[i, j] = out[j, i] = read_number(
                value, f"the correlation of {pair[0]!r}, {pair[1]!r}"
            )
    elif np.ndim(given) == 0:
        value = read_number(given, f"the correlation of {group!r}")
        out = np.full((k, k), value)
        np.fill_diagonal(out, 1.0)
    else:
        out = read_matrix(given, names, f"the correlation of {group!r}")
        if not np.allclose(np.diagonal(out), 1.0):
            raise LmmError(f"the correlation matrix of {group!r} must have ones on its diagonal")
    if np.abs(out).max(initial=0.0) > 1 + PSD_TOL:
        raise LmmError(f"correlations lie between -1 and 1: {group!r} has {np.abs(out).max():g}")
    return out


def read_matrix(given: Any, names: tuple[str, ...], what: str) -> np.ndarray:
    """A symmetric matrix of shape (k, k)."""
    k = len(names)
    try:
        matrix = np.array(given, np.float64)
    except (TypeError, ValueError):
        raise LmmError(f"{what} must be a matrix of numbers, not {given!r}") from None
    if matrix.shape != (k, k) and k == 1 and matrix.size == 1:
        matrix = matrix.reshape(1, 1)
    if matrix.shape != (k, k):
        raise LmmError(
            f"{what} must have shape ({k}, {k}), for {listed(names)}, not {matrix.shape}"
        )
    if not np.all(np.isfinite(matrix)) or not np.allclose(matrix, matrix.T):
        raise LmmError(f"{what} must be finite and symmetric")
    return 0.5 * (matrix + matrix.T)


def correlation_matrix(factor: Any) -> np.ndarray:
    """Correlations of ``L L'``; 0 beside a zero variance."""
    length = np.linalg.norm(factor, axis=1)
    unit = np.asarray(factor) / np.where(length > 0, length, 1.0)[:, None]
    corr = unit @ unit.T
    np.fill_diagonal(corr, 1.0)
    return corr


def covariance_factor(
    matrix: np.ndarray, group: str, names: tuple[str, ...], sizes: tuple[int, ...]
) -> np.ndarray:
    """Lower-triangular factor of a covariance matrix, block by block; it may be singular."""
    scale = np.sqrt(np.abs(np.diagonal(matrix)))
    factor = np.zeros_like(matrix)
    block = np.repeat(np.arange(len(sizes)), sizes)
    outside = np.where(block[:, None] == block, 0.0, matrix)
    if np.any(np.abs(outside) > PSD_TOL * np.outer(scale, scale)):
        i, j = np.unravel_index(np.argmax(np.abs(outside)), outside.shape)
        raise LmmError(
            f"the formula keeps {names[i]!r} and {names[j]!r} of {group!r} independent: they "
            "cannot be correlated"
        )
    unit = matrix / np.outer(np.where(scale > 0, scale, 1.0), np.where(scale > 0, scale, 1.0))
    at = 0
    for size in sizes:
        own = slice(at, at + size)
        values, vectors = np.linalg.eigh(unit[own, own])
        if values[0] < -PSD_TOL:
            raise LmmError(
                f"the random effects of {group!r} have no such covariance: the matrix of "
                f"{listed(names[own])} has a negative eigenvalue ({values[0]:.3g} in correlations)"
            )
        if values[0] > PSD_TOL:
            factor[own, own] = scale[own, None] * np.linalg.cholesky(unit[own, own])
        else:
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            factor[own, own] = canonical_factor(scale[own, None] * root)
        at += size
    return factor
