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

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from lmmjax.compiled import Kernel
from lmmjax.errors import LmmError
from lmmjax.inference.component_jets import (
    ComponentJets,
    Evaluate,
    SearchJets,
    component_jets,
    search_jets,
)
from lmmjax.likelihood.crossproducts import Prepared

if TYPE_CHECKING:
    from lmmjax.fitting import Fitted


@dataclass(frozen=True)
class KenwardRoger:
    """What tests by Kenward and Roger's method need, of one fit or of many.

    Kept on an orthonormal basis of the fixed effects' columns, because in the data's own, of which
    the origins may be far away, variances of contrasts would cancel twice the digits.

    Attributes
    ----------
    phi : ndarray, shape (..., p, p)
        ``Phi = (X'V^-1X)^-1`` on the basis.
    phi_adjusted : ndarray, shape (..., p, p)
        Their adjusted covariance of the fixed effects.
    sandwich : ndarray, shape (..., r, p, p)
        ``Phi P_i Phi`` for each of the r components.
    weight : ndarray, shape (..., r, r)
        ``W``, the covariance of the components' estimates.
    back : ndarray, shape (..., p, p)
        From the basis to the data's columns and units.
    """

    phi: np.ndarray
    phi_adjusted: np.ndarray
    sandwich: np.ndarray
    weight: np.ndarray
    back: np.ndarray

    @property
    def vcov(self) -> np.ndarray:
        """``Phi`` in the data's units, shape (..., p, p)."""
        return self.back @ self.phi @ np.swapaxes(self.back, -1, -2)

    @property
    def adjusted(self) -> np.ndarray:
        """Adjusted covariance of the fixed effects in the data's units, shape (..., p, p)."""
        return self.covariance(np.eye(self.phi.shape[-1]))

    @property
    def first(self) -> np.ndarray:
        """``Phi P_i Phi`` in the data's units, shape (..., r, p, p)."""
        back = self.back[..., None, :, :]
        return back @ self.sandwich @ np.swapaxes(back, -1, -2)

    def covariance(self, L: np.ndarray) -> np.ndarray:
        """Adjusted covariance of the estimates of ``L beta``, shape (..., q, q)."""
        rows = L @ self.back
        return rows @ self.phi_adjusted @ np.swapaxes(rows, -1, -2)

    def variances(self, L: np.ndarray) -> np.ndarray:
        """The diagonal of :meth:`covariance`, shape (..., q)."""
        rows = L @ self.back
        return np.sum((rows @ self.phi_adjusted) * rows, axis=-1)


class Denominator(NamedTuple):
    """The F distribution that a scaled Wald statistic is compared with.

    Attributes
    ----------
    df : ndarray, shape (...)
        Denominator degrees of freedom.
    scale : ndarray, shape (...)
        Factor of the statistic.
    """

    df: np.ndarray
    scale: np.ndarray


