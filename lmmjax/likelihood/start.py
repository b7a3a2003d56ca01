"""Where to start: a moment estimate of all covariances, by one linear solve.

With ``r = (I - P) y`` the least-squares residual, ``t_j = Z_tj'r`` the sums of level j of term t
and ``C_jl = Z_tj'(I - P) Z_ul``,

    E sum_j w_j t_j t_j' = sigma^2 sum_j w_j C_jj + sum_u sum_jl w_j C_jl (sigma^2 Sigma_u) C_jl'

are linear equations for sigma^2 Sigma_t; the residual variance comes from what is left within the
finest groups or, with several terms, from the total sum of squares as one more equation. Weights
``w_j = 1 / (c + n_j)^2`` lie between those of MINQUE(0) (Rao 1972), right for small variances, and
unweighted means, right for large ones. Good to a few per cent, the start saves half of the
iterations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmmjax.covariance import Covariance
from lmmjax.likelihood.jacobi import symmetric_eigen
from lmmjax.likelihood.products import matmul
from lmmjax.likelihood.pytree import register
from lmmjax.likelihood.segments import group_gram, namespace, segment_sum

#: Relative standard deviations are kept within these, away from the boundary's zero gradient.
SD_RANGE = (0.05, 20.0)
#: ``c``: the inverse of a typical relative variance.
WEIGHT_OFFSET = 4.0
#: Multiplications allowed for the fixed effects' part of one block; beyond, it is left out.
PROJECTION_COST = 100_000_000


@register
@dataclass(frozen=True)
class MomentEquations:
    """``vec(sum_j w_j t_j t_j') = system @ vec(sigma^2 Sigma) + sigma^2 total``, over all terms.

    Attributes
    ----------
    inverse : Array, shape (e, e)
        Inverse of the system; with several terms its last row and column are those of sigma^2.
    total : Array, shape (sum k_t k_t,)
    level_weights : tuple of Array, each (L_t,)
        ``w_j``.
    """

    inverse: Any
    total: Any
    level_weights: tuple[Any, ...]


def moment_equations(
    columns: Sequence[np.ndarray],
    indices: Sequence[np.ndarray],
    levels: Sequence[int],
    fixed: np.ndarray,
) -> MomentEquations:
    """The part of the equations that depends on the design alone.

    Parameters
    ----------
    columns, indices, levels : sequences
        Standardised columns (n, k_t), level of each row, number of levels, per term.
    fixed : ndarray, shape (n, p)
        Orthonormal basis of the fixed effects.
    """
    weights, projected, totals, sums = [], [], [], []
    for z, index, count in zip(columns, indices, levels, strict=True):
        k = z.shape[1]
        size = segment_sum(np.einsum("na,na->n", z, z) / k, index, count)
        weights.append(1.0 / (WEIGHT_OFFSET + size) ** 2)
        a = group_gram(z, fixed, index, count)
        projected.append(a)
        gram = group_gram(z, z, index, count) - np.einsum("apj,bpj->abj", a, a)
        totals.append((gram @ weights[-1]).reshape(-1))
        sums.append(gram.sum(axis=2).reshape(-1))
    terms = range(len(columns))
    system = np.block(
        [
            [
                _pair_block(
                    (columns[t], indices[t], levels[t], projected[t]),
                    (columns[u], indices[u], levels[u], projected[u]),
                    weights[t],
                    t == u,
                )
                for u in terms
            ]
            for t in terms
        ]
    )
    total = np.concatenate(totals)
    if len(columns) > 1:
        df = float(columns[0].shape[0] - fixed.shape[1])
        last = np.concatenate([*sums, [df]])[None, :]
        system = np.block([[np.block([system, total[:, None]])], [last]])
    # A pseudo-inverse: terms that moments cannot tell apart share their part.
    left = 1.0 / np.maximum(np.abs(system).max(axis=1), 1e-300)
    right = 1.0 / np.maximum(np.abs(system * left[:, None]).max(axis=0), 1e-300)
    inverse = np.linalg.pinv(system * left[:, None] * right, rcond=1e-10)
    return MomentEquations(right[:, None] * inverse * left, total, tuple(weights))


Term = tuple[np.ndarray, np.ndarray, int, np.ndarray]


def _pair_block(left: Term, right: Term, weight: np.ndarray, own: bool) -> np.ndarray:
    """``sum_jl w_j C_jl (x) C_jl``, shape (k_t k_t, k_u k_u)."""
    z_t, i_t, n_t, a_t = left
    z_u, i_u, n_u, a_u = right
    if own:
        cell, count, cell_weight = i_t, n_t, weight
    else:
        code = i_t.astype(np.int64) * n_u + i_u
        if n_t * n_u <= 8 * code.size:
            cell, count, cell_weight = code, n_t * n_u, np.repeat(weight, n_u)
        else:
            unique, cell = np.unique(code, return_inverse=True)
            cell, count, cell_weight = cell.reshape(-1), unique.size, weight[unique // n_u]
    k, m, p = z_t.shape[1], z_u.shape[1], a_t.shape[1]
    flat = group_gram(z_t, z_u, cell, count).reshape(k * m, count)
    pairs = ((flat * cell_weight) @ flat.T).reshape(k, m, k, m)
    if p and (k * m) ** 2 * p * i_t.size <= PROJECTION_COST:
        # C - A_j A_l' for the fixed effects' part, expanded.
        moved = (a_t * weight)[:, :, i_t]
        both = np.einsum("bpn,dpn->bdn", moved, a_u[:, :, i_u])
        cross = np.einsum("na,nc,bdn->acbd", z_t, z_u, both)
        outer = np.einsum("apj,bqj->abpq", a_t * weight, a_t)
        outer = np.einsum("abpq,cdpq->acbd", outer, np.einsum("cpl,dql->cdpq", a_u, a_u))
        pairs = pairs - cross - np.moveaxis(cross, (0, 1, 2, 3), (2, 3, 0, 1)) + outer
    return np.moveaxis(pairs, 2, 1).reshape(k * k, m * m)


def moment_start(
    equations: MomentEquations,
    structures: Sequence[tuple[Covariance, ...]],
    sums: Sequence[Any],
    n_obs: int,
    variance: Any,
) -> Any:
    """Search parameters of all terms.

    Parameters
    ----------
    equations : MomentEquations
    structures : sequence of tuple of Covariance
        Search forms, per term, per bar.
    sums : sequence of Array, each (k_t, L_t)
        ``t_j`` of the unit-length least-squares residual.
    n_obs : int
        Number of rows.
    variance : scalar
        A guess of the residual variance, used with a single term.

    Returns
    -------
    Array, shape (n_theta,)
    """
    xp = namespace(*sums)
    right = xp.concatenate(
        [
            matmul(t * weight, t.T).reshape(-1)
            for t, weight in zip(sums, equations.level_weights, strict=True)
        ]
    )
    if len(sums) > 1:
        solution = matmul(equations.inverse, xp.concatenate([right, xp.ones(1, right.dtype)]))
        # Not below a hundredth of the total: a start must not say that nothing is left.
        variance = xp.maximum(solution[-1], 0.01 / n_obs)
        solution = solution[:-1] / variance
    else:
        solution = matmul(equations.inverse, right / variance - equations.total)
    parts, at = [], 0
    for bars, t in zip(structures, sums, strict=True):
        k = t.shape[0]
        sigma = solution[at : at + k * k].reshape(k, k)
        at += k * k
        parts.append(_term_start(bars, 0.5 * (sigma + sigma.T)))
    return xp.concatenate(parts)


def _term_start(structures: tuple[Covariance, ...], sigma: Any) -> Any:
    xp = namespace(sigma)
    parts, at = [], 0
    for structure in structures:
        own = sigma[at : at + structure.size, at : at + structure.size]
        at += structure.size
        if structure.equivariance == "none":
            parts.append(xp.asarray(structure.start(), own.dtype))
        elif structure.size == 1 or structure.equivariance == "diagonal":
            parts.append(_clip_root(xp.diagonal(own)))
        else:
            values, vectors = np.linalg.eigh(own) if xp is np else symmetric_eigen(own)
            root = (vectors * _clip_root(values)) @ vectors.T
            col, row = np.triu_indices(structure.size)
            parts.append(root[row, col])
    return xp.concatenate(parts)


def _clip_root(values: Any) -> Any:
    low, high = SD_RANGE
    return namespace(values).sqrt(namespace(values).clip(values, low**2, high**2))
