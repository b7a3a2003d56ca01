"""Families of contrasts between means: coefficients, names, and the adjustment that suits them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from lmmjax.errors import LmmError

#: Signs in a level's name would be read as part of the contrast.
_SIGNS = re.compile(r"[-+/*]")


class ContrastFamily(NamedTuple):
    """Contrasts of m means.

    Attributes
    ----------
    names : tuple of str
    weights : ndarray, shape (k, m)
    adjust : str
        The adjustment of p values that they have unless another is asked for.
    pairwise : bool
        Whether they are all differences of two means.
    size : int
        Number of means, the size of the family for Tukey's method.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    adjust: str
    pairwise: bool
    size: int


def in_contrasts(labels: Sequence[str]) -> list[str]:
    """Labels as they stand in contrasts' names: in brackets where they hold signs."""
    return [f"({text})" if _SIGNS.search(text) else text for text in labels]


def _differences(
    pairs: Sequence[tuple[int, int]], labels: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    eye = np.eye(len(labels))
    weights = np.array([eye[i] - eye[j] for i, j in pairs]).reshape(-1, len(labels))
    return tuple(f"{labels[i]} - {labels[j]}" for i, j in pairs), weights


def polynomial(count: int) -> np.ndarray:
    """Orthogonal polynomials over equally spaced levels, as small whole numbers, shape (k, m).

    Up to degree 6.

    Examples
    --------
    >>> polynomial(4).astype(int).tolist()
    [[-3, -1, 1, 3], [1, -1, -1, 1], [-1, 3, -3, 1]]
    """
    x = np.arange(count) - 0.5 * (count - 1)
    degree = min(6, count - 1)
    # Named factors, for NumPy's type stubs.
    q, r = (np.asarray(part) for part in np.linalg.qr(np.vander(x, degree + 1, increasing=True)))
    made = (q * np.sign(np.diagonal(r)))[:, 1:].T
    out = np.empty(made.shape)
    for row, values in enumerate(made):
        scaled = values / values[values > 0.01].min()
        away = np.abs(scaled - np.round(scaled)).max()
        while away > 0.05:
            scaled = scaled / away
            away = np.abs(scaled - np.round(scaled)).max()
        out[row] = np.round(scaled)
    return out + 0.0


def _reference(ref: Any, labels: Sequence[str], plain: Sequence[str]) -> int:
    if isinstance(ref, str):
        for names in (labels, plain):
            if ref in names:
                return list(names).index(ref)
    elif isinstance(ref, (int, np.integer)) and -len(labels) <= ref < len(labels):
        return int(ref) % len(labels)
    raise LmmError(
        f"ref must be the name or the position of a mean, not {ref!r}; the means are "
        f"{', '.join(map(repr, plain))}"
    )


_DEGREES = ("linear", "quadratic", "cubic", "quartic", "degree 5", "degree 6")


def contrast_family(method: Any, plain: Sequence[str], ref: Any = None) -> ContrastFamily:
    """Coefficients of a family of contrasts.

    Parameters
    ----------
    method : str or mapping
        ``"pairwise"``, ``"revpairwise"``, ``"trt.vs.ctrl"``, ``"trt.vs.ctrlk"``, ``"consec"``,
        ``"eff"``, ``"del.eff"``, ``"poly"`` or ``"identity"``; or contrasts by name, each by its
        weights or by a mapping of means to weights.
    plain : sequence of str
        Labels of the m means.
    ref : str or int, optional
        The control, for ``"trt.vs.ctrl"``; by default the first (``"trt.vs.ctrlk"``: the last).

    Returns
    -------
    ContrastFamily

    Raises
    ------
    LmmError
        The method is unknown, or its weights do not fit the means.

    Examples
    --------
    >>> family = contrast_family("pairwise", ["A", "B", "C"])
    >>> family.names, family.weights.astype(int).tolist()
    (('A - B', 'A - C', 'B - C'), [[1, -1, 0], [1, 0, -1], [0, 1, -1]])
    """
    labels, m = in_contrasts(plain), len(plain)
    if ref is not None and method not in ("trt.vs.ctrl", "trt.vs.ctrlk"):
        raise LmmError("ref is for method='trt.vs.ctrl'")
    if isinstance(method, Mapping):
        return _custom(method, labels, plain)
    eye = np.eye(m)
    if method in ("pairwise", "revpairwise"):
        pairs = list(combinations(range(m), 2))
        if method == "revpairwise":
            pairs = [(j, i) for j in range(m) for i in range(j)]
        return ContrastFamily(*_differences(pairs, labels), "tukey", True, m)
    if method in ("trt.vs.ctrl", "trt.vs.ctrlk"):
        default = 0 if method == "trt.vs.ctrl" else m - 1
        control = default if ref is None else _reference(ref, labels, plain)
        pairs = [(i, control) for i in range(m) if i != control]
        return ContrastFamily(*_differences(pairs, labels), "dunnettx", False, m - 1)
    if method == "consec":
        pairs = [(i + 1, i) for i in range(m - 1)]
        return ContrastFamily(*_differences(pairs, labels), "sidak", False, m - 1)
    if method == "eff":
        names = tuple(f"{text} effect" for text in labels)
        return ContrastFamily(names, eye - 1.0 / m, "fdr", False, m)
    if method == "del.eff":
        names = tuple(f"{text} effect" for text in labels)
        return ContrastFamily(names, (eye * m - 1.0) / max(m - 1, 1), "fdr", False, m)
    if method == "poly":
        weights = polynomial(m) if m > 1 else np.empty((0, m))
        return ContrastFamily(_DEGREES[: len(weights)], weights, "none", False, len(weights))
    if method == "identity":
        return ContrastFamily(tuple(labels), eye, "none", False, m)
    raise LmmError(
        "method must be 'pairwise', 'revpairwise', 'trt.vs.ctrl', 'trt.vs.ctrlk', 'consec', 'eff', "
        f"'del.eff', 'poly', 'identity', or a dict of contrasts, not {method!r}"
    )


def _custom(given: Mapping, labels: Sequence[str], plain: Sequence[str]) -> ContrastFamily:
    m, rows = len(plain), []
    for name, weights in given.items():
        if isinstance(weights, Mapping):
            row = np.zeros(m)
            for key, weight in weights.items():
                row[_reference(str(key), labels, plain)] = weight
        else:
            row = np.asarray(weights, np.float64)
        if row.shape != (m,) or not np.all(np.isfinite(row)):
            raise LmmError(
                f"the contrast {name!r} has weights of shape {row.shape}; it needs {m} finite "
                f"numbers, for the means {', '.join(map(repr, plain))}"
            )
        rows.append(row)
    if not rows:
        raise LmmError("a dict of contrasts needs at least one")
    return ContrastFamily(tuple(map(str, given)), np.array(rows), "none", False, len(rows))
