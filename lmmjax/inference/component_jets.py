"""``log|V|`` and ``X'V^-1X`` with their derivatives in the variance components, for many fits.

The covariance of the response is linear in its components (the entries of each term's covariance
matrix, and sigma²), in which it is analytic even where a variance is zero. The elimination works
in square roots, its search parameters, which are not differentiable there. Derivatives are taken
in those by the elimination, changed by the chain rule, and continued to the boundary.

The axis of the fits comes first in all arrays of this file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.covariance import (
    CompoundSymmetry,
    Covariance,
    Diagonal,
    Identity,
    SymmetricRoot,
    Unstructured,
    relative_covariance,
)
from lmmjax.errors import LmmError
from lmmjax.likelihood.crossproducts import CrossProducts, Prepared
from lmmjax.likelihood.jet import Jet, jet
from lmmjax.likelihood.jets import reduced_jet

#: Relative to the distance at which V stops to be positive definite: a term's smallest eigenvalue
#: below this is taken as on the boundary. Above, the change of parameters loses at most ten digits.
BOUNDARY = 1e-5
#: Points from which derivatives at the boundary are continued.
NODES = 12


class ComponentJets(NamedTuple):
    """Relative components of fits, and functions of them with two derivatives.

    Attributes
    ----------
    components : array, shape (fits, m)
        Entries of each bar's covariance matrix over sigma².
    logdet : Jet
        Of ``log|M|``, with ``M = I + Z S Z'`` which is V over sigma².
    fixed : Jet
        Of ``X'M^-1X``, shape (fits, p, p), in the orthonormal basis of X.
    """

    components: np.ndarray
    logdet: Jet
    fixed: Jet


class SearchJets(NamedTuple):
    """Components, ``log|M|`` and ``X'M^-1X``, with derivatives in the search parameters."""

    components: Jet
    logdet: Jet
    fixed: Jet


#: ``(theta, owner) -> jets``: at search parameters of shape (points, n_theta), each of the fit
#: ``owner``, shape (points,).
Evaluate = Callable[[np.ndarray, np.ndarray], SearchJets]


def search_jets(theta: Array, data: CrossProducts) -> SearchJets:
    """At one point, shape (n_theta,); a pure function of JAX."""
    p = data.n_fixed
    logdet, gram = reduced_jet(theta, data)
    components = jet(lambda t: _components(data.search_structures, t), theta)
    fixed = Jet(gram.value[:p, :p], gram.first[:p, :p], gram.second[:p, :p])
    return SearchJets(components, logdet, fixed)


def component_jets(
    theta: np.ndarray, factors: tuple[np.ndarray, ...], prepared: Prepared, evaluate: Evaluate
) -> ComponentJets:
    """Derivatives in the components, at fits inside and on the boundary.

    On a boundary, all is computed with the singular bars shifted by a few amounts, and the
    polynomial through them is evaluated at no shift. The nodes lie in a disc half the radius of the
    one in which the functions are analytic, so 12 of them give about 12 digits.

    Parameters
    ----------
    theta : ndarray, shape (fits, n_theta)
        Search parameters, finite.
    factors : tuple of ndarray, each (fits, k_t, k_t)
        Square roots of the terms' relative covariance matrices, in standardised columns.
    prepared : Prepared
    evaluate : callable
        :func:`search_jets` at many points.

    Raises
    ------
    LmmError
        A structure is not linear in its parameters, or singular and not known at its boundary.
    """
    bars = _bars(theta, factors, prepared)
    reach = _reach(prepared)
    singular = [_least_eigenvalue(bar) < BOUNDARY * reach for bar in bars]
    on_boundary = np.any(singular, axis=0)
    inside, outside = np.flatnonzero(~on_boundary), np.flatnonzero(on_boundary)
    angle = (2.0 * np.arange(NODES) + 1.0) * np.pi / (2.0 * NODES)
    nodes = 0.25 * reach * (1.0 + np.cos(angle))
    # Lagrange's weights at zero
    weights = np.array(
        [np.prod([b / (b - a) for b in nodes[np.arange(NODES) != i]]) for i, a in enumerate(nodes)]
    )
    rounds = np.repeat(theta[None, outside], NODES, axis=0)
    for bar, fits in zip(bars, singular, strict=True):
        own = bar.of(fits)
        if len(own.theta):
            rounds[:, fits[outside], bar.place] = [_shifted(own, shift) for shift in nodes]
    points = np.concatenate([theta[inside], rounds.reshape(-1, theta.shape[1])])
    owner = np.concatenate([inside, np.tile(outside, NODES)])
    found = _in_components(evaluate(points, owner))

    def gather(x: np.ndarray) -> np.ndarray:
        out = np.empty((len(theta), *x.shape[1:]))
        out[inside] = x[: inside.size]
        at_nodes = x[inside.size :].reshape(NODES, outside.size, *x.shape[1:])
        out[outside] = np.tensordot(weights, at_nodes, 1)
        return out

    return jax.tree.map(gather, found)


