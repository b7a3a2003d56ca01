"""The deviance of a linear mixed model, profiled or with every parameter free.

All functions are pure, take their data as arguments, and are clean under ``jit``, ``vmap``,
``grad`` and ``hessian``; they follow the dtype of their inputs. Notation: Bates, Maechler, Bolker
& Walker (2015), J. Stat. Softw. 67(1), sections 3.2 to 3.4.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from lmmjax.likelihood.arguments import (
    beta_of,
    check_flag,
    check_is,
    check_single,
    compiled,
    sigma_of,
    theta_of,
)
from lmmjax.likelihood.crossproducts import CrossProducts
from lmmjax.likelihood.dense import Reduced
from lmmjax.likelihood.products import matmul
from lmmjax.likelihood.smallblock import inverse_factor
from lmmjax.likelihood.standardize import log_abs_determinant

LOG_2PI = 1.8378770664093453


class Parameters(NamedTuple):
    """All parameters of a linear mixed model.

    Attributes
    ----------
    beta : Array, shape (p,)
        Fixed effects.
    theta : Array, shape (n_theta,)
        Relative covariance parameters, in lme4's order.
    sigma : Array, scalar
        Residual standard deviation.

    Notes
    -----
    A pytree: gradients and samplers take it as it is.

    Examples
    --------
    >>> params = Parameters(jnp.array([1527.5]), jnp.array([0.85]), jnp.array(49.5))
    >>> params.theta.shape
    (1,)
    """

    beta: Array
    theta: Array
    sigma: Array


def residual_df(data: CrossProducts, reml: bool) -> Array:
    """Divisor of the residual variance: n, or n - p under REML."""
    return data.n_obs - data.n_fixed if reml else data.n_obs


class FixedSolution(NamedTuple):
    """Fixed effects given ``G = [X y]'V^-1[X y]``, on the orthonormal basis.

    Attributes
    ----------
    beta : Array, shape (p,)
    half : Array, shape (p, p)
        ``L^-1`` with ``G_XX = L L'``.
    rss : Array, scalar
        ``r^2``.
    logdet : Array, scalar
        ``log|G_XX|``.
    """

    beta: Array
    half: Array
    rss: Array
    logdet: Array


def solve_fixed(gram: Array) -> FixedSolution:
    """Profile out beta from ``G = [X y]'V^-1[X y]``, shape (p + 1, p + 1)."""
    p = gram.shape[0] - 1
    if p == 0:
        zero = jnp.zeros((), gram.dtype)
        return FixedSolution(gram[:0, 0], gram[:0, :0], gram[0, 0], zero)
    half, logdet = inverse_factor(gram[:p, :p])
    explained = matmul(half, gram[:p, p])
    rss = gram[p, p] - jnp.sum(explained * explained)
    return FixedSolution(matmul(explained, half), half, rss, logdet)


def criterion(reduced: Reduced, data: CrossProducts, reml: bool) -> Array:
    """Profiled deviance (ML) or REML criterion, given the reduced cross-products."""
    _, _, rss, logdet_fixed = solve_fixed(reduced.gram)
    df = residual_df(data, reml)
    # n log(2 pi r^2 / n) on the scale of y
    fit = df * (1.0 + LOG_2PI - jnp.log(df) + jnp.log(rss) + 2.0 * jnp.log(data.scale))
    value = reduced.logdet + fit - data.sum_log_weights
    if reml:
        value = value + logdet_fixed + 2.0 * log_abs_determinant(data.fixed_factor)
    return value


