"""Values with exact first and second derivatives, forward over forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Jet(NamedTuple):
    """A pytree-valued function of theta with its derivatives (trailing axes: parameters)."""

    value: Any
    first: Any
    second: Any


def jet(function: Callable[[Array], Any], theta: Array) -> Jet:
    """Value, Jacobian and Hessian of a pytree-valued function, forward over forward.

    For the few parameters of a covariance structure this makes a smaller graph, and so compiles
    and runs quicker, than reverse mode.
    """
    basis = jnp.eye(theta.shape[0], dtype=theta.dtype)

    def with_jacobian(t: Array) -> tuple[Any, Any]:
        return jax.vmap(lambda e: jax.jvp(function, (t,), (e,)), out_axes=(None, -1))(basis)

    (value, first), (_, second) = jax.vmap(
        lambda e: jax.jvp(with_jacobian, (theta,), (e,)), out_axes=((None, None), (-1, -1))
    )(basis)
    return Jet(value, first, second)
