"""Decide whether a covariance matrix of random effects lies on its boundary: one rule for all fits.

lme4 calls a fit singular where a diagonal entry of Lambda, relative to sigma, is below 1e-4. That
number has the units of the columns, so here it is asked of columns of unit scale: those of an
unstructured bar are orthonormalised (for a slope it does not matter where its variable's zero is),
others are divided by their root mean square. A fit and its lane in a batch get the same answer, in
whatever units the predictors are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.covariance import Diagonal, SymmetricRoot, Unstructured

if TYPE_CHECKING:
    from lmmjax.covariance import Covariance
    from lmmjax.estimate import Estimate
    from lmmjax.fitting import Fitted
    from lmmjax.likelihood.crossproducts import Prepared

#: lme4's threshold for a relative Cholesky diagonal.
SINGULAR_TOL = 1e-4


def pivots(structure: Covariance, theta: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Return the diagonal of the Cholesky factor of one bar's relative covariance.

    Parameters
    ----------
    structure : Covariance
        In its search form.
    theta : ndarray, shape (..., n_theta)
        Search parameters.
    root : ndarray, shape (..., k, k)
        A square root of the relative covariance, for columns of unit scale.

    Returns
    -------
    ndarray, shape (..., k)
    """
    # Without LAPACK where that is possible: this runs at every fit, and a call into it costs as
    # much as all the rest.
    if isinstance(structure, Diagonal) or structure.size == 1:
        return np.abs(theta if isinstance(structure, Diagonal) else root[..., 0])
    if isinstance(structure, Unstructured) and structure.size == 2:
        a, b, c = theta[..., 0], theta[..., 1], theta[..., 2]
        if not isinstance(structure, SymmetricRoot):
            return np.abs(np.stack([a, c], axis=-1))
        first = np.hypot(a, b)
        second = np.abs(a * c - b * b) / np.where(first > 0, first, 1.0)
        return np.stack([first, second], axis=-1)
    # L L' = root root' with L = R' of root' = Q R.
    triangle = np.asarray(np.linalg.qr(np.swapaxes(root, -1, -2), mode="r"))
    return np.abs(np.diagonal(triangle, axis1=-2, axis2=-1))


def bars_at_boundary(
    prepared: Prepared, estimate: Estimate, tol: float = SINGULAR_TOL
) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yield each bar's term, first column, size, and whether its covariance matrix is singular.

    Parameters
    ----------
    prepared : Prepared
    estimate : Estimate
        Of one fit or, with leading axes, of many.
    tol : float

    Yields
    ------
    term, start, size : int
    singular : ndarray of bool, shape (...)
    """
    at = 0
    thetas = np.asarray(estimate.solution.theta)
    for t, bars in enumerate(prepared.search_structures):
        factors = np.asarray(estimate.factors[t])
        start = 0
        for structure in bars:
            size = structure.size
            own = slice(start, start + size)
            theta, root = thetas[..., at : at + structure.n_theta], factors[..., own, own]
            if structure.equivariance == "none":
                # Searched in the columns' own units: bring them to unit scale here.
                scale = np.sqrt(np.mean(np.square(prepared.term_rows[t][:, own]), axis=0))
                root = root * scale[:, None]
            # Written so that NaN counts as singular.
            yield t, start, size, ~np.all(pivots(structure, theta, root) >= tol, axis=-1)
            at += structure.n_theta
            start += size


def singular_bars(raw: Fitted, tol: float = SINGULAR_TOL) -> list[tuple[int, int, int]]:
    """List term, first column and size of each bar whose covariance matrix is singular."""
    found = bars_at_boundary(raw.prepared, raw.estimate, tol)
    return [(t, start, size) for t, start, size, singular in found if singular]
