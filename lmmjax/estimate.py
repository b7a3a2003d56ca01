"""CrossProducts -> Estimate: the whole fit as one pure function of arrays."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from lmmjax.inference.satterthwaite import FixedInference, fixed_inference, satterthwaite_df
from lmmjax.likelihood.crossproducts import CrossProducts
from lmmjax.likelihood.deviance import LOG_2PI, residual_df
from lmmjax.likelihood.jets import Objective, profiled_objective, reduced_jet
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
