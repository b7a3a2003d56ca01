"""Denominator degrees of freedom of a several-df F test, by Satterthwaite's method.

The hypotheses are turned into uncorrelated ones, each of which has df of its own; those of the F
are pooled from them. Written over an array namespace: one fit and many have NumPy, expected power
JAX.

Source: Fai & Cornelius (1996), J. Statist. Comput. Simul. 54, 363-378.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.reading.coefficients import (
    contrast_df,
    covariance_of,
    covariance_slopes,
    moved_rows,
)

if TYPE_CHECKING:
    from lmmjax.inference.satterthwaite import FixedInference

#: Eigenvalues of LVL', relative to the largest, up to which lmerTest leaves directions out.
RANK_TOL = float(np.sqrt(np.finfo(float).eps))
#: Degrees of freedom this close agree.
SAME_DF = 1e-8
#: Weight of what decides between directions of equal variance.
TIE = 1e-8


def pooled_df(nu: Any, xp: Any = np) -> Any:
    """Return denominator df of the mean of q squared t variables with df ``nu``, shape (..., q).

    They are those of the F distribution with the same mean: with ``E = sum nu / (nu - 2)``,
    ``2 E / (E - q)``, which is two more than the harmonic mean of ``nu - 2``. Where one of them has
    no mean (``nu <= 2``) they are 2, and those that agree are kept.

    Parameters
    ----------
    nu : array, shape (..., q)
    xp : module
        NumPy, or JAX's.

    Examples
    --------
    >>> float(pooled_df(np.array([10.0, 20.0])))
    13.076923076923077
    """
    enough = nu > 2.0
    # Both branches must be finite, or their derivatives would not be.
    less = xp.sum(1.0 / xp.where(enough, nu - 2.0, 1.0), axis=-1)
    mean = 2.0 + nu.shape[-1] / xp.where(less > 0.0, less, 1.0)
    pooled = xp.where(less > 0.0, mean, np.inf)
    pooled = xp.where(xp.any(nu <= 2.0, axis=-1), 2.0, pooled)
    pooled = xp.where(xp.any(xp.isnan(nu), axis=-1), np.nan, pooled)
    spread = xp.max(nu, axis=-1) - xp.min(nu, axis=-1)
    return xp.where(spread < SAME_DF, xp.mean(nu, axis=-1), pooled)


def row_sizes(V: Any, alike: Any, rank: int, xp: Any = np) -> Any:
    """Return by what to divide hypotheses before directions among them are sought.

    The df depend on the lengths of the rows of L. Rows in one unit keep theirs, which makes the df
    those of lmerTest. Others are brought to unit standard error, because no F may depend on the
    unit of a predictor; and so are rows in one unit of so different sizes that directions would be
    lost.

    Parameters
    ----------
    V : array, shape (..., q, q)
        Covariance of the hypotheses' estimates.
    alike : bool
        Whether they are in one unit (:func:`lmmjax.inference.units.same_units`).
    rank : int
        How many directions there are.
    xp : module
        NumPy, or JAX's.

    Returns
    -------
    array, shape (..., q)
    """
    values = xp.linalg.eigvalsh(V)
    found = xp.sum(values > RANK_TOL * values[..., -1:], axis=-1)
    se = xp.sqrt(xp.diagonal(V, axis1=-2, axis2=-1))
    return xp.where((alike & (found == rank))[..., None], 1.0, xp.where(se > 0.0, se, 1.0))


def parted(V: Any, slopes: Any, cov: Any, xp: Any = np) -> Any:
    """Return V with a little added that tells directions of equal variance from each other.

    Where eigenvalues are equal (estimates that are uncorrelated, at unit standard error) any
    directions would do, and rounding would choose: these are chosen that differ most in what their
    df depend on, the change of their variance with the parameters.

    Parameters
    ----------
    V : array, shape (..., q, q)
        Covariance of the hypotheses' estimates.
    slopes : array, shape (..., m, q, q)
        Its derivatives in the variance parameters.
    cov : array, shape (..., m, m)
        Their covariance.
    xp : module
        NumPy, or JAX's.
    """
    weighted = xp.einsum("...ij,...jab->...iab", cov, slopes)
    apart = xp.sum(slopes @ weighted, axis=-3)
    apart = 0.5 * (apart + xp.swapaxes(apart, -1, -2))
    size, own = (xp.trace(a, axis1=-2, axis2=-1)[..., None, None] for a in (V, apart))
    return V + TIE * size * apart / xp.where(own > 0.0, own, 1.0)


def denominator_df(L: np.ndarray, fixed: FixedInference, alike: bool, rank: int) -> Any:
    """Return denominator df of the joint test of hypotheses, for a fit or for each of many.

    Parameters
    ----------
    L : ndarray, shape (q, p)
        Rows may depend on each other.
    fixed : FixedInference
        Of one fit, or of many, whose axis then comes first.
    alike : bool
        Whether the rows are in one unit (:func:`lmmjax.inference.units.same_units`).
    rank : int
        Rank of L.

    Returns
    -------
    ndarray, shape () or (fits,)
    """
    if len(L) == 1:
        return contrast_df(L, fixed)[..., 0]
    V = covariance_of(L, fixed)
    # A fit without estimates has no df, and must not stop the others.
    usable = np.asarray(np.isfinite(V).all(axis=(-2, -1)))
    V = np.where(usable[..., None, None], V, np.eye(len(L)))
    size = row_sizes(V, alike, rank)
    rows = L / size[..., None]
    slopes = np.nan_to_num(covariance_slopes(moved_rows(rows, fixed), fixed))
    V = V / (size[..., :, None] * size[..., None, :])
    V = parted(V, slopes, np.nan_to_num(np.asarray(fixed.parameter_cov)))
    # In ascending order: where rows depend on each other the first say nothing.
    vectors = np.linalg.eigh(V)[1][..., -rank:]
    nu = contrast_df(np.swapaxes(vectors, -1, -2) @ rows, fixed)
    return np.where(usable, pooled_df(nu), np.nan)
