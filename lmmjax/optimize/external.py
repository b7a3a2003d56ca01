"""Other people's minimisers, behind the same signature: optax's and SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lmmjax.errors import LmmError
from lmmjax.optimize.solution import GRADIENT_TOL

#: SciPy methods that use a gradient and no bounds.
SCIPY_METHODS = ("BFGS", "L-BFGS-B", "CG", "TNC", "SLSQP", "Nelder-Mead", "Powell")
MAX_ITERATIONS = 5_000
#: Stopping rules tight enough for the gradient that a fit promises (SciPy's own stop at the value).
TIGHT: dict[str, dict[str, float]] = {
    "L-BFGS-B": {"ftol": 0.0, "gtol": 0.1 * GRADIENT_TOL},
    "TNC": {"ftol": 0.0, "xtol": 0.0, "gtol": 0.1 * GRADIENT_TOL},
    "SLSQP": {"ftol": 1e-18},
    "Nelder-Mead": {"xatol": 1e-11, "fatol": 0.0},
    "Powell": {"xtol": 1e-10, "ftol": 0.0},
}

ValueAndGradient = Callable[..., tuple[Any, Any]]


class Endpoint(NamedTuple):
    """Where an external minimiser stopped: theta, shape (m,), and its number of iterations."""

    theta: np.ndarray
    iterations: int


def check_optimizer(optimizer: Any) -> None:
    """Raise unless ``optimizer`` is one that :func:`minimize` or Newton's method serves."""
    if isinstance(optimizer, str):
        known = ("newton", "lbfgs", *(f"scipy:{m}" for m in SCIPY_METHODS))
        if optimizer not in known:
            raise LmmError(
                f"Unknown optimizer {optimizer!r}. Choose one of {', '.join(known)}, or pass an "
                "optax GradientTransformation such as optax.adam(0.01)."
            )
    elif not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise LmmError(
            "optimizer must be a name or an optax GradientTransformation, not "
            f"{type(optimizer).__name__}."
        )


def minimize(
    optimizer: Any, function: ValueAndGradient, start: np.ndarray, args: tuple[Any, ...]
) -> Endpoint:
    """Minimise ``function(theta, *args) -> (value, gradient)`` from ``start``.

    Parameters
    ----------
    optimizer : str or optax.GradientTransformation
        ``"lbfgs"`` (optax's, with its line search), ``"scipy:METHOD"``, or any optax
        transformation.
    function : callable
        Pure, in JAX.
    start : ndarray, shape (m,)
    args : tuple of pytrees
        Data, passed through ``jit`` as arguments.

    Returns
    -------
    Endpoint

    Raises
    ------
    LmmError
        The optimizer is not known.
    """
    check_optimizer(optimizer)
    if isinstance(optimizer, str) and optimizer.startswith("scipy:"):
        return _scipy(optimizer.removeprefix("scipy:"), function, start, args)
    import optax

    transformation = optax.lbfgs() if optimizer == "lbfgs" else optimizer
    return _optax(transformation, function, start, args)


def _optax(
    transformation: Any, function: ValueAndGradient, start: np.ndarray, args: tuple[Any, ...]
) -> Endpoint:
    import optax

    solver = optax.with_extra_args_support(transformation)

    @jax.jit
    def run(theta: Any, *data: Any) -> tuple[Any, Any]:
        def step(state: Any) -> Any:
            theta, value, gradient, inner, count = state
            updates, inner = solver.update(
                gradient,
                inner,
                theta,
                value=value,
                grad=gradient,
                value_fn=lambda t: function(t, *data)[0],
            )
            theta = optax.apply_updates(theta, updates)
            return theta, *function(theta, *data), inner, count + 1

        def unfinished(state: Any) -> Any:
            _, value, gradient, _, count = state
            return (
                (jnp.max(jnp.abs(gradient)) > 0.1 * GRADIENT_TOL)
                & (count < MAX_ITERATIONS)
                & jnp.isfinite(value)
            )

        first = (theta, *function(theta, *data), solver.init(theta), 0)
        theta, _, _, _, count = jax.lax.while_loop(unfinished, step, first)
        return theta, count

    theta, count = jax.device_get(run(jnp.asarray(start), *args))
    return Endpoint(theta, int(count))


def _scipy(
    method: str, function: ValueAndGradient, start: np.ndarray, args: tuple[Any, ...]
) -> Endpoint:
    from scipy.optimize import minimize as scipy_minimize

    compiled = jax.jit(function)

    def host(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = jax.device_get(compiled(theta, *args))
        return float(value), np.asarray(gradient, np.float64)

    derivative_free = method in {"Nelder-Mead", "Powell"}
    found = scipy_minimize(
        (lambda t: host(t)[0]) if derivative_free else host,
        start,
        jac=None if derivative_free else True,
        method=method,
        options={"maxiter": MAX_ITERATIONS, **TIGHT.get(method, {"gtol": 0.1 * GRADIENT_TOL})},
    )
    return Endpoint(np.asarray(found.x), int(found.nit))