def profiled_deviance(theta: Array, data: CrossProducts, *, reml: bool = True) -> Array:
    """REML criterion, or deviance (-2 log-likelihood), with beta and sigma at their optimum.

    Parameters
    ----------
    theta : Array, shape (n_theta,)
        Relative covariance parameters, in lme4's order and units.
    data : CrossProducts
        From :func:`lmmjax.cross_products`.
    reml : bool
        Which criterion.

    Returns
    -------
    Array, scalar
        What lme4 calls ``REMLcrit`` and ``deviance``.

    Raises
    ------
    LmmError
        An argument has another shape than the model's, or is not of floating point.

    Notes
    -----
    With ``V = I + sqrt(W) Z Lambda Lambda' Z' sqrt(W)`` and ``r**2`` the penalised residual sum of
    squares (Bates et al. 2015, section 3.4), the deviance is

        log|V| - sum(log w) + n (1 + log(2 pi r**2 / n)).

    The REML criterion has ``n - p`` for n, and ``log|X' sqrt(W) V^-1 sqrt(W) X|`` more.

    Examples
    --------
    >>> import jax, lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> with lj.double_precision():
    ...     data = lj.cross_products(lj.prepare_design(design), design.y)
    ...     print(f"{lj.profiled_deviance(jax.numpy.array([0.8483237952922]), data):.6f}")
    319.654277
    """
    check_flag("reml", reml)
    return _profiled_deviance(_checked(theta, data), data, bool(reml))


@compiled("reml")
def _profiled_deviance(theta: Array, data: CrossProducts, reml: bool) -> Array:
    return criterion(data.elimination.reduce(data.standard_factors(theta)), data, reml)


def _checked(theta: Any, data: CrossProducts) -> Array:
    """Return theta, after a look at it and at the data that it is for."""
    check_is("data", data, CrossProducts, "lj.cross_products")
    check_single(data)
    return theta_of(data, theta)


def residual_vector(beta: Array, data: CrossProducts) -> Array:
    """``v`` with ``(y - X beta)'V^-1(y - X beta) = v' gram v``, shape (p + 1,)."""
    shift = data.fixed_factor @ (data.beta_ols - beta)
    return jnp.concatenate([shift, jnp.atleast_1d(data.scale).astype(shift.dtype)])


def marginal_loglik(params: Parameters, data: CrossProducts) -> Array:
    """Log-likelihood ``log N(y; X beta + offset, sigma**2 (W^-1 + Z Lambda Lambda' Z'))``.

    Parameters
    ----------
    params : Parameters
        ``beta`` (p,), ``theta`` (n_theta,), ``sigma`` scalar, all free.
    data : CrossProducts

    Returns
    -------
    Array, scalar

    Raises
    ------
    LmmError
        An argument has another shape than the model's, or is not of floating point.

    Notes
    -----
    Bates et al. (2015), section 3.4, before profiling.

    Examples
    --------
    >>> import jax.numpy as jnp, lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> with lj.double_precision():
    ...     data = lj.cross_products(lj.prepare_design(design), design.y)
    ...     params = lj.Parameters(jnp.array([1527.5]), jnp.array([0.75258]), jnp.array(49.51))
    ...     print(f"{lj.marginal_loglik(params, data):.4f}")
    -163.6635
    """
    check_is("params", params, Parameters, "lj.Parameters(beta, theta, sigma)")
    theta = _checked(params.theta, data)
    beta, sigma = beta_of(params.beta, data.n_fixed), sigma_of(params.sigma)
    return _marginal_loglik(Parameters(beta, theta, sigma), data)


@compiled()
def _marginal_loglik(params: Parameters, data: CrossProducts) -> Array:
    reduced = data.elimination.reduce(data.standard_factors(params.theta))
    v = residual_vector(params.beta, data)
    rss = v @ reduced.gram @ v
    deviance = (
        reduced.logdet
        - data.sum_log_weights
        + data.n_obs * (LOG_2PI + 2.0 * jnp.log(params.sigma))
        + rss / params.sigma**2
    )
    return -0.5 * deviance


