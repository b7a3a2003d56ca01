"""The parameters of a fit by name, and their joint covariance, for the delta method.

The likelihood is searched in parameters of its own. Here they are brought to those that people
name: coefficients, lme4's theta, covariance matrices of the random effects, sigma. Coefficients
and variance parameters are asymptotically independent, under ML and REML, so the joint covariance
has two blocks: the coefficients' covariance, and ``K C K'`` with ``C = 2 H^-1`` from the exact
Hessian of the criterion and ``K`` the derivatives of the change of parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from lmmjax.compiled import Kernel
from lmmjax.covariance import Covariance, Diagonal, Unstructured, relative_covariance
from lmmjax.errors import LmmError
from lmmjax.inference.boundary import singular_bars
from lmmjax.likelihood.crossproducts import lambda_factors, search_forms
from lmmjax.likelihood.pytree import register

if TYPE_CHECKING:
    from lmmjax.estimates import Estimates

#: Per term, the structures of its bars.
Structures = tuple[tuple[Covariance, ...], ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ModelParameters:
    """Every parameter of a mixed model, by name.

    A function of it, written in ``jax.numpy``, is what :meth:`LinearMixedModelResult.delta` takes.

    Attributes
    ----------
    beta : Array, shape (p,)
        Coefficients.
    theta : Array, shape (n_theta,)
        Relative covariance parameters, in lme4's order (``fit.theta_names``).
    covariances : tuple of Array, each (k_t, k_t)
        Covariance matrix of each grouping factor's effects, in squared units of the response.
    sigma : Array, scalar
        Residual standard deviation.
    names : tuple of str
        Of the coefficients.
    groups : tuple of str
        The grouping factors.
    columns : tuple of tuple of str
        For each grouping factor the names of its effects.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> p = fit.parameters
    >>> print(round(float(p.coef("Days")), 3), round(float(p.variance("Subject", "Days")), 3))
    10.467 35.072
    >>> print(p.cov["Subject"].round(2))
    [[612.09   9.6 ]
     [  9.6   35.07]]
    """

    beta: Any
    theta: Any
    covariances: tuple[Any, ...]
    sigma: Any
    names: tuple[str, ...] = field(metadata={"static": True})
    groups: tuple[str, ...] = field(metadata={"static": True})
    columns: tuple[tuple[str, ...], ...] = field(metadata={"static": True})

    def coef(self, name: str) -> Any:
        """The coefficient of that name."""
        return self.beta[_position(name, self.names, "coefficient")]

    @property
    def cov(self) -> dict[str, Any]:
        """Covariance matrix of each grouping factor's effects."""
        return dict(zip(self.groups, self.covariances, strict=True))

    @property
    def sd(self) -> dict[str, Any]:
        """Standard deviations of each grouping factor's effects, each of shape (k_t,)."""
        return {group: jnp.sqrt(jnp.diagonal(cov)) for group, cov in self.cov.items()}

    @property
    def corr(self) -> dict[str, Any]:
        """Correlation matrix of each grouping factor's effects."""
        return {
            group: cov / (self.sd[group][:, None] * self.sd[group])
            for group, cov in self.cov.items()
        }

    def covariance(self, group: str, left: str, right: str) -> Any:
        """Covariance of two effects of a grouping factor."""
        t = _position(group, self.groups, "grouping factor")
        i, j = (_position(c, self.columns[t], f"effect of {group!r}") for c in (left, right))
        return self.covariances[t][i, j]

    def variance(self, group: str, column: str = "(Intercept)") -> Any:
        """Variance of one effect of a grouping factor."""
        return self.covariance(group, column, column)

    def correlation(self, group: str, left: str, right: str) -> Any:
        """Correlation of two effects of a grouping factor."""
        product = self.variance(group, left) * self.variance(group, right)
        return self.covariance(group, left, right) / jnp.sqrt(product)


def _position(name: str, names: Sequence[str], what: str) -> int:
    if name not in names:
        raise LmmError(f"no {what} {name!r}: there is {', '.join(map(repr, names))}")
    return list(names).index(name)


def model_parameters(fit: Estimates) -> ModelParameters:
    """The estimates, as NumPy arrays."""
    terms = fit.design.terms
    return ModelParameters(
        beta=fit.beta,
        theta=fit.theta,
        covariances=tuple(fit.sigma**2 * factor @ factor.T for factor in fit.raw.factors),
        sigma=np.asarray(fit.sigma),
        names=fit.design.x_names,
        groups=tuple(term.group for term in terms),
        columns=tuple(term.columns for term in terms),
    )


def independent_blocks(structures: Structures) -> list[tuple[int, int, int]]:
    """Term, first column and size of each block of correlated effects, as `varcorr` lists them."""
    out = []
    for t, bars in enumerate(structures):
        at = 0
        for structure in bars:
            sizes = [1] * structure.size if type(structure) is Diagonal else [structure.size]
            for size in sizes:
                out.append((t, at, size))
                at += size
    return out


class JointCovariance(NamedTuple):
    """Joint covariance of all parameters, in the order of the leaves of `ModelParameters`.

    Attributes
    ----------
    matrix : ndarray, shape (N, N)
        Zero where `at_boundary`.
    at_boundary : ndarray of bool, shape (N,)
        Entries that belong to a singular block, for which there is no such covariance.
    free : ndarray, shape (N, f)
        The directions in which the criterion has no curvature: what changes along one is not
        determined.
    """

    matrix: np.ndarray
    at_boundary: np.ndarray
    free: np.ndarray


