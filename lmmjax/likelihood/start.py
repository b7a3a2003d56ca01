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
from typing import Any, Literal, NamedTuple

import numpy as np

from lmmjax.covariance import Covariance, Diagonal, SymmetricRoot, Unstructured
from lmmjax.errors import LmmError
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
    """``[sum_j w_j t_j t_j'] = system @ [sigma^2 Sigma] + sigma^2 total``, over all terms.

    Brackets stand for the entries that a term's structures have.

    Attributes
    ----------
    inverse : Array, shape (e, e)
        Inverse of the system; with several terms its last row and column are those of sigma^2.
    total : Array, shape (entries,)
    level_weights : tuple of Array, each (L_t,)
        ``w_j``.
    starts : tuple of tuple of Array
        Per term, per bar, where structures start that moments do not tell; empty for the others.
    """

    inverse: Any
    total: Any
    level_weights: tuple[Any, ...]
    starts: tuple[tuple[Any, ...], ...]


def moment_equations(
    columns: Sequence[np.ndarray],
    indices: Sequence[np.ndarray],
    levels: Sequence[int],
    fixed: np.ndarray,
    structures: Sequence[tuple[Covariance, ...]],
) -> MomentEquations:
    """Return the part of the equations that depends on the design alone.

    Parameters
    ----------
    columns, indices, levels : sequences
        Standardised columns (n, k_t), level of each row, number of levels, per term.
    fixed : ndarray, shape (n, p)
        Orthonormal basis of the fixed effects.
    structures : sequence of tuple of Covariance
        Search forms, per term, per bar.
    """
    weights, projected, totals, sums = [], [], [], []
    for z, index, count in zip(columns, indices, levels, strict=True):
        k = z.shape[1]
        size = segment_sum(np.einsum("na,na->n", z, z) / k, index, count)
        weights.append(1.0 / (WEIGHT_OFFSET + size) ** 2)
        a = group_gram(z, fixed, index, count)
        projected.append(a)
        gram = group_gram(z, z, index, count) - np.einsum("apj,bpj->abj", a, a)
        totals.append(unknowns_of(structures[len(totals)], gram @ weights[-1]))
        sums.append(unknowns_of(structures[len(sums)], gram.sum(axis=2)))
    terms = range(len(columns))
    entries = [_entries(bars) for bars in structures]
    system = np.block(
        [
            [
                _pair_block(
                    Term(columns[t], indices[t], levels[t], projected[t], *entries[t]),
                    Term(columns[u], indices[u], levels[u], projected[u], *entries[u]),
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
    starts = tuple(tuple(_own_start(s) for s in bars) for bars in structures)
    return MomentEquations(right[:, None] * inverse * left, total, tuple(weights), starts)


class Term(NamedTuple):
    """A term's rows, and the entries of its covariance matrix that the equations are about.

    ``projected`` is ``Z_j'Q`` of each level, shape (k, p, L), with the fixed effects' basis Q. The
    entries are ``Sigma[row, col]``, shape (E,); those with the same ``place`` are one unknown.
    """

    rows: np.ndarray
    index: np.ndarray
    levels: int
    projected: np.ndarray
    row: np.ndarray
    col: np.ndarray
    place: np.ndarray

    def summed(self, by_entry: np.ndarray) -> np.ndarray:
        """Sum what belongs to one unknown, along the first axis."""
        out = np.zeros((self.place[-1] + 1, *by_entry.shape[1:]))
        np.add.at(out, self.place, by_entry)
        return out


def _pair_block(left: Term, right: Term, weight: np.ndarray, own: bool) -> np.ndarray:
    """``sum_jl w_j C_jl[a, c] C_jl[b, d]`` of the entries (a, b) of one term, (c, d) of another."""
    z, v, projected = left.rows, right.rows, right.projected
    if own:
        cell, count, cell_weight = left.index, left.levels, weight
    else:
        code = left.index.astype(np.int64) * right.levels + right.index
        if left.levels * right.levels <= 8 * code.size:
            cell, count = code, left.levels * right.levels
            cell_weight = np.repeat(weight, right.levels)
        else:
            unique, cell = np.unique(code, return_inverse=True)
            cell, count, cell_weight = cell.reshape(-1), unique.size, weight[unique // right.levels]
    c, d = right.row, right.col
    gram = group_gram(z, v, cell, count)
    weighted = gram * cell_weight
    pairs = np.stack(
        [np.sum(weighted[a, c] * gram[b, d], axis=1)
         for a, b in zip(left.row, left.col, strict=True)]
    )  # fmt: skip
    p = left.projected.shape[1]
    if p and pairs.size * p * left.index.size <= PROJECTION_COST:
        # C - A_j A_l' for the fixed effects' part, expanded.
        moved = (left.projected * weight)[:, :, left.index]
        spread = projected[:, :, right.index]

        products = [z[:, a] * v.T for a in range(z.shape[1])]
        both = [np.einsum("pn,dpn->dn", each, spread) for each in moved]
        square = np.array_equal(c, d)

        def cross(a: int, b: int, c: np.ndarray, d: np.ndarray) -> np.ndarray:
            return np.einsum("yn,yn->y", products[a][c], both[b][d])

        def mirrored(a: int, b: int) -> np.ndarray:
            if a == b and square:
                return 2.0 * cross(a, a, c, c)
            return cross(a, b, c, d) + cross(b, a, d, c)

        pairs -= np.stack([mirrored(a, b) for a, b in zip(left.row, left.col, strict=True)])
        first = left.projected[left.row] * weight
        outer = np.einsum("xpj,xqj->xpq", first, left.projected[left.col])
        other = np.einsum("ypl,yql->ypq", projected[c], projected[d])
        pairs += np.einsum("xpq,ypq->xy", outer, other)
    return right.summed(left.summed(pairs).T).T


def moment_start(
    equations: MomentEquations,
    structures: Sequence[tuple[Covariance, ...]],
    sums: Sequence[Any],
    n_obs: Any,
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
    n_obs : scalar
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
            unknowns_of(bars, matmul(t * weight, t.T))
            for bars, t, weight in zip(structures, sums, equations.level_weights, strict=True)
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
    for bars, own in zip(structures, equations.starts, strict=True):
        size = sum(map(_count, bars))
        parts.append(term_start(bars, own, solution[at : at + size]))
        at += size
    return xp.concatenate(parts)


def _form(structure: Covariance) -> Literal["matrix", "diagonal", "own"]:
    """What of a structure's covariance matrix the moments are to tell.

    Nothing of one whose parameters only its own code knows: that starts where it says. Its matrix
    is then taken for one variance times the identity, for the other terms' sake.
    """
    if type(structure) is SymmetricRoot:
        return "matrix"
    simple = type(structure) is Diagonal or (
        type(structure) is Unstructured and structure.size == 1
    )
    return "diagonal" if simple else "own"


def _count(structure: Covariance) -> int:
    """Number of unknowns of a structure."""
    return {"matrix": structure.size**2, "diagonal": structure.size, "own": 1}[_form(structure)]


def _entries(bars: tuple[Covariance, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and unknown of each entry of a term's covariance matrix that there is."""
    rows, cols, places, at, place = [], [], [], 0, 0
    for structure in bars:
        k, form = structure.size, _form(structure)
        row, col = np.indices((k, k)).reshape(2, -1) if form == "matrix" else 2 * (np.arange(k),)
        rows.append(at + row)
        cols.append(at + col)
        places.append(place + (np.zeros(k, int) if form == "own" else np.arange(row.size)))
        at += k
        place += _count(structure)
    return np.concatenate(rows), np.concatenate(cols), np.concatenate(places)


def unknowns_of(bars: tuple[Covariance, ...], matrix: Any) -> Any:
    """The entries of a matrix, shape (k, k), that are unknowns of a term, one after the other."""
    if len(bars) == 1 and _form(bars[0]) == "matrix":
        return matrix.reshape(-1)
    xp = namespace(matrix)
    parts, at = [], 0
    for structure in bars:
        own = matrix[at : at + structure.size, at : at + structure.size]
        at += structure.size
        form = _form(structure)
        diagonal = own.reshape(-1) if form == "matrix" else xp.diagonal(own)
        parts.append(xp.sum(diagonal)[None] if form == "own" else diagonal)
    return xp.concatenate(parts)


def _own_start(structure: Covariance) -> np.ndarray:
    """Where a structure says that it starts; nothing if moments tell. On the host: NumPy's code."""
    if _form(structure) != "own":
        return np.zeros(0)
    start = np.asarray(structure.start(), np.float64)
    if start.shape != (structure.n_theta,):
        raise LmmError(
            f"{type(structure).__name__}.start returned shape {start.shape}; its n_theta of "
            f"{structure.n_theta} needs an array of shape ({structure.n_theta},)"
        )
    return start


def term_start(bars: tuple[Covariance, ...], own: tuple[Any, ...], solution: Any) -> Any:
    """Search parameters of one term.

    Parameters
    ----------
    bars : tuple of Covariance
        Search forms.
    own : tuple of Array
        Where they say that they start (:attr:`MomentEquations.starts`).
    solution : Array
        The term's unknowns.
    """
    xp = namespace(solution)
    parts, at = [], 0
    for structure, start in zip(bars, own, strict=True):
        found = solution[at : at + _count(structure)]
        at += _count(structure)
        form = _form(structure)
        if form == "own":
            parts.append(xp.asarray(start, found.dtype))
        elif form == "diagonal":
            parts.append(_clip_root(found))
        else:
            square = found.reshape(structure.size, structure.size)
            square = 0.5 * (square + square.T)
            values, vectors = np.linalg.eigh(square) if xp is np else symmetric_eigen(square)
            root = (vectors * _clip_root(values)) @ vectors.T
            col, row = np.triu_indices(structure.size)
            parts.append(root[row, col])
    return xp.concatenate(parts)


def _clip_root(values: Any) -> Any:
    low, high = SD_RANGE
    return namespace(values).sqrt(namespace(values).clip(values, low**2, high**2))
