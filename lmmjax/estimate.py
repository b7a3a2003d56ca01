"""CrossProducts -> Estimate: the whole fit as one pure function of arrays."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lmmjax.inference.satterthwaite import FixedInference, fixed_inference, satterthwaite_df
from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.crossed_jet import crossed_jet
from lmmjax.likelihood.crossproducts import CrossProducts
from lmmjax.likelihood.deviance import LOG_2PI, residual_df, solve_fixed
from lmmjax.likelihood.jets import (
    Objective,
    profiled_gradient,
    profiled_objective,
    reduced_jet,
    standardized_reduce,
)
from lmmjax.likelihood.standardize import log_abs_determinant
from lmmjax.optimize import Solution, newton


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
    """

    solution: Solution
    criterion: Array
    fixed: FixedInference
    df: Array


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
        _, rss, logdet_fixed = solve_fixed(reduced.gram)
        return reduced.logdet + df * jnp.log(rss) + (logdet_fixed if reml else 0.0)

    return jax.value_and_grad(value)(theta)


def infer(solution: Solution, data: CrossProducts, reml: bool) -> Estimate:
    """Standard errors and degrees of freedom at a solution whose ``aux`` came from :func:`objective`."""
    logdet, fixed = solution.aux
    df = float(residual_df(data, reml))
    p = data.n_fixed
    eye = jnp.eye(p, dtype=solution.theta.dtype)
    inference = fixed_inference(
        logdet,
        fixed,
        df=df,
        reml=reml,
        back=jnp.linalg.inv(data.fixed_factor) if p else eye,
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
    return Estimate(
        solution=solution._replace(aux=()),
        criterion=criterion,
        fixed=inference,
        df=satterthwaite_df(eye, inference),
    )


def estimate(data: CrossProducts, reml: bool = True) -> Estimate:
    """Fit by Newton's method with the exact Hessian, and infer; pure, ``jit``- and ``vmap``-able.

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
        noise=float(data.n_obs),
    )
    return infer(solution, data, reml)
