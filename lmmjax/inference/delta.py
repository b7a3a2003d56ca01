"""The delta method: standard errors of any function of the parameters, by exact derivatives.

For ``h(parameters)`` with gradient ``g`` at the estimate, ``Var(h) = g'C g``, C the parameters'
joint covariance. Source: Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, section
2.3 for C; Oehlert (1992), Am. Stat. 46, 27-29, for the method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from lmmjax.errors import LmmError
from lmmjax.inference.parameters import ModelParameters, joint_covariance, model_parameters
from lmmjax.inference.satterthwaite import FREE_TOL
from lmmjax.precision import double_precision
from lmmjax.reading.coefficients import check_level

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.estimates import Estimates

#: Scales on which an interval is symmetric: function, its derivative, its inverse.
SCALES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]] = {
    "identity": (lambda x: x, np.ones_like, lambda x: x),
    "log": (np.log, lambda x: 1.0 / x, np.exp),
    "logit": (
        lambda x: np.log(x) - np.log1p(-x),
        lambda x: 1.0 / (x * (1.0 - x)),
        lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    ),
    "atanh": (np.arctanh, lambda x: 1.0 / ((1.0 - x) * (1.0 + x)), np.tanh),
}

#: What a table says where there is no standard error.
BOUNDARY_NOTE = (
    "No standard error where a variance or correlation is at its boundary (estimates there are\n"
    "not normal) or not determined; a bootstrap or a profile says more."
)


@dataclass(frozen=True, eq=False)
class DeltaEstimate:
    """Functions of a fit's parameters, with standard errors; prints as a table.

    Attributes
    ----------
    estimate : float, ndarray, or pytree of them
        What the function gave at the estimates.
    se : float, ndarray, or pytree of them
        Standard errors, in the same form. NaN where the function depends on a variance or
        correlation at its boundary.
    frame : pandas.DataFrame
        One row an entry, with ``estimate``, ``se``, ``lower`` and ``upper``.
    covariance : pandas.DataFrame
        Of all entries.
    level : float
        Of the intervals.
    """

    estimate: Any
    se: Any
    frame: pd.DataFrame
    covariance: pd.DataFrame
    level: float

    def __str__(self) -> str:
        text = self.frame.to_string()
        missing = bool(np.isnan(self.frame["se"].to_numpy()).any())
        return f"{text}\n{BOUNDARY_NOTE}" if missing else text

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.frame.to_html()


def limits(
    estimate: np.ndarray, se: np.ndarray, level: float, scale: str | Sequence[str]
) -> np.ndarray:
    """Lower and upper limits of normal intervals, each symmetric on its scale.

    Parameters
    ----------
    estimate, se : ndarray, shape (q,)
    level : float
    scale : str or sequence of str
        Keys of :data:`SCALES`, one for all or one for each.

    Returns
    -------
    ndarray, shape (q, 2)
        NaN where an estimate is not inside its scale's range.
    """
    from scipy.special import ndtri

    scales = [scale] * estimate.size if isinstance(scale, str) else list(scale)
    half = float(ndtri(0.5 + 0.5 * level)) * np.array([-1.0, 1.0])
    out = np.empty((estimate.size, 2))
    with np.errstate(all="ignore"):
        for i, name in enumerate(scales):
            forth, slope, back = SCALES[name]
            center = np.asarray(forth(estimate[i]))
            inside = np.isfinite(center)
            out[i] = back(center + half * slope(estimate[i]) * se[i]) if inside else np.nan
    return out


def delta(
    fit: Estimates,
    function: Callable[..., Any],
    level: float = 0.95,
    scale: str | Sequence[str] = "identity",
) -> DeltaEstimate:
    """Do the work of :meth:`LinearMixedModelResult.delta`, which documents it."""
    return delta_of(fit, *_differentiate(fit, function), level, scale)


def delta_of(
    fit: Estimates, tree: Any, gradient: np.ndarray, level: float, scale: str | Sequence[str]
) -> DeltaEstimate:
    """Standard errors of a pytree of values, given its derivatives in all parameters, (q, N)."""
    import pandas as pd

    level = check_level(level)
    for name in [scale] if isinstance(scale, str) else scale:
        if name not in SCALES:
            raise LmmError(f"scale must be one of {', '.join(map(repr, SCALES))}, not {name!r}")
    paths, treedef = jax.tree_util.tree_flatten_with_path(tree)
    leaves = [np.asarray(leaf, np.float64) for _, leaf in paths]
    names = [
        name for (path, _), leaf in zip(paths, leaves, strict=True) for name in _names(path, leaf)
    ]
    estimate = np.concatenate([leaf.ravel() for leaf in leaves]) if leaves else np.zeros(0)
    cov = _covariance(fit, gradient)
    se = np.sqrt(np.diagonal(cov))
    low, high = limits(estimate, se, level, scale).T
    frame = pd.DataFrame({"estimate": estimate, "se": se, "lower": low, "upper": high}, index=names)

    def shaped(values: np.ndarray) -> Any:
        parts = np.split(values, np.cumsum([leaf.size for leaf in leaves])[:-1])
        parts = [
            p.reshape(x.shape) if x.ndim else float(p[0])
            for p, x in zip(parts, leaves, strict=True)
        ]
        return jax.tree_util.tree_unflatten(treedef, parts)

    return DeltaEstimate(
        shaped(estimate), shaped(se), frame, pd.DataFrame(cov, index=names, columns=names), level
    )


def with_jacobian(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the parameters that gives its derivatives in all of them too, (q, N)."""

    def both(parameters: ModelParameters, *arguments: Any, **static: Any) -> tuple[Any, jax.Array]:
        point, unravel = ravel_pytree(parameters)

        def flat(x: jax.Array) -> tuple[jax.Array, Any]:
            tree = function(unravel(x), *arguments, **static)
            return ravel_pytree(tree)[0], tree

        jacobian, tree = jax.jacfwd(flat, has_aux=True)(point)
        return tree, jacobian

    both.__name__ = function.__name__
    return both


