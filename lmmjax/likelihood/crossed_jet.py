"""First and second derivatives of a crossed design's elimination, in closed form.

With ``A = I + Lambda'S Lambda``, S the Schur complement of the eliminated factor, one inverse of A
gives all of

    d log|A| = tr(A^-1 A_i),    d2 log|A| = tr(A^-1 A_ij) - tr(A^-1 A_i A^-1 A_j),
    d (F'A^-1F) = F_i'X + X'F_i - X'A_iX,    X = A^-1 F,
    d2 (F'A^-1F) = F_ij'X + X'F_ij - X'A_ijX + r_i'A^-1r_j + r_j'A^-1r_i,    r_i = F_i - A_iX.

Parameters of the eliminated factor move S (one scatter and one product of size q each); those of
the others move Lambda, and two products of size q serve them all. Forward-mode differentiation
would repeat the factorisation's work for each pair of parameters.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.covariance import Covariance
from lmmjax.likelihood import smallblock
from lmmjax.likelihood.crossed import Crossed, symmetric
from lmmjax.likelihood.crossproducts import lambda_factors
from lmmjax.likelihood.dense import scale_rows, spd_inverse_and_logdet
from lmmjax.likelihood.jet import Jet, jet
from lmmjax.likelihood.moments import symmetric_positions

#: Singular values of Lambda above this leave enough digits in ``I - A^-1``: the error is about
#: eps / WELL_SCALED^2.
WELL_SCALED = 1e-2

Structures = tuple[tuple[Covariance, ...], ...]


def crossed_jet(
    engine: Crossed, structures: Structures, theta: Array, *, second: bool = True
) -> tuple[Jet, Jet]:
    """Derivatives of ``log|V|`` and of ``[X y]'V^-1[X y]`` in theta.

    Parameters
    ----------
    engine : Crossed
    structures : tuple of tuple of Covariance
        Per term in the model's order.
    theta : Array, shape (m,)
    second : bool
        Without second derivatives these are None, and an evaluation costs one inverse of size q.

    Returns
    -------
    tuple of Jet
    """
    m = theta.shape[0]
    starts = np.cumsum([0] + [sum(s.n_theta for s in bars) for bars in structures])
    own = [np.arange(starts[t], starts[t + 1]) for t in engine.order]
    factor_jets = [
        jet(lambda x, bars=structures[t]: lambda_factors((bars,), x)[0], theta[i])
        for t, i in zip(engine.order, own, strict=True)
    ]
    first_ids, rest_ids = own[0], own[1:]
    packed_jet, logdets_jet = _first_jet(engine, structures[engine.order[0]], theta[first_ids])
    factors = tuple(f.value for f in factor_jets[1:])
    levels = engine.rest_levels
    sizes = [f.shape[0] * count for f, count in zip(factors, levels, strict=True)]
    edges = np.cumsum([0, *sizes])
    places = [slice(int(a), int(b)) for a, b in pairwise(edges)]

    S, E, C = engine.assemble(packed_jet.value)
    q, r = E.shape
    U = scale_rows(factors, levels, S).T  # S Lambda (S is symmetric)
    A = scale_rows(factors, levels, U) + jnp.eye(q, dtype=S.dtype)
    A_inv, logdet_rest = spd_inverse_and_logdet(A)
    F = scale_rows(factors, levels, E)
    X = A_inv @ F
    X = X + A_inv @ (F - A @ X)  # refined: the explicit inverse alone loses cond(A) of the value
    u = scale_rows(factors, levels, X, transpose=False)
    Su = S @ u

    def on_term(t: int, factor: Array, matrix: Array, transpose: bool) -> Array:
        """Block-diagonal ``factor`` (or its transpose) on the rows of term t, zero elsewhere."""
        part = scale_rows((factor,), (levels[t],), matrix[places[t]], transpose=transpose)
        return jnp.zeros((q, matrix.shape[1]), matrix.dtype).at[places[t]].set(part)

    logdet_first: list[Any] = [None] * m
    F_first: list[Any] = [None] * m
    AX_first: list[Any] = [None] * m
    C_first: list[Any] = [jnp.zeros((r, r), S.dtype)] * m
    S_first: dict[int, Array] = {}
    SX_first: dict[int, Array] = {}
    LX_first: dict[int, Array] = {}
    # d log|A| / dS = Lambda A^-1 Lambda', pulled back to the packed K.
    half = scale_rows(factors, levels, A_inv, transpose=False)
    pulled = engine.schur_adjoint(scale_rows(factors, levels, half.T, transpose=False))
    for n, i in enumerate(first_ids):
        packed_i = packed_jet.first[..., n]
        logdet_first[i] = jnp.sum(pulled * packed_i) + jnp.sum(logdets_jet.first[..., n])
        E_i, C_first[i] = engine.right_part(packed_i)
        F_first[i] = scale_rows(factors, levels, E_i)
        S_u = _schur_times(engine, packed_i, u)
        SX_first[i] = S_u
        AX_first[i] = scale_rows(factors, levels, S_u)
    overlaps = []
    for t, ids in enumerate(rest_ids):
        k = factors[t].shape[0]
        # sum over levels of (S Lambda)_l (A^-1)_l'
        overlap = jnp.einsum("laq,lbq->ab", _cube(U[places[t]], k), _cube(A_inv[places[t]], k))
        overlaps.append(overlap)
        for n, i in enumerate(ids):
            moved = factor_jets[t + 1].first[..., n]
            logdet_first[i] = 2.0 * jnp.sum(moved * overlap)
            F_first[i] = on_term(t, moved, E, True)
            LX_first[i] = on_term(t, moved, X, False)
            AX_first[i] = on_term(t, moved, Su, True) + scale_rows(factors, levels, S @ LX_first[i])
    residual = [f - ax for f, ax in zip(F_first, AX_first, strict=True)]
    gram_first = [
        c - f.T @ X - X.T @ f + X.T @ ax
        for c, f, ax in zip(C_first, F_first, AX_first, strict=True)
    ]
    logdet_value = jnp.sum(logdets_jet.value) + logdet_rest
    gram_value = C - F.T @ X
    first_part = jnp.stack(logdet_first), jnp.stack(gram_first, axis=-1)
    if not second:
        return Jet(logdet_value, first_part[0], None), Jet(gram_value, first_part[1], None)

    logdet_second = np.full((m, m), None)
    gram_second = np.full((m, m), None)
    solved = [A_inv @ x for x in residual]

    def gram_pair(i: int, j: int, C_ij: Any, F_ij: Any, quadratic: Any) -> Array:
        out = -(residual[i].T @ solved[j] + residual[j].T @ solved[i]) + quadratic + C_ij
        if F_ij is not None:
            out = out - F_ij.T @ X - X.T @ F_ij
        return out

    H, N = _projected(factors, levels, S, U, A_inv)
    moved_inverse = {}
    for n, i in enumerate(first_ids):
        S_first[i] = symmetric(engine.schur_part(packed_jet.first[..., n]))
        scaled = scale_rows(factors, levels, S_first[i]).T
        D = scale_rows(factors, levels, scaled)
        moved_inverse[i] = D @ A_inv
        for n2, j in enumerate(first_ids[: n + 1]):
            packed_ij = packed_jet.second[..., n, n2]
            logdet_second[i, j] = (
                jnp.sum(pulled * packed_ij)
                + jnp.sum(logdets_jet.second[..., n, n2])
                - jnp.sum(moved_inverse[i] * moved_inverse[j].T)
            )
            E_ij, C_ij = engine.right_part(packed_ij)
            quadratic = u.T @ _schur_times(engine, packed_ij, u)
            gram_second[i, j] = gram_pair(i, j, C_ij, scale_rows(factors, levels, E_ij), quadratic)
        for t, ids in enumerate(rest_ids):
            k = factors[t].shape[0]
            overlap = jnp.einsum(
                "laq,lbq->ab", _cube(scaled[places[t]], k), _cube(A_inv[places[t]], k)
            )
            # tr(A^-1 D_i A^-1 B_j), B_j = Lambda_j' S Lambda on the rows of t
            trace = jnp.einsum(
                "laq,lbq->ab", _cube(H[places[t]], k), _cube(moved_inverse[i].T[places[t]], k)
            )
            E_i, _ = engine.right_part(packed_jet.first[..., n])
            for n2, j in enumerate(ids):
                moved = factor_jets[t + 1].first[..., n2]
                logdet_second[i, j] = 2.0 * jnp.sum(moved * (overlap - trace))
                cross = LX_first[j].T @ SX_first[i]
                gram_second[i, j] = gram_pair(
                    i, j, 0.0, on_term(t, moved, E_i, True), cross + cross.T
                )
    for t, ids in enumerate(rest_ids):
        for t2 in range(t + 1):
            cells = _pair_tensors(A_inv, H, N, places, factors, t, t2)
            for n, i in enumerate(ids):
                for n2, j in enumerate(rest_ids[t2]):
                    if t == t2 and j > i:
                        continue
                    moved_i = factor_jets[t + 1].first[..., n]
                    moved_j = factor_jets[t2 + 1].first[..., n2]
                    value = 2.0 * jnp.einsum("ab,cd,abcd->", moved_i, moved_j, cells)
                    quadratic = LX_first[i].T @ (S @ LX_first[j])
                    quadratic = quadratic + quadratic.T
                    F_ij = None
                    if t == t2:
                        bent = factor_jets[t + 1].second[..., n, n2]
                        value = value + 2.0 * jnp.sum(bent * overlaps[t])
                        F_ij = on_term(t, bent, E, True)
                        cross = on_term(t, bent, X, False).T @ Su
                        quadratic = quadratic + cross + cross.T
                    logdet_second[i, j] = value
                    gram_second[i, j] = gram_pair(i, j, 0.0, F_ij, quadratic)
    return (
        Jet(logdet_value, first_part[0], _mirror(logdet_second, m)),
        Jet(gram_value, first_part[1], jnp.moveaxis(_mirror(gram_second, m), (0, 1), (-2, -1))),
    )


def _first_jet(engine: Crossed, bars: tuple[Covariance, ...], theta: Array) -> tuple[Jet, Jet]:
    whole = jet(
        lambda x: smallblock.kept_share(jnp.asarray(engine.root), lambda_factors((bars,), x)[0]),
        theta,
    )
    packed, logdets = (Jet(*parts) for parts in zip(*whole, strict=True))
    return packed, logdets


def _schur_times(engine: Crossed, packed: Array, vectors: Array) -> Array:
    """``(sum_j c_j' K_j c_j) v`` without forming the matrix, v of shape (q, s)."""
    kept = packed[symmetric_positions(engine.root.shape[0])]
    return engine.spread(jnp.einsum("abl,bls->als", kept, engine.project(vectors)))


def _cube(rows: Array, k: int) -> Array:
    """Rows of a term as (levels, k, columns)."""
    return rows.reshape(-1, k, rows.shape[1])


def _projected(
    factors: tuple[Array, ...], levels: tuple[int, ...], S: Array, U: Array, A_inv: Array
) -> tuple[Array, Array]:
    """``H = S Lambda A^-1`` and ``N = S - S Lambda A^-1 Lambda'S`` (which is Z'V^-1Z).

    Where no factor is near singular, ``H = Lambda^-T (I - A^-1)`` and ``N = H Lambda^-1`` save two
    products of size q.
    """

    def by_products(_: None) -> tuple[Array, Array]:
        H = U @ A_inv
        return H, S - H @ U.T

    def by_scaling(_: None) -> tuple[Array, Array]:
        inverses = tuple(jnp.linalg.inv(f) for f in factors)
        complement = jnp.eye(A_inv.shape[0], dtype=A_inv.dtype) - A_inv
        H = scale_rows(inverses, levels, complement)
        return H, scale_rows(inverses, levels, H.T)

    smallest = jnp.stack([jnp.min(jnp.linalg.svd(f, compute_uv=False)) for f in factors])
    return jax.lax.cond(jnp.min(smallest) > WELL_SCALED, by_scaling, by_products, None)


def _pair_tensors(
    A_inv: Array,
    H: Array,
    N: Array,
    places: list[slice],
    factors: tuple[Array, ...],
    t: int,
    t2: int,
) -> Array:
    """The tensor that gives a pair of terms their part of ``d2 log|A|``.

    ``T[a, b, c, d]`` with ``2 sum Lambda_i[a, b] Lambda_j[c, d] T[a, b, c, d]`` that part, for
    parameters i of term t and j of term t2.
    """
    k, k2 = factors[t].shape[0], factors[t2].shape[0]

    def block(matrix: Array, rows: slice, cols: slice, a: int, b: int) -> Array:
        return matrix[rows, cols].reshape(-1, a, matrix[rows, cols].shape[1] // b, b)

    tt, tt2 = places[t], places[t2]
    # <A^-1, Lambda_i' S Lambda_j> - tr(A^-1 B_i A^-1 B_j') = <A^-1, Lambda_i' N Lambda_j>
    same = jnp.einsum("lamc,lbmd->abcd", block(N, tt, tt2, k, k2), block(A_inv, tt, tt2, k, k2))
    # tr(B_i A^-1 B_j A^-1) = sum (Lambda_i'H)_{t t2} (Lambda_j'H)_{t2 t}
    swap = jnp.einsum("lamd,mclb->abcd", block(H, tt, tt2, k, k2), block(H, tt2, tt, k2, k))
    return same - swap


def _mirror(table: np.ndarray, m: int) -> Array:
    """Stack a table of which each pair is filled on one side."""
    rows = [
        [table[i, j] if table[i, j] is not None else table[j, i] for j in range(m)]
        for i in range(m)
    ]
    return jnp.stack([jnp.stack(row) for row in rows])
