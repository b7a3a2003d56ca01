"""Kenward-Roger: small-sample covariance of the fixed effects, and degrees of freedom.

The covariance of the response is linear in its components phi (the entries of each term's
covariance matrix, and sigma^2): ``V = sum_i phi_i V_i``. All that the method needs is then in the
first two derivatives of ``log|V|`` and of ``C = X'V^-1X``:

    P_i = dC/dphi_i,      Q_ij + Q_ji = d2C/dphi_i dphi_j,
    tr(V^-1 V_i V^-1 V_j) = -d2 log|V| / dphi_i dphi_j,

which the elimination has in its own parameters; no n x n matrix is formed.

Source: Kenward & Roger (1997), Biometrics 53, 983-997; Halekoh & Hojsgaard (2014), J. Stat. Softw.
59(9), for the case in which a denominator vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.compiled import Kernel
from lmmjax.covariance import (
    CompoundSymmetry,
    Covariance,
    Diagonal,
    Identity,
    Unstructured,
)
from lmmjax.errors import LmmError
from lmmjax.likelihood.crossproducts import CrossProducts
from lmmjax.likelihood.jet import Jet, jet
from lmmjax.likelihood.jets import reduced_jet

if TYPE_CHECKING:
    from lmmjax.fitting import Fitted

#: Relative to the distance at which V stops to be positive definite: a term's smallest eigenvalue
#: below this is taken as on the boundary. Above, the change of parameters loses at most ten digits.
BOUNDARY = 1e-5
#: Points from which derivatives at the boundary are continued.
NODES = 12


@dataclass(frozen=True)
class KenwardRoger:
    """What tests by Kenward and Roger's method need.

    Attributes
    ----------
    vcov : ndarray, shape (p, p)
        ``Phi = (X'V^-1X)^-1``.
    adjusted : ndarray, shape (p, p)
        Their adjusted covariance of the fixed effects.
    first : ndarray, shape (r, p, p)
        ``Phi P_i Phi`` for each of the r components.
    weight : ndarray, shape (r, r)
        ``W``, the covariance of the components' estimates.
    """

    vcov: np.ndarray
    adjusted: np.ndarray
    first: np.ndarray
    weight: np.ndarray


class Denominator(NamedTuple):
    """The F distribution that a scaled Wald statistic is compared with.

    Attributes
    ----------
    df : float
        Denominator degrees of freedom.
    scale : float
        Factor of the statistic.
    """

    df: float
    scale: float


def denominator(L: np.ndarray, kr: KenwardRoger) -> Denominator:
    """Degrees of freedom and scale for ``L``, shape (q, p), of full row rank.

    Notes
    -----
    Kenward & Roger (1997), section 4, with their notation A1, A2, B, g, c1, c2, c3, rho.
    """
    q = L.shape[0]
    inverse = np.linalg.inv(L @ kr.vcov @ L.T)
    # tr(Theta Phi P_i Phi), and the traces of products of two
    parts = inverse @ (L @ kr.first @ L.T)
    traces = np.trace(parts, axis1=1, axis2=2)
    A1 = float(traces @ kr.weight @ traces)
    A2 = float(np.einsum("ij,iab,jba->", kr.weight, parts, parts))
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    below = 3.0 * q + 2.0 * (1.0 - g)
    c1, c2, c3 = g / below, (q - g) / below, (q + 2 - g) / below
    v0, v1, v2 = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
    v0 = 0.0 if abs(v0) < 1e-10 else v0
    # Both can vanish together (few groups, balanced); their ratio is then taken as 1.
    ratio = _ratio(1.0 - A2 / q, v1)
    # rho = ratio² v0 / (v2 q), and v2 may vanish: df is then 4.
    df = 4.0 + (q + 2) * v2 / (ratio**2 * v0 - v2)
    scale = 1.0 if abs(df - 2.0) < 0.01 else df * (1.0 - A2 / q) / (df - 2.0)
    return Denominator(df, scale)


def _ratio(x: float, y: float) -> float:
    return 1.0 if abs(x) < 1e-10 and abs(y) < 1e-10 else x / y


# --- components ----------------------------------------------------------------------------------


def _entries(structure: Covariance) -> tuple[np.ndarray, np.ndarray]:
    """Entries of the covariance matrix that are coordinates of the family, if it is linear."""
    k = structure.size
    if isinstance(structure, Unstructured):
        col, row = np.triu_indices(k)
        return row, col
    if isinstance(structure, Diagonal):
        return np.arange(k), np.arange(k)
    if isinstance(structure, Identity):
        return np.zeros(1, int), np.zeros(1, int)
    if isinstance(structure, CompoundSymmetry):
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
            factor = structure.factor(theta[at : at + structure.n_theta])
            at += structure.n_theta
            out.append((factor @ factor.T)[_entries(structure)])
    return jnp.concatenate(out)


def component_jets(theta: Array, data: CrossProducts) -> tuple[Array, Jet, Jet]:
    """Relative components, and ``log|M|`` and ``X'M^-1X`` with their derivatives in them.

    ``M = I + Z S Z'`` is V over sigma^2. By the chain rule from the search parameters, so at a
    theta where those are a good parametrisation.
    """
    p = data.n_fixed
    logdet, gram = reduced_jet(theta, data)
    components = jet(lambda t: _components(data.search_structures, t), theta)
    inverse = jnp.linalg.inv(components.first)  # dtheta / dphi

    def change(f: Jet) -> Jet:
        # f_phi = f_theta J^-1
        # f_phiphi = J^-T (f_thetatheta - sum_k f_phi_k d2phi_k) J^-1
        first = f.first @ inverse
        left = f.second - jnp.einsum("...k,kij->...ij", first, components.second)
        return Jet(f.value, first, inverse.T @ left @ inverse)

    fixed = Jet(gram.value[:p, :p], gram.first[:p, :p], gram.second[:p, :p])
    return components.value, change(logdet), change(fixed)


_component_jets = Kernel(component_jets)


# --- at a fit ------------------------------------------------------------------------------------


def _reach(fitted: Fitted) -> float:
    """A shift of all variances by minus this, relative to sigma^2, keeps V positive definite.

    ``|Z_t Z_t'|`` is at most the largest sum of squares within a level.
    """
    total = 0.0
    prepared = fitted.prepared
    for rows, index in zip(prepared.term_rows, prepared.term_index, strict=True):
        squares = np.sum(np.asarray(rows) ** 2, axis=1)
        total += float(np.max(np.bincount(np.asarray(index), squares)))
    return 1.0 / total


def _shifted(fitted: Fitted, reach: float) -> Any:
    """Search parameters as a function of the singular bars' shift; None if no bar is singular."""
    theta = np.asarray(fitted.estimate.solution.theta)
    pieces: list[tuple[Covariance, np.ndarray, bool]] = []
    at = 0
    for bars in fitted.prepared.search_structures:
        for structure in bars:
            _entries(structure)
            own = theta[at : at + structure.n_theta]
            at += structure.n_theta
            root = np.asarray(structure.factor(jnp.asarray(own)), np.float64)
            smallest = float(np.linalg.svd(root, compute_uv=False)[-1]) ** 2
            pieces.append((structure, own, not smallest >= BOUNDARY * reach))
    if not any(singular for _, _, singular in pieces):
        return None

    def at_shift(shift: float) -> np.ndarray:
        out = []
        for structure, own, singular in pieces:
            if not singular:
                out.append(own)
            elif isinstance(structure, Diagonal | Identity):
                out.append(np.sqrt(own**2 + shift))
            elif isinstance(structure, Unstructured):
                root = np.asarray(structure.factor(jnp.asarray(own)), np.float64)
                wide = np.concatenate([root, np.sqrt(shift) * np.eye(structure.size)], axis=1)
                out.append(structure.from_factor(_square_root(wide)))
            else:
                raise LmmError(
                    f"the fit is singular, and Kenward-Roger's method does not go to the boundary "
                    f"of {type(structure).__name__}: use ddf='satterthwaite', or a simpler "
                    "covariance structure"
                )
        return np.concatenate(out)

    return at_shift


def _square_root(wide: np.ndarray) -> np.ndarray:
    """Square ``F`` with ``F F' = wide wide'``, from the singular values: nothing is squared."""
    left, values, _ = np.linalg.svd(wide, full_matrices=False)
    return left * values


def _jets_at(fitted: Fitted) -> tuple[np.ndarray, Jet, Jet]:
    """Components and derivatives at the fit, on the boundary by continuation.

    ``log|V|`` and ``X'V^-1X`` are analytic in the components, also where a variance is zero; only
    the square roots that the elimination works with are not differentiable there. On a boundary,
    all is computed with the singular blocks shifted by a few amounts, and the polynomial through
    them is evaluated at no shift. The nodes lie in a disc half the radius of the one in which the
    functions are analytic, so 12 of them give about 12 digits.
    """
    theta = np.asarray(fitted.estimate.solution.theta, np.float64)
    reach = _reach(fitted)
    at_shift = _shifted(fitted, reach)
    if at_shift is None:
        return _component_jets(theta, fitted.data)
    angle = (2.0 * np.arange(NODES) + 1.0) * np.pi / (2.0 * NODES)
    nodes = 0.25 * reach * (1.0 + np.cos(angle))
    # Lagrange's weights at zero
    weights = [
        np.prod([b / (b - a) for b in nodes[np.arange(NODES) != i]]) for i, a in enumerate(nodes)
    ]
    found = [_component_jets(at_shift(float(node)), fitted.data) for node in nodes]
    return jax.tree.map(
        lambda *values: sum(w * v for w, v in zip(weights, values, strict=True)), *found
    )


def kenward_roger(fitted: Fitted) -> KenwardRoger:
    """Adjusted covariance of the fixed effects, and what degrees of freedom need.

    Parameters
    ----------
    fitted : Fitted
        A fit by REML.

    Returns
    -------
    KenwardRoger
        In the units of the data.

    Raises
    ------
    LmmError
        The fit is by ML, or a covariance structure is not linear in its parameters.

    Notes
    -----
    Kenward & Roger (1997), equations 1 to 5, with the expected information of the components.
    The cost is that of a few evaluations of the criterion with its Hessian.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> kr = kenward_roger(fit.raw)
    >>> round(float(kr.adjusted[0, 0]) ** 0.5, 4)
    19.3834
    """
    if not fitted.reml:
        raise LmmError(
            "Kenward-Roger's method is defined for REML fits, and this one is by ML: fit with "
            "method='REML', or use ddf='satterthwaite'"
        )
    tau, logdet, fixed = _jets_at(fitted)
    trace, C, P, Q = _with_residual(tau, logdet, fixed, float(fitted.data.n_obs))
    phi = np.linalg.inv(C)
    sandwich = phi @ P @ phi  # Phi P_i Phi
    # I_E = tr(V^-1 V_i V^-1 V_j) - 2 tr(Phi Q_ij) + tr(Phi P_i Phi P_j);  W = 2 I_E^-1
    information = (
        trace - 2.0 * np.einsum("ab,ijba->ij", phi, Q) + np.einsum("iab,jba->ij", sandwich, P)
    )
    size = np.sqrt(np.abs(np.diagonal(information)))
    size = np.where(size > 0, size, 1.0)
    scaled = information / np.outer(size, size)
    weight = 2.0 * np.linalg.pinv(scaled, rcond=1e-12, hermitian=True) / np.outer(size, size)
    # Phi_A = Phi + 2 Phi {sum_ij W_ij (Q_ij - P_i Phi P_j)} Phi
    inner = np.einsum("ij,ijab->ab", weight, Q) - np.einsum(
        "ij,iab,jbc->ac", weight, P, phi @ P, optimize=True
    )
    adjusted = phi + 2.0 * phi @ inner @ phi
    # From the orthonormal basis and sigma = 1 to the data's columns and units.
    back = np.asarray(fitted.data.fixed_inverse) * float(fitted.estimate.fixed.sigma)
    return KenwardRoger(
        vcov=back @ phi @ back.T,
        adjusted=back @ adjusted @ back.T,
        first=back @ sandwich @ back.T,
        weight=weight,
    )


def _with_residual(
    tau: np.ndarray, logdet: Jet, fixed: Jet, n: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Add the residual variance to the components, in units where it is 1.

    With ``V = w M(phi / w)``: ``log|V| = n log w + l(phi / w)`` and ``C = G(phi / w) / w``. Their
    derivatives in ``(phi, w)`` at ``w = 1`` follow from those of ``l`` and ``G``.

    Returns
    -------
    trace : ndarray, shape (r, r)
        ``tr(V^-1 V_i V^-1 V_j)``.
    C : ndarray, shape (p, p)
    P : ndarray, shape (r, p, p)
    Q : ndarray, shape (r, r, p, p)
        Symmetric parts of ``Q_ij``.
    """
    m, p = tau.shape[0], fixed.value.shape[0]
    G = np.asarray(fixed.value)
    G_k = np.moveaxis(np.asarray(fixed.first), -1, 0)
    G_kl = np.moveaxis(np.asarray(fixed.second), (-2, -1), (0, 1))
    along, twice = np.tensordot(tau, G_k, 1), np.einsum("l,klab->kab", tau, G_kl)
    P = np.concatenate([G_k, -(G + along)[None]])
    second = np.zeros((m + 1, m + 1, p, p))
    second[:m, :m] = G_kl
    second[:m, m] = second[m, :m] = -2.0 * G_k - twice
    second[m, m] = 2.0 * G + 4.0 * along + np.tensordot(tau, twice, 1)
    l_k, l_kl = np.asarray(logdet.first), np.asarray(logdet.second)
    hessian = np.zeros((m + 1, m + 1))
    hessian[:m, :m] = l_kl
    hessian[:m, m] = hessian[m, :m] = -(l_k + l_kl @ tau)
    hessian[m, m] = -n + 2.0 * tau @ l_k + tau @ l_kl @ tau
    return -hessian, G, P, 0.5 * second