def restricted_loglik(theta: Array, sigma: Array, data: CrossProducts) -> Array:
    """Restricted log-likelihood with theta and sigma free (beta integrated out).

    Parameters
    ----------
    theta : Array, shape (n_theta,)
    sigma : Array, scalar
    data : CrossProducts

    Returns
    -------
    Array, scalar
        ``-2`` times it equals the REML criterion at the optimal sigma.

    Raises
    ------
    LmmError
        An argument has another shape than the model's, or is not of floating point.

    Notes
    -----
    Bates et al. (2015), section 3.4, before sigma is profiled out.

    Examples
    --------
    >>> import jax.numpy as jnp, lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> with lj.double_precision():
    ...     data = lj.cross_products(lj.prepare_design(design), design.y)
    ...     theta, sigma = jnp.array([0.8483237952922]), jnp.array(49.5101)
    ...     print(f"{-2 * lj.restricted_loglik(theta, sigma, data):.6f}")
    319.654277
    """
    return _restricted_loglik(_checked(theta, data), sigma_of(sigma), data)


@compiled()
def _restricted_loglik(theta: Array, sigma: Array, data: CrossProducts) -> Array:
    reduced = data.elimination.reduce(data.standard_factors(theta))
    _, _, rss, logdet_fixed = solve_fixed(reduced.gram)
    logdet_fixed = logdet_fixed + 2.0 * log_abs_determinant(data.fixed_factor)
    deviance = (
        reduced.logdet
        - data.sum_log_weights
        + logdet_fixed
        + (data.n_obs - data.n_fixed) * (LOG_2PI + 2.0 * jnp.log(sigma))
        + rss * data.scale**2 / sigma**2
    )
    return -0.5 * deviance


def fixed_effects(theta: Array, data: CrossProducts) -> Array:
    """Generalised least-squares estimate of beta given theta.

    Parameters
    ----------
    theta : Array, shape (n_theta,)
        Relative covariance parameters, in lme4's order and units.
    data : CrossProducts

    Returns
    -------
    Array, shape (p,)
        In the units of X and y.

    Raises
    ------
    LmmError
        An argument has another shape than the model's, or is not of floating point.

    Notes
    -----
    ``(X'V^-1X)^-1 X'V^-1 (y - offset)``, as in Bates et al. (2015), section 3.2.

    Examples
    --------
    >>> import jax.numpy as jnp, lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> with lj.double_precision():
    ...     data = lj.cross_products(lj.prepare_design(design), design.y)
    ...     print(lj.fixed_effects(jnp.array([0.8483237952922]), data).round(4))
    [1527.5]
    """
    return _fixed_effects(_checked(theta, data), data)


@compiled()
def _fixed_effects(theta: Array, data: CrossProducts) -> Array:
    beta = solve_fixed(data.elimination.reduce(data.standard_factors(theta)).gram).beta
    return data.beta_ols + data.scale * (data.fixed_inverse @ beta)


def residual_sd(theta: Array, data: CrossProducts, *, reml: bool = True) -> Array:
    """The sigma that maximises the (restricted) likelihood given theta.

    Parameters
    ----------
    theta : Array, shape (n_theta,)
        Relative covariance parameters, in lme4's order and units.
    data : CrossProducts
    reml : bool
        Which likelihood.

    Returns
    -------
    Array, scalar
        In the units of y.

    Raises
    ------
    LmmError
        An argument has another shape than the model's, or is not of floating point.

    Notes
    -----
    ``r / sqrt(n)``, or ``r / sqrt(n - p)`` under REML: Bates et al. (2015), section 3.4.

    Examples
    --------
    >>> import jax.numpy as jnp, lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> with lj.double_precision():
    ...     data = lj.cross_products(lj.prepare_design(design), design.y)
    ...     print(lj.residual_sd(jnp.array([0.8483237952922]), data).round(4))
    49.5101
    """
    check_flag("reml", reml)
    return _residual_sd(_checked(theta, data), data, bool(reml))


@compiled("reml")
def _residual_sd(theta: Array, data: CrossProducts, reml: bool) -> Array:
    rss = solve_fixed(data.elimination.reduce(data.standard_factors(theta)).gram).rss
    return data.scale * jnp.sqrt(rss / residual_df(data, reml))