def _differentiate(fit: Estimates, function: Callable[..., Any]) -> tuple[Any, np.ndarray]:
    """A user's function at the estimates, and its derivatives in all parameters, (q, N)."""

    def numbers(parameters: ModelParameters) -> Any:
        return jax.tree.map(_number, function(parameters))

    estimates = model_parameters(fit)
    with double_precision():
        try:
            # Traced without values: float(p.sigma) would pass as a number and lose its derivative.
            compiled = jax.jit(with_jacobian(numbers)).lower(estimates).compile()
        except (jax.errors.TracerArrayConversionError, jax.errors.ConcretizationTypeError) as error:
            raise LmmError(
                "the function cannot be differentiated: write it with jax.numpy instead of NumPy "
                "and float(), and without branches on the parameters' values"
            ) from error
        tree, jacobian = jax.device_get(compiled(estimates))
    if not jacobian.shape[0]:
        raise LmmError("the function returned nothing: has it a return statement?")
    return tree, jacobian


def _number(leaf: Any) -> jax.Array:
    if not isinstance(leaf, int | float | np.ndarray | np.generic | jax.Array):
        raise LmmError(
            "the function must return numbers: a scalar, an array, or lists, tuples and dicts of "
            f"them, not {type(leaf).__name__}"
        )
    return jnp.asarray(leaf, jnp.float64)


def _covariance(fit: Estimates, jacobian: np.ndarray) -> np.ndarray:
    """``J C J'``; NaN for what depends on a parameter at its boundary, or is not determined."""
    joint = joint_covariance(fit)
    at_boundary = joint.at_boundary
    touched = np.any(jacobian[:, at_boundary] != 0.0, axis=1)
    # The sum of two variances may be determined where neither of them is.
    change = np.abs(jacobian @ joint.free)
    touched |= np.any(change > FREE_TOL * (np.abs(jacobian) @ np.abs(joint.free)), axis=1)
    jacobian = np.where(at_boundary, 0.0, jacobian)
    cov = jacobian @ joint.matrix @ jacobian.T
    cov[touched] = np.nan
    cov[:, touched] = np.nan
    return cov


def _names(path: Any, leaf: np.ndarray) -> list[str]:
    """Names of a leaf's entries: its keys, and its position in an array."""
    stem = ".".join(_key(key) for key in path)
    if not leaf.ndim:
        return [stem or "value"]
    return [f"{stem}[{', '.join(map(str, at))}]" for at in np.ndindex(leaf.shape)]


def _key(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