def joint_covariance(fit: Estimates) -> JointCovariance:
    """Covariance of ``(beta, theta, vec(covariances), sigma)``.

    Notes
    -----
    The covariance of (theta, sigma) is twice the inverse of the exact Hessian of the criterion,
    mapped by exact derivatives. A block of random effects on its boundary is marked: its estimates
    are not normal, whatever the sample.

    Source: Pinheiro & Bates (2000), Mixed-Effects Models in S and S-PLUS, section 2.3.
    """
    data, inference = fit.raw.prepared, fit.raw.estimate.fixed
    theta = np.asarray(fit.raw.estimate.solution.theta, np.float64)
    search = np.append(theta, np.asarray(inference.sigma, np.float64))
    inverses = tuple(np.linalg.inv(np.asarray(transform)) for transform in data.transforms)
    K = np.array(_change(search, _Change(inverses, data.structures, fit.theta)))
    p = fit.beta.size
    directions = np.asarray(inference.free)
    directions = directions[:, directions.any(axis=0)]
    free = np.concatenate([np.zeros((p, directions.shape[1])), K @ directions])
    marked = _at_boundary(fit, data.structures, K.shape[0])
    K[marked] = 0.0
    matrix = np.zeros((p + len(K), p + len(K)))
    matrix[:p, :p] = inference.vcov
    matrix[p:, p:] = K @ np.asarray(inference.parameter_cov) @ K.T
    return JointCovariance(matrix, np.append(np.zeros(p, bool), marked), free)


@register
@dataclass(frozen=True)
class _Change:
    """What the change of parameters depends on.

    Attributes
    ----------
    inverses : tuple of Array
        Each term's ``T^-1``.
    structures : tuple of tuple of Covariance
    theta : Array, shape (n_theta,)
        The estimates, in the structures' own parameters.
    """

    inverses: tuple[Any, ...]
    structures: Structures
    theta: Any


def change_of_parameters(search: Array, change: _Change) -> Array:
    """Derivatives of ``(theta, vec(covariances), sigma)`` in the search parameters and sigma."""

    def natural(parameters: Array) -> Array:
        return _from_search(parameters, change)

    return jax.jacfwd(natural)(search)


_change = Kernel(change_of_parameters)


def _from_search(search: Array, change: _Change) -> Array:
    """``(theta, vec(covariances), sigma)`` from the search parameters and sigma."""
    theta, sigma = search[:-1], search[-1]
    factors = lambda_factors(search_forms(change.structures), theta)
    own, covariances, at = [], [], 0
    for bars, inverse, factor in zip(change.structures, change.inverses, factors, strict=True):
        root = inverse @ factor
        covariances.append(jnp.ravel(sigma**2 * root @ root.T))
        start = 0
        for structure in bars:
            block = root[start : start + structure.size, start : start + structure.size]
            place = slice(at, at + structure.n_theta)
            own.append(_theta(structure, block, theta[place], change.theta[place]))
            start += structure.size
            at += structure.n_theta
    return jnp.concatenate([*own, *covariances, sigma[None]])


def _theta(structure: Covariance, root: Array, searched: Array, estimate: Array) -> Array:
    """A bar's own parameters (lme4's) from a square root of its relative covariance.

    In value and first derivative at the estimate.
    """
    if structure.equivariance == "none":
        return searched
    if type(structure) is Diagonal:
        return jnp.abs(jnp.diagonal(root))
    if type(structure) is Unstructured:
        lower = _cholesky(root @ root.T)
        col, row = np.triu_indices(structure.size)
        return lower[row, col]
    # Only the structure's own code, in NumPy, knows theta of a root. But G(theta) = root root', so
    # that d theta = (dG / d theta)^-1 d(root root'), entries in units of the standard deviations.
    covariance = root @ root.T
    unit = jnp.sqrt(jnp.diagonal(lax.stop_gradient(covariance)))
    unit = jnp.where(unit > 0, unit, 1.0)

    def entries(x: Array) -> Array:
        return jnp.ravel(x / (unit[:, None] * unit))

    slope = jax.jacfwd(lambda t: entries(relative_covariance(structure, t)))(estimate)
    length = jnp.sqrt(jnp.sum(slope**2, axis=0))
    length = jnp.where(length > 0, length, 1.0)
    moved = entries(covariance - lax.stop_gradient(covariance))
    return estimate + (jnp.linalg.pinv(slope / length) @ moved) / length


def _cholesky(matrix: Array) -> Array:
    """Lower Cholesky factor, column by column: small, and free of LAPACK under `vmap`."""
    columns: list[Array] = []
    for j in range(matrix.shape[0]):
        rest = matrix[:, j] - sum((c * c[j] for c in columns), jnp.zeros(()))
        below = jnp.arange(matrix.shape[0]) >= j
        columns.append(jnp.where(below, rest / jnp.sqrt(rest[j]), 0.0))
    return jnp.stack(columns, axis=1)


def _at_boundary(fit: Estimates, structures: Structures, size: int) -> np.ndarray:
    singular = singular_bars(fit.raw)
    marked_theta: list[Any] = []
    marked_cov: list[np.ndarray] = []
    for t, bars in enumerate(structures):
        k = sum(structure.size for structure in bars)
        cov, at = np.zeros((k, k), bool), 0
        for structure in bars:
            inside = np.zeros(structure.size, bool)
            for term, start, width in singular:
                if term == t and at <= start < at + structure.size:
                    inside[start - at : start - at + width] = True
            own = np.arange(at, at + structure.size)[inside]
            cov[np.ix_(own, own)] = True
            per_column = type(structure) is Diagonal
            marked_theta += inside.tolist() if per_column else [inside.any()] * structure.n_theta
            at += structure.size
        marked_cov.append(cov.ravel())
    out = np.concatenate([np.array(marked_theta, bool), *marked_cov, [False]])
    assert out.size == size
    return out
