"""Where to start: a moment estimate of each term's covariance, one linear solve.

With r the least-squares residual and ``t_j = Z_j'r`` the sums of group j, ``E t_j t_j' = sigma^2 (S_j + S_j Sigma S_j)``
with ``S_j = Z_j'Z_j`` (for one term, and but for the degrees of freedom of X). Summing over groups gives linear
equations for Sigma. Several terms are treated one at a time: enough for a start, which saves half of the iterations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from lmmjax.covariance import Covariance
from lmmjax.likelihood.pytree import register
from lmmjax.likelihood.segments import group_gram, namespace, segment_sum

#: Relative standard deviations are kept within these, away from the boundary's zero gradient.
SD_RANGE = (0.1, 10.0)


@register
@dataclass(frozen=True)
class MomentEquations:
    """``operator @ vec(Sigma) = vec(sum_j t_j t_j') / sigma^2 - total`` for one term.

    Attributes
    ----------
    operator : Array, shape (k k, k k)
        Inverse of ``sum_j S_j (x) S_j``.
    total : Array, shape (k k,)
        ``sum_j S_j``.
    """

    operator: Any
    total: Any


def moment_equations(columns: np.ndarray, index: np.ndarray, count: int) -> MomentEquations:
    """The part of the equations that depends on the design alone."""
    k = columns.shape[1]
    gram = group_gram(columns, columns, index, count)
    flat = gram.reshape(k * k, count)
    operator = np.einsum("acj,bdj->abcd", gram, gram).reshape(k * k, k * k)
    ridge = 1e-10 * np.trace(operator) / (k * k)
    return MomentEquations(
        np.linalg.inv(operator + max(ridge, 1e-300) * np.eye(k * k)), flat.sum(axis=1)
    )


def moment_start(
    equations: MomentEquations,
    structures: tuple[Covariance, ...],
    columns: Any,
    index: Any,
    count: int,
    residual: Any,
    variance: Any,
) -> Any:
    """Search parameters of one term from the residual, shape (n,), and a guess of its variance."""
    xp = namespace(residual)
    k = columns.shape[1]
    sums = xp.stack([segment_sum(columns[:, a] * residual, index, count) for a in range(k)])
    sigma = equations.operator @ ((sums @ sums.T).reshape(-1) / variance - equations.total)
    sigma = sigma.reshape(k, k)
    sigma = 0.5 * (sigma + sigma.T)
    parts, at = [], 0
    for structure in structures:
        own = sigma[at : at + structure.size, at : at + structure.size]
        at += structure.size
        if structure.equivariance == "none":
            parts.append(xp.asarray(structure.start()))
        elif structure.size == 1 or structure.equivariance == "diagonal":
            parts.append(_clip_root(xp.diagonal(own)))
        else:
            values, vectors = xp.linalg.eigh(own)
            root = (vectors * _clip_root(values)) @ vectors.T
            col, row = np.triu_indices(structure.size)
            parts.append(root[row, col])
    return xp.concatenate(parts)


def _clip_root(values: Any) -> Any:
    xp = jnp if namespace(values) is jnp else np
    low, high = SD_RANGE
    return xp.sqrt(xp.clip(values, low**2, high**2))