def _in_components(jets: SearchJets) -> ComponentJets:
    """From derivatives in the search parameters to those in the components, by the chain rule."""
    inverse = np.linalg.inv(jets.components.first)  # dtheta / dphi, shape (points, m, m)
    curved = np.asarray(jets.components.second)

    def change(f: Jet) -> Jet:
        # f_phi = f_theta J^-1
        # f_phiphi = J^-T (f_thetatheta - sum_k f_phi_k d2phi_k) J^-1
        first = np.einsum("n...i,nij->n...j", f.first, inverse)
        left = f.second - np.einsum("n...k,nkij->n...ij", first, curved)
        second = np.einsum("nai,n...ab,nbj->n...ij", inverse, left, inverse, optimize=True)
        return Jet(np.asarray(f.value), first, second)

    value = np.asarray(jets.components.value)
    return ComponentJets(value, change(jets.logdet), change(jets.fixed))


# --- components of a structure -------------------------------------------------------------------


def _entries(structure: Covariance) -> tuple[np.ndarray, np.ndarray]:
    """Entries of the covariance matrix that are coordinates of the family, if it is linear."""
    k = structure.size
    if type(structure) in (Unstructured, SymmetricRoot):
        col, row = np.triu_indices(k)
        return row, col
    if type(structure) is Diagonal:
        return np.arange(k), np.arange(k)
    if type(structure) is Identity:
        return np.zeros(1, int), np.zeros(1, int)
    if type(structure) is CompoundSymmetry:
        row = np.array([0, 1] if k > 1 else [0])
        return row, np.zeros_like(row)
    raise LmmError(
        f"Kenward-Roger's method is for covariance structures that are linear in their parameters; "
        f"{type(structure).__name__} is not: use ddf='satterthwaite'"
    )


def _components(structures: tuple[tuple[Covariance, ...], ...], theta: Array) -> Array:
    """Relative variance components of the search parameters, shape (m,)."""
    out, at = [], 0
    for bars in structures:
        for structure in bars:
            own = relative_covariance(structure, theta[at : at + structure.n_theta])
            at += structure.n_theta
            out.append(own[_entries(structure)])
    return jnp.concatenate(out)


# --- the boundary --------------------------------------------------------------------------------


class _Bar(NamedTuple):
    """A bar of the formula: its structure, and of each fit its parameters and square root.

    ``place`` says where its search parameters lie among all.
    """

    structure: Covariance
    place: slice
    theta: np.ndarray
    root: np.ndarray

    def of(self, fits: np.ndarray) -> _Bar:
        return self._replace(theta=self.theta[fits], root=self.root[fits])


def _bars(theta: np.ndarray, factors: tuple[np.ndarray, ...], prepared: Prepared) -> list[_Bar]:
    out, at = [], 0
    for structures, factor in zip(prepared.search_structures, factors, strict=True):
        column = 0
        for structure in structures:
            _entries(structure)
            own = slice(column, column + structure.size)
            place = slice(at, at + structure.n_theta)
            column, at = own.stop, place.stop
            root = np.asarray(factor, np.float64)[:, own, own]
            out.append(_Bar(structure, place, theta[:, place], root))
    return out


def _reach(prepared: Prepared) -> float:
    """A shift of all variances by minus this, relative to sigma², keeps V positive definite.

    ``|Z_t Z_t'|`` is at most the largest sum of squares within a level.
    """
    total = 0.0
    for rows, index in zip(prepared.term_rows, prepared.term_index, strict=True):
        squares = np.sum(np.asarray(rows) ** 2, axis=1)
        total += float(np.max(np.bincount(np.asarray(index), squares)))
    return 1.0 / total


def _least_eigenvalue(bar: _Bar) -> np.ndarray:
    return np.linalg.svd(bar.root, compute_uv=False)[:, -1] ** 2


def _shifted(bar: _Bar, shift: float) -> np.ndarray:
    """Search parameters of the bar's covariance plus ``shift`` times the identity."""
    k = bar.structure.size
    if k == 1 or type(bar.structure) in (Diagonal, Identity):
        return np.sqrt(bar.theta**2 + shift)
    if type(bar.structure) in (Unstructured, SymmetricRoot):
        # A square F with F F' = wide wide', from the singular values: nothing is squared.
        more = np.broadcast_to(np.sqrt(shift) * np.eye(k), bar.root.shape)
        wide = np.concatenate([bar.root, more], axis=2)
        left, values, _ = np.linalg.svd(wide, full_matrices=False)
        return bar.structure.from_factor(left * values[:, None, :])
    raise LmmError(
        f"the fit is singular, and Kenward-Roger's method does not go to the boundary of "
        f"{type(bar.structure).__name__}: use ddf='satterthwaite', or a simpler covariance "
        "structure"
    )
