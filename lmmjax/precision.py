"""64-bit floating point in a scope, so that importing lmmjax changes no global setting."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax


def double_precision() -> AbstractContextManager[None]:
    """Context in which JAX computes in 64 bits.

    Criteria, gradients and degrees of freedom need it: lme4's reference values are matched to
    1e-10 in 64 bits, and to about 1e-4 in 32 bits.

    Returns
    -------
    context manager

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> with double_precision():
    ...     jnp.ones(2).dtype
    dtype('float64')
    """
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    # Where older JAX has it; the stubs of a newer one do not.
    from jax.experimental import enable_x64  # pyright: ignore[reportAttributeAccessIssue]

    return enable_x64(True)
