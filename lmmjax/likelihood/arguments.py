"""What the public pure functions are given, looked at while they are traced.

Shapes and types are known to a trace, and nothing of it is left in what is compiled. Without these
checks a vector of the wrong length would be cut or broadcast, and whole numbers would round what
they are multiplied by, into a number that looks like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from lmmjax.covariance import Covariance, check_structure
from lmmjax.errors import DataError, LmmError
from lmmjax.likelihood.products import writes_out

#: A column of X of which no more than this is left beside the columns before it (relative) is a
#: combination of them.
DEPENDENT = 1e-11

F = TypeVar("F", bound=Callable[..., Any])


def compiled(*static: str) -> Callable[[F], F]:
    """Return a decorator that compiles a pure function once for each shape of its arguments.

    Called outside ``jit``, and in a derivative outside of it, JAX would run one operation after the
    other, each compiled by itself. Inside of another function that is traced it adds nothing.
    """

    def decorate(function: F) -> F:
        jitted = jax.jit(function, static_argnames=static)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            # What is traced with products written out is not to be kept for the others.
            return (function if writes_out() else jitted)(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


def floats(name: str, value: Any, shape: tuple[int, ...], meaning: str) -> Any:
    """Return the value as an array, of that shape and of floating point.

    Raises
    ------
    LmmError
        It is not.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = float(value)
    elif not isinstance(value, np.ndarray | jax.Array):
        try:
            value = jnp.asarray(value)
        except (TypeError, ValueError) as error:
            raise LmmError(
                f"{name} must be an array of shape {shape}, not {type(value).__name__}"
            ) from error
    found, dtype = jnp.shape(value), jnp.result_type(value)
    if found != shape:
        raise LmmError(f"{name} has shape {found}; {meaning}, so that it must have shape {shape}")
    if not jnp.issubdtype(dtype, jnp.floating):
        raise LmmError(
            f"{name} has dtype {dtype}; give floating-point numbers, as in {name}.astype(float): "
            "the computation follows the type of its input, and would be rounded"
        )
    return value


def theta_of(model: Any, theta: Any) -> Any:
    """Return theta, checked against the number of a model's covariance parameters."""
    m = model.n_theta
    return floats("theta", theta, (m,), f"the model has {counted(m, 'covariance parameter')}")


def beta_of(beta: Any, p: int) -> Any:
    """Return beta, checked against the number of fixed effects."""
    return floats("beta", beta, (p,), f"the model has {counted(p, 'fixed effect')}")


def sigma_of(sigma: Any) -> Any:
    """Return sigma, checked to be a number."""
    return floats("sigma", sigma, (), "a residual standard deviation is one number")


def response_of(y: Any, n: int) -> Any:
    """Return a response, checked against the number of rows; NumPy's in 64 bits, JAX's as it is."""
    if not isinstance(y, jax.Array):
        try:
            y = np.asarray(y, np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"y must be an array of {n} numbers, not {type(y).__name__}") from error
    if y.shape != (n,):
        raise DataError(
            f"y has shape {y.shape}; the design has {counted(n, 'row')}, so that it must have "
            f"shape ({n},). Of many responses take one at a time: jax.vmap, or lj.fit_many"
        )
    if not (jnp.issubdtype(y.dtype, jnp.floating) or jnp.issubdtype(y.dtype, jnp.integer)):
        raise DataError(f"y has dtype {y.dtype}; a response is real numbers")
    return y


def check_is(name: str, value: Any, kind: type, source: str) -> None:
    """Raise unless a value is of the type that another function makes."""
    if not isinstance(value, kind):
        raise LmmError(
            f"{name} must be the {kind.__name__} that {source} gives, not {type(value).__name__}"
        )


def check_single(data: Any) -> None:
    """Raise if cross-products have an axis of data sets, which only ``vmap`` may see."""
    if jnp.ndim(data.scale):
        raise LmmError(
            f"data holds a batch of data sets (its scale has shape {jnp.shape(data.scale)}): map "
            "over them, as in jax.vmap(function, in_axes=(None, 0))(theta, data)"
        )


def check_flag(name: str, value: Any) -> None:
    """Raise unless a choice is True or False, as it decides what is compiled."""
    if not isinstance(value, bool | np.bool_):
        raise LmmError(f"{name} must be True or False, not {value!r}")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 row", "2 rows"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


# --- designs, on the host ------------------------------------------------------------------------


def real_matrix(name: str, value: Any, shape: Sequence[int | None]) -> np.ndarray:
    """Return a finite array in 64 bits, of that shape; None stands for any length.

    Raises
    ------
    DataError
        It is not.
    """
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must hold numbers: {error}") from error
    fits = array.ndim == len(shape) and all(
        want in (None, have) for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        comma = "," if len(shape) == 1 else ""
        raise DataError(f"{name} has shape {array.shape}; it must have shape ({wanted}{comma})")
    if not np.isfinite(array).all():
        at = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise DataError(f"{name} is {array[at]} at {at}: leave such rows out")
    return array


def level_index(name: str, index: Any, n: int, levels: int) -> np.ndarray:
    """Return the level of each row, whole numbers from 0 to below the number of levels."""
    index = np.asarray(index)
    if index.shape != (n,) or index.dtype.kind not in "iu":
        raise DataError(
            f"{name} has shape {index.shape} and dtype {index.dtype}; it must be whole numbers of "
            f"shape ({n},): the level of each row, from 0"
        )
    if n and not (index.min() >= 0 and index.max() < levels):
        raise DataError(
            f"{name} runs from {index.min()} to {index.max()}, but there are "
            f"{counted(levels, 'level')}: it must lie between 0 and {levels - 1}"
        )
    return index


def check_structures(name: str, bars: Any, columns: int) -> None:
    """Raise unless a term's structures are such, and their sizes add up to its columns."""
    if not isinstance(bars, tuple | list) or not all(isinstance(s, Covariance) for s in bars):
        raise LmmError(
            f"{name} must be a tuple of structures from lmmjax.covariance, one for each bar, not "
            f"{bars!r}"
        )
    sizes = [s.size for s in bars]
    if sum(sizes) != columns:
        made = " + ".join(f"{type(s).__name__}({s.size})" for s in bars) or "nothing"
        raise LmmError(
            f"{name} is of size {sum(sizes)} ({made}), but the term has "
            f"{counted(columns, 'column')}"
        )
    for structure in bars:
        check_structure(structure)


def check_rank(weighted: np.ndarray) -> None:
    """Raise if the columns of a weighted X, shape (n, p), are dependent.

    Raises
    ------
    DataError
        Naming the first column that the ones before it make.
    """
    n, p = weighted.shape
    length = np.linalg.norm(weighted, axis=0)
    left = np.zeros(p)
    if n and p:
        r = np.linalg.qr(weighted / np.where(length > 0, length, 1.0), mode="r")
        left[: len(r)] = np.abs(np.diagonal(r))
    dependent = np.flatnonzero(~(left > DEPENDENT))
    if dependent.size:
        raise DataError(
            f"X has {counted(p, 'column')} of rank {p - dependent.size} in the rows of positive "
            f"weight: column {int(dependent[0])} is zero or a combination of the columns before "
            "it. Leave it out"
        )