def denominator(L: np.ndarray, kr: KenwardRoger) -> Denominator:
    """Degrees of freedom and scale for ``L``, shape (..., q, p), of full row rank.

    Notes
    -----
    Kenward & Roger (1997), section 4, with their notation A1, A2, B, g, c1, c2, c3, rho.
    """
    q = L.shape[-2]
    L = L @ kr.back
    across = np.swapaxes(L, -1, -2)
    inverse = np.linalg.inv(L @ kr.phi @ across)
    # tr(Theta Phi P_i Phi), and the traces of products of two
    moved = L[..., None, :, :] @ kr.sandwich @ across[..., None, :, :]
    parts = inverse[..., None, :, :] @ moved
    traces = np.trace(parts, axis1=-2, axis2=-1)
    A1 = np.einsum("...i,...ij,...j->...", traces, kr.weight, traces)
    weighted = np.einsum("...ij,...jba->...iba", kr.weight, parts)
    A2 = np.einsum("...iab,...iba->...", parts, weighted)
    with np.errstate(divide="ignore", invalid="ignore"):
        B = (A1 + 6.0 * A2) / (2.0 * q)
        g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
        below = 3.0 * q + 2.0 * (1.0 - g)
        c1, c2, c3 = g / below, (q - g) / below, (q + 2 - g) / below
        v0, v1, v2 = 1.0 + c1 * B, 1.0 - c2 * B, 1.0 - c3 * B
        v0 = np.where(np.abs(v0) < 1e-10, 0.0, v0)
        # Both can vanish together (few groups, balanced); their ratio is then taken as 1.
        top = 1.0 - A2 / q
        ratio = np.where((np.abs(top) < 1e-10) & (np.abs(v1) < 1e-10), 1.0, top / v1)
        # rho = ratio² v0 / (v2 q), and v2 may vanish: df is then 4.
        df = 4.0 + (q + 2) * v2 / (ratio**2 * v0 - v2)
        scale = np.where(np.abs(df - 2.0) < 0.01, 1.0, df * top / (df - 2.0))
    return Denominator(df, scale)


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

    With prior weights the residuals' covariance is ``sigma^2 W^-1``, as in the fit. pbkrtest
    (0.5.2) takes ``sigma^2 I`` there, beside the weighted fit's covariance of the fixed effects:
    its standard errors and degrees of freedom of weighted fits differ, the latter by a factor of 2
    at times. Without weights the two agree.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> kr = kenward_roger(fit.raw)
    >>> round(float(kr.adjusted[0, 0]) ** 0.5, 4)
    19.3834
    """
    check_reml(fitted.reml)
    estimate = fitted.estimate

    def evaluate(points: np.ndarray, owner: np.ndarray) -> SearchJets:
        found = [_search_jets(point, fitted.data) for point in points]
        return jax.tree.map(lambda *values: np.stack(values), *found)

    many = kenward_roger_of_fits(
        np.asarray(estimate.solution.theta, np.float64)[None],
        tuple(np.asarray(f)[None] for f in estimate.factors),
        np.asarray(estimate.fixed.sigma)[None],
        np.asarray(fitted.data.n_obs, np.float64),
        fitted.prepared,
        evaluate,
    )
    return KenwardRoger(*(getattr(many, field.name)[0] for field in fields(many)))


_search_jets = Kernel(search_jets)


def check_reml(reml: bool) -> None:
    """Whether the method is defined for a fit."""
    if not reml:
        raise LmmError(
            "Kenward-Roger's method is defined for REML fits, and this one is by ML: fit with "
            "method='REML', or use ddf='satterthwaite'"
        )


def kenward_roger_of_fits(
    theta: np.ndarray,
    factors: tuple[np.ndarray, ...],
    sigma: np.ndarray,
    n_obs: np.ndarray,
    prepared: Prepared,
    evaluate: Evaluate,
) -> KenwardRoger:
    """:func:`kenward_roger` of many fits of one model, their axis first.

    Parameters
    ----------
    theta, factors, prepared, evaluate
        As in :func:`lmmjax.inference.component_jets.component_jets`.
    sigma : ndarray, shape (fits,)
        Residual standard deviations.
    n_obs : ndarray, shape () or (fits,)
        Numbers of rows.
    """
    trace, C, P, Q = _with_residual(component_jets(theta, factors, prepared, evaluate), n_obs)
    phi = np.linalg.inv(C)
    each = phi[:, None]
    sandwich = each @ P @ each  # Phi P_i Phi
    # I_E = tr(V^-1 V_i V^-1 V_j) - 2 tr(Phi Q_ij) + tr(Phi P_i Phi P_j);  W = 2 I_E^-1
    information = (
        trace
        - 2.0 * np.einsum("nab,nijba->nij", phi, Q)
        + np.einsum("niab,njba->nij", sandwich, P, optimize=True)
    )
    size = np.sqrt(np.abs(np.diagonal(information, axis1=1, axis2=2)))
    size = np.where(size > 0, size, 1.0)
    table = size[:, :, None] * size[:, None, :]
    weight = 2.0 * np.linalg.pinv(information / table, rcond=1e-12, hermitian=True) / table
    # Phi_A = Phi + 2 Phi {sum_ij W_ij (Q_ij - P_i Phi P_j)} Phi
    weighted = np.einsum("nij,njbc->nibc", weight, each @ P)
    inner = np.einsum("nij,nijab->nab", weight, Q) - np.sum(P @ weighted, axis=1)
    adjusted = phi + 2.0 * phi @ inner @ phi
    # From the orthonormal basis and sigma = 1 to the data's columns and units.
    back = np.asarray(prepared.basis.inverse) * sigma[:, None, None]
    return KenwardRoger(phi, adjusted, sandwich, weight, back)


def _with_residual(
    jets: ComponentJets, n_obs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Add the residual variance to the components, in units where it is 1.

    With ``V = w M(phi / w)``: ``log|V| = n log w + l(phi / w)`` and ``C = G(phi / w) / w``. Their
    derivatives in ``(phi, w)`` at ``w = 1`` follow from those of ``l`` and ``G``.

    Returns
    -------
    trace : ndarray, shape (fits, r, r)
        ``tr(V^-1 V_i V^-1 V_j)``.
    C : ndarray, shape (fits, p, p)
    P : ndarray, shape (fits, r, p, p)
    Q : ndarray, shape (fits, r, r, p, p)
        Symmetric parts of ``Q_ij``.
    """
    tau, logdet, fixed = jets
    count, m = tau.shape
    G = fixed.value
    p = G.shape[-1]
    G_k = np.moveaxis(fixed.first, -1, 1)
    G_kl = np.moveaxis(fixed.second, (-2, -1), (1, 2))
    along = np.einsum("nk,nkab->nab", tau, G_k)
    twice = np.einsum("nl,nklab->nkab", tau, G_kl)
    P = np.concatenate([G_k, -(G + along)[:, None]], axis=1)
    second = np.zeros((count, m + 1, m + 1, p, p))
    second[:, :m, :m] = G_kl
    second[:, :m, m] = second[:, m, :m] = -2.0 * G_k - twice
    second[:, m, m] = 2.0 * G + 4.0 * along + np.einsum("nk,nkab->nab", tau, twice)
    l_k, l_kl = logdet.first, logdet.second
    curved = np.einsum("nkl,nl->nk", l_kl, tau)
    hessian = np.zeros((count, m + 1, m + 1))
    hessian[:, :m, :m] = l_kl
    hessian[:, :m, m] = hessian[:, m, :m] = -(l_k + curved)
    hessian[:, m, m] = -n_obs + np.sum(tau * (2.0 * l_k + curved), axis=1)
    return -hessian, G, P, 0.5 * second
