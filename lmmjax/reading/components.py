"""Intervals for variance components, by the delta method from the exact Hessian."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.covariance import Covariance, Diagonal
from lmmjax.likelihood.crossproducts import lambda_factors
from lmmjax.messages import singular_bars
from lmmjax.precision import double_precision
from lmmjax.reading.coefficients import check_level

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.estimates import Estimates

#: Per term, the structures of its bars.
Structures = tuple[tuple[Covariance, ...], ...]


def independent_blocks(structures: Structures) -> list[tuple[int, int, int]]:
    """Term, first column and size of each block of correlated effects, as `varcorr` lists them."""
    out = []
    for t, bars in enumerate(structures):
        at = 0
        for structure in bars:
            sizes = [1] * structure.size if isinstance(structure, Diagonal) else [structure.size]
            for size in sizes:
                out.append((t, at, size))
                at += size
    return out


def unbounded_components(
    parameters: Array, transforms: tuple[Array, ...], structures: Structures
) -> Array:
    """Log standard deviations and atanh correlations, on which a quadratic is a fair approximation.

    Parameters
    ----------
    parameters : Array, shape (n_theta + 1,)
        Search parameters, then the residual standard deviation.
    transforms : tuple of Array, each (k_t, k_t)
        From effects in the columns' units to those of standardised columns.
    structures : tuple of tuple of Covariance
        Per term, per bar.

    Returns
    -------
    Array
        Block by block: log standard deviations, then atanh correlations row by row of the upper
        triangle; the residual's log standard deviation comes last.
    """
    theta, sigma = parameters[:-1], parameters[-1]
    search = tuple(tuple(s.search_form() for s in bars) for bars in structures)
    factors = lambda_factors(search, theta)
    roots = [
        jnp.linalg.solve(transform, factor)
        for transform, factor in zip(transforms, factors, strict=True)
    ]
    out = []
    for t, at, size in independent_blocks(structures):
        root = roots[t][at : at + size]
        length = jnp.sqrt(jnp.sum(root**2, axis=1))
        out.append(jnp.log(sigma * length))
        unit = root / length[:, None]
        i, j = np.triu_indices(size, k=1)
        out.append(jnp.arctanh(jnp.sum(unit[i] * unit[j], axis=1)))
    return jnp.concatenate([*out, jnp.log(sigma)[None]])


@partial(jax.jit, static_argnames="structures")
def _with_jacobian(
    parameters: Array, transforms: tuple[Array, ...], structures: Structures
) -> tuple[Array, Array]:
    def components(at: Array) -> Array:
        return unbounded_components(at, transforms, structures)

    return components(parameters), jax.jacfwd(components)(parameters)


def variance_component_intervals(fit: Estimates, level: float = 0.95) -> pd.DataFrame:
    """Wald intervals of standard deviations and correlations.

    Parameters
    ----------
    fit : LinearMixedModelResult
    level : float, default 0.95

    Returns
    -------
    pandas.DataFrame
        The rows of ``fit.varcorr.to_frame()``, in its order: ``grp``, ``var1``, ``var2``,
        ``estimate`` (a standard deviation, in units of the response, or a correlation), ``lower``,
        ``upper``. NaN where a variance is on its boundary: there is no such interval.

    Raises
    ------
    LmmError
        If `level` does not lie between 0 and 1.

    Notes
    -----
    The covariance of (theta, sigma) is twice the inverse of the exact Hessian of the criterion.
    The delta method takes it to log standard deviations and atanh correlations (Fisher's z), where
    the intervals are symmetric; transformed back, they respect the parameters' ranges. Few groups
    make them too short: they are approximations, and profile or bootstrap intervals are better.

    Source: Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.4.3, who use
    these scales in ``nlme::intervals``.

    Examples
    --------
    >>> import lmmjax as lj
    >>> from lmmjax.reading.components import variance_component_intervals
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> variance_component_intervals(fit)[["grp", "estimate", "lower", "upper"]].round(1)
            grp  estimate  lower  upper
    0     Batch      42.0   18.9   93.1
    1  Residual      49.5   37.3   65.7
    """
    from scipy.special import ndtri

    level = check_level(level)
    frame = fit.varcorr.to_frame()
    inference = fit.raw.estimate.fixed
    data = fit.raw.data
    parameters = np.append(np.asarray(fit.raw.estimate.solution.theta), inference.sigma)
    with double_precision():
        transforms = tuple(np.asarray(transform) for transform in data.transforms)
        center, jacobian = jax.device_get(_with_jacobian(parameters, transforms, data.structures))
    # A component on its boundary has derivatives that are not finite.
    with np.errstate(invalid="ignore"):
        variance = np.sum((jacobian @ np.asarray(inference.parameter_cov)) * jacobian, axis=1)
        half = ndtri(0.5 + 0.5 * level) * np.sqrt(variance)
        limits = np.stack([center - half, center + half], axis=1)
    singular = {(t, at + i) for t, at, size in singular_bars(fit.raw) for i in range(size)}
    position = 0
    for t, at, size in independent_blocks(data.structures):
        rows = size + size * (size - 1) // 2
        if any((t, at + i) in singular for i in range(size)):
            limits[position : position + rows] = np.nan
        position += rows
    correlation = frame["var2"].notna().to_numpy()
    limits = np.where(correlation[:, None], np.tanh(limits), np.exp(limits))
    return frame[["grp", "var1", "var2"]].assign(
        estimate=frame["sdcor"], lower=limits[:, 0], upper=limits[:, 1]
    )
