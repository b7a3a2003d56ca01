"""Decide whether a covariance matrix of random effects lies on its boundary: one rule for all fits.

lme4 calls a fit singular where a diagonal entry of Lambda, relative to sigma, is below 1e-4. That
number has the units of the columns, so here it is asked of columns of unit scale: those of an
unstructured bar are orthonormalised (for a slope it does not matter where its variable's zero is),
others are divided by their root mean square. A fit and its lane in a batch get the same answer, in
whatever units the predictors are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.covariance import Diagonal, SymmetricRoot, Unstructured

if TYPE_CHECKING:
    from lmmjax.covariance import Covariance
    from lmmjax.estimate import Estimate
    from lmmjax.fitting import Fitted
    from lmmjax.likelihood.crossproducts import Prepared

#: lme4's threshold for a relative Cholesky diagonal.
SINGULAR_TOL = 1e-4
#: Keeps 0 / 0 from being NaN.
TINY = np.finfo(np.float64).tiny


def _known_pivot(structure: Covariance, theta: np.ndarray) -> Any:
    """Return the least pivot of a common structure, shape (...); None for the others.

    Without LAPACK: this runs at every fit, and a call into it costs as much as all the rest.
    """
    if type(structure) is Diagonal:
        return np.abs(theta).min(axis=-1)
    if type(structure) not in (Unstructured, SymmetricRoot):
        return None
    if structure.size == 1:
        return abs(theta[..., 0])
    if structure.size == 2:
        a, b, c = theta[..., 0], theta[..., 1], theta[..., 2]
        if type(structure) is not SymmetricRoot:
            return np.minimum(abs(a), abs(c))
        # The first pivot is a column's length, and the product of both the determinant.
        first = np.hypot(a, b)
        return np.minimum(first, abs(a * c - b * b) / (first + TINY))
    return None


def _least_pivot(root: np.ndarray) -> np.ndarray:
    """Return the least diagonal entry of ``L`` with ``L L' = root root'``, shape (...)."""
    # L = R' of root' = Q R.
    triangle = np.asarray(np.linalg.qr(np.swapaxes(root, -1, -2), mode="r"))
    return np.abs(np.diagonal(triangle, axis1=-2, axis2=-1)).min(axis=-1)


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
        start = 0
        for structure in bars:
            size = structure.size
            least = _known_pivot(structure, thetas[..., at : at + structure.n_theta])
            if least is None:
                own = slice(start, start + size)
                root = np.asarray(estimate.factors[t])[..., own, own]
                if structure.equivariance == "none":
                    # Searched in the columns' own units: bring them to unit scale here.
                    scale = np.sqrt(np.mean(np.square(prepared.term_rows[t][:, own]), axis=0))
                    root = root * scale[:, None]
                least = _least_pivot(root)
            # Written so that NaN counts as singular.
            yield t, start, size, np.logical_not(least >= tol)
            at += structure.n_theta
            start += size


def singular_bars(raw: Fitted, tol: float = SINGULAR_TOL) -> list[tuple[int, int, int]]:
    """List term, first column and size of each bar whose covariance matrix is singular."""
    found = bars_at_boundary(raw.prepared, raw.estimate, tol)
    return [(t, start, size) for t, start, size, singular in found if singular]


def ratio_pvalue(statistic: Any, df: int, *, mixture: bool) -> np.ndarray:
    """Return p values of likelihood-ratio statistics.

    Parameters
    ----------
    statistic : float or ndarray
        Difference of two deviances.
    df : int
        Parameters that the smaller model has less.
    mixture : bool
        Whether exactly one variance is among them, which lies on its boundary: the reference is
        then the 50:50 mixture of chi-squares with ``df - 1`` and ``df`` (Stram & Lee 1994,
        Biometrics 50, 1171-1177).

    Examples
    --------
    >>> ratio_pvalue(2.705543, 1, mixture=True).round(6)
    np.float64(0.05)
    """
    from scipy.special import chdtrc

    statistic = np.maximum(statistic, 0.0)
    p = chdtrc(df, statistic)
    if not mixture:
        return p
    below = chdtrc(df - 1, statistic) if df > 1 else (statistic <= 0.0).astype(np.float64)
    return 0.5 * (below + p)
