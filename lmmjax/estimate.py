"""CrossProducts -> Estimate: the whole fit as one pure function of arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lmmjax.inference.satterthwaite import FixedInference, fixed_inference, satterthwaite_df
from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.crossed_jet import crossed_jet
from lmmjax.likelihood.crossproducts import (
    CrossProducts,
    Prepared,
    cross_products,
    lambda_factors,
)
from lmmjax.likelihood.deviance import LOG_2PI, residual_df, solve_fixed
from lmmjax.likelihood.jets import (
    Objective,
    profiled_gradient,
    profiled_objective,
    reduced_jet,
    standardized_reduce,
)
from lmmjax.likelihood.standardize import log_abs_determinant
from lmmjax.likelihood.surprise import has_surprise
from lmmjax.optimize import Solution, Status, newton
from lmmjax.optimize.approach import approach
from lmmjax.optimize.solution import GRADIENT_TOL


class Estimate(NamedTuple):
    """A fitted model, in arrays.

    Attributes
    ----------
    solution : Solution
        In the search parameters (standardised columns), ``aux`` empty.
    criterion : Array, scalar
        REML criterion or deviance at the solution.
    fixed : FixedInference
        Fixed effects, their covariance and what degrees of freedom need, in the data's units.
    df : Array, shape (p,)
        Satterthwaite's, one per coefficient.
    factors : tuple of Array, each (k_t, k_t)
        ``T Lambda`` of each term (a square root, not necessarily triangular), in standardised
        columns.
    surprise : Array, scalar bool
        Whether some group is further out than the fit can explain
        (:func:`lmmjax.likelihood.surprise.has_surprise`): there may be a better optimum.
    rival : Array, scalar
        By how much the criterion of the next best optimum exceeds this one's, where
        :mod:`lmmjax.modes` has looked and found another; NaN otherwise.
    """

    solution: Solution
    criterion: Array
    fixed: FixedInference
    df: Array
    factors: tuple[Array, ...]
    surprise: Array
    rival: Array


def objective(theta: Array, data: CrossProducts, reml: bool) -> Objective:
    """Profiled criterion in the search parameters, with exact derivatives."""
    return profiled_objective(*reduced_jet(theta, data), residual_df(data, reml), reml)


def value_and_gradient(theta: Array, data: CrossProducts, reml: bool) -> tuple[Array, Array]:
    """Profiled criterion in the search parameters and its exact gradient, by the cheapest way."""
    df = residual_df(data, reml)
    if isinstance(data.elimination, Crossed):
        parts = crossed_jet(data.elimination, data.search_structures, theta, second=False)
        return profiled_gradient(*parts, df, reml)

    def value(t: Array) -> Array:
        reduced = standardized_reduce(t, data)
        _, _, rss, logdet_fixed = solve_fixed(reduced.gram)
        return reduced.logdet + df * jnp.log(rss) + (logdet_fixed if reml else 0.0)

    return jax.value_and_grad(value)(theta)


def infer(solution: Solution, data: CrossProducts, reml: bool) -> Estimate:
    """Standard errors and degrees of freedom at a solution.

    Its ``aux`` is that of :func:`objective` at the same point.
    """
    logdet, fixed = solution.aux
    df = residual_df(data, reml)
    p = data.n_fixed
    eye = jnp.eye(p, dtype=solution.theta.dtype)
    inference = fixed_inference(
        solution.theta,
        logdet,
        fixed,
        df=df,
        reml=reml,
        back=jnp.asarray(data.fixed_inverse),
        beta_ols=jnp.asarray(data.beta_ols),
        scale=jnp.asarray(data.scale),
    )
    criterion = (
        solution.value
        + df * (1.0 + LOG_2PI - jnp.log(df) + 2.0 * jnp.log(data.scale))
        - data.sum_log_weights
    )
    if reml:
        criterion = criterion + 2.0 * log_abs_determinant(jnp.asarray(data.fixed_factor))
    factors = lambda_factors(data.search_structures, solution.theta)
    return Estimate(
        solution=solution._replace(aux=()),
        criterion=criterion,
        fixed=inference,
        df=satterthwaite_df(eye, inference),
        factors=factors,
        surprise=has_surprise(data, factors, fixed, df),
        rival=jnp.full((), jnp.nan, solution.theta.dtype),
    )


def estimate(data: CrossProducts, reml: bool = True) -> Estimate:
    """Fit by Newton's method with the exact Hessian, and infer; pure, ``jit``- and ``vmap``-able.

    One run, from ``data.start``: whether to try other starts is for :mod:`lmmjax.modes`.

    Parameters
    ----------
    data : CrossProducts
    reml : bool

    Returns
    -------
    Estimate
    """
    solution = newton(
        lambda theta: objective(theta, data, reml),
        jnp.asarray(data.start),
        noise=data.n_obs,
    )
    return infer(solution, data, reml)


def estimate_response(prepared: Prepared, y: Array, reml: bool = True) -> Estimate:
    """Fit a response, shape (n,), on a prepared design, all in one pure function."""
    return estimate(cross_products(prepared, y), reml)


def estimate_at(
    theta: Array, iterations: Array, data: CrossProducts, reml: bool = True
) -> Estimate:
    """Inference at a given point, with the status that the point deserves.

    Parameters
    ----------
    theta : Array, shape (n_theta,)
        Search parameters, from whatever minimiser.
    iterations : Array, scalar
        What it took; passed on.
    data : CrossProducts
    reml : bool
    """
    found = objective(theta, data, reml)
    small = jnp.max(jnp.abs(found.gradient)) <= GRADIENT_TOL
    values = jnp.linalg.eigvalsh(found.hessian)
    convex = values[0] > -1e-6 * jnp.max(jnp.abs(values))
    status = jnp.where(small & convex, Status.CONVERGED, Status.ITERATION_LIMIT)
    status = jnp.where(jnp.isfinite(found.value), status, Status.NOT_FINITE)
    solution = Solution(theta, *found, iterations, status.astype(jnp.int32))
    return infer(solution, data, reml)


def estimate_large(data: CrossProducts, reml: bool = True) -> Estimate:
    """As :func:`estimate`, for crossed designs with many effects: first near, then exactly."""
    return estimate(replace(data, start=approach(data, reml)), reml)
