"""Whether a model can still be estimated from some of its groups, each taken so many times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lmmjax.likelihood.segments import group_gram

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.result import LinearMixedModelResult

#: Smallest eigenvalue of a draw's cross-product, relative to the whole data's, that counts.
RANK_TOL = 1e-9


def estimable(
    fit: LinearMixedModelResult, index: np.ndarray, count: int, times: np.ndarray
) -> np.ndarray:
    """Whether fixed effects and covariances are determined, shape (draws,).

    A predictor that has lost a level, or a random slope whose column is constant in what is left,
    is not.

    Parameters
    ----------
    fit : LinearMixedModelResult
    index : ndarray of int, shape (n,)
        Group of each row.
    count : int
        Number of groups.
    times : ndarray, shape (draws, count)
        How often each draw has each group.
    """
    rows = times @ np.bincount(index, minlength=count)
    possible = rows > fit.design.X.shape[1]
    root = np.sqrt(fit.design.weights)[:, None]
    for columns in _blocks(fit.design):
        basis = _basis(root * columns)
        gram = np.moveaxis(group_gram(basis, basis, index, count), -1, 0)
        drawn = np.einsum("dg,gab->dab", times, gram)
        if basis.shape[1]:
            possible &= np.linalg.eigvalsh(drawn)[:, 0] > RANK_TOL
    return possible


def _blocks(design: Design) -> list[np.ndarray]:
    """Columns that must stay independent of each other: of X, and of each bar."""
    out = [design.X]
    for term in design.terms:
        ends = np.cumsum(term.blocks)
        out += np.split(term.Z, ends[:-1], axis=1)
    return out


def _basis(columns: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the columns' span, shape (n, rank)."""
    size = np.sqrt(np.sum(columns**2, axis=0))
    left, values, _ = np.linalg.svd(columns / np.where(size > 0, size, 1.0), full_matrices=False)
    return left[:, values > 1e-7 * values.max(initial=0.0)]
