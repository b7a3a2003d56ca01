"""Other people's minimisers, behind the same signature: optax's and SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
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
        Pure, in JAX. What is compiled is kept for as long as it is the same object.
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


class _Transformation:
    """An optax transformation, equal to another that was made in the same way.

    Those are tuples of closures, of which each call of ``optax.adam(0.01)`` makes new ones, so that
    by identity every fit would be compiled anew. They are compared by their code and by what they
    hold.
    """

    def __init__(self, solver: Any) -> None:
        self.solver = solver
        self.key = _content(solver)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Transformation) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _content(x: Any, inside: tuple[int, ...] = ()) -> Any:
    """What decides how a value behaves, hashable: closures by content, others by value or self.

    ``inside`` are the identities of what holds it, as a function may hold itself.
    """
    if id(x) in inside:
        return inside.index(id(x))

    def of(part: Any) -> Any:
        return _content(part, (*inside, id(x)))

    if isinstance(x, FunctionType):
        cells = tuple(of(_held(cell)) for cell in x.__closure__ or ())
        defaults = of((x.__defaults__, x.__kwdefaults__))
        return FunctionType, x.__code__, id(x.__globals__), cells, defaults
    if isinstance(x, partial):
        return partial, of(x.func), of(x.args), of(x.keywords)
    if isinstance(x, tuple | list):
        return type(x), tuple(of(each) for each in x)
    if isinstance(x, dict):
        return dict, tuple((of(k), of(v)) for k, v in x.items())
    if isinstance(x, np.ndarray):
        return np.ndarray, x.dtype.str, x.shape, x.tobytes()
    try:
        hash(x)
    except TypeError:
        return _Itself(x)
    return type(x), x


def _held(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


class _Itself:
    """Something that is equal to itself alone; kept, so that no other gets its address."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.x is other.x

    def __hash__(self) -> int:
        return id(self.x)


def _optax(
    transformation: Any, function: ValueAndGradient, start: np.ndarray, args: tuple[Any, ...]
) -> Endpoint:
    import optax

    solver = _Transformation(optax.with_extra_args_support(transformation))
    theta, count = jax.device_get(_run_optax(solver, function, jnp.asarray(start), args))
    return Endpoint(theta, int(count))


@partial(jax.jit, static_argnums=(0, 1))
def _run_optax(
    transformation: _Transformation,
    function: ValueAndGradient,
    start: jax.Array,
    data: tuple[Any, ...],
) -> tuple[jax.Array, jax.Array]:
    """Where the transformation's steps end, and how many it took."""
    import optax

    solver = transformation.solver

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

    first = (start, *function(start, *data), solver.init(start), jnp.zeros((), jnp.int32))
    theta, _, _, _, count = jax.lax.while_loop(unfinished, step, first)
    return theta, count


def _scipy(
    method: str, function: ValueAndGradient, start: np.ndarray, args: tuple[Any, ...]
) -> Endpoint:
    from scipy.optimize import minimize as scipy_minimize

    compiled = jax.jit(function)  # of one and the same function: compiled once

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
