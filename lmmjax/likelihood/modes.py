"""Conditional modes of the random effects as a pure function, for any elimination."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from lmmjax.likelihood.arguments import beta_of, check_is, compiled, response_of, theta_of
from lmmjax.likelihood.crossproducts import Prepared, cross_products
from lmmjax.likelihood.deviance import residual_vector


def conditional_modes(beta: Array, theta: Array, prepared: Prepared, y: Array) -> tuple[Array, ...]:
    """Modes (BLUPs) of the random effects given the data, beta and theta.

    Parameters
    ----------
    beta : Array, shape (p,)
        Fixed effects.
    theta : Array, shape (n_theta,)
        Relative covariance parameters, in lme4's order and units.
    prepared : Prepared
        From :func:`lmmjax.prepare_design`.
    y : Array, shape (n,)
        Response.

    Returns
    -------
    tuple of Array
        One per term, shape (L_t, k_t): coefficients of each level.

    Raises
    ------
    LmmError
        An argument has another shape than the model's, or is not of floating point.

    Notes
    -----
    ``b = Lambda Lambda' Z' V^-1 (y - X beta)`` (Robinson 1991, Stat. Sci. 6(1), section 2), with
    ``V^-1 (y - X beta)`` as half the gradient of ``(y - X beta)' V^-1 (y - X beta)`` in y: one
    reverse pass through the likelihood's own elimination, whatever the grouping structure. The
    residual standard deviation cancels.

    Examples
    --------
    >>> import jax.numpy as jnp, lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> prepared = lj.prepare_design(design)
    >>> with lj.double_precision():
    ...     y = jnp.asarray(design.y)
    ...     (b,) = lj.conditional_modes(jnp.array([1527.5]), jnp.array([0.84832]), prepared, y)
    ...     print(b[:, 0].round(1))
    [-17.6   0.4  28.6 -23.1  56.7 -45. ]
    """
    check_is("prepared", prepared, Prepared, "lj.prepare_design")
    beta, theta = beta_of(beta, prepared.n_fixed), theta_of(prepared, theta)
    y = response_of(y, prepared.n_rows)
    return _conditional_modes(beta, theta, prepared, jnp.asarray(y, jnp.result_type(y, float)))


@compiled()
def _conditional_modes(
    beta: Array, theta: Array, prepared: Prepared, y: Array
) -> tuple[Array, ...]:
    def half_square(response: Array) -> tuple[Array, Any]:
        data = cross_products(prepared, response)
        factors = data.standard_factors(theta)
        v = residual_vector(beta, data)
        return 0.5 * v @ data.elimination.reduce(factors).gram @ v, (data, factors)

    gradient, (data, factors) = jax.grad(half_square, has_aux=True)(y)
    # sqrt(w) V^-1 sqrt(w) (y - X beta), in the weighted rows that Z_s is made of.
    # Rows without weight, as padding has, are zero there.
    root = jnp.asarray(prepared.root_weights)
    weighted = jnp.where(root > 0, gradient / jnp.where(root > 0, root, 1.0), 0.0)
    modes = []
    for rows, index, count, factor, transform in zip(
        prepared.term_rows,
        prepared.term_index,
        prepared.levels,
        factors,
        data.transforms,
        strict=True,
    ):
        score = jax.ops.segment_sum(jnp.asarray(rows) * weighted[:, None], index, count)
        standard = score @ (factor @ factor.T)
        modes.append(jnp.linalg.solve(jnp.asarray(transform), standard.T).T)
    return tuple(modes)
