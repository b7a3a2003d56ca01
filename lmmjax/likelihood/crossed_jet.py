"""First and second derivatives of a crossed design's elimination, in closed form.

With ``A = I + Lambda'S Lambda``, S the Schur complement of the eliminated factor, one inverse of A
gives all of

    d log|A| = tr(A^-1 A_i),    d2 log|A| = tr(A^-1 A_ij) - tr(A^-1 A_i A^-1 A_j),
    d (F'A^-1F) = F_i'X + X'F_i - X'A_iX,    X = A^-1 F,
    d2 (F'A^-1F) = F_ij'X + X'F_ij - X'A_ijX + r_i'A^-1r_j + r_j'A^-1r_i,    r_i = F_i - A_iX.

Parameters of the eliminated factor move S (one scatter and one product of size q each); those of
the others move Lambda, and sums over the inverse serve them all. Forward-mode differentiation would
repeat the factorisation's work for each pair of parameters.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.covariance import Covariance
from lmmjax.likelihood import smallblock
from lmmjax.likelihood.crossed import Crossed, symmetric
from lmmjax.likelihood.crossed_curvature import RestFactors, curvature, symmetric_times
from lmmjax.likelihood.crossproducts import lambda_factors
from lmmjax.likelihood.dense import spd_inverse_and_logdet
from lmmjax.likelihood.jet import Jet, jet
from lmmjax.likelihood.moments import symmetric_positions

Structures = tuple[tuple[Covariance, ...], ...]


def crossed_jet(
    engine: Crossed,
    structures: Structures,
    theta: Array,
    *,
    second: bool = True,
    coarse: bool = False,
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
    coarse : bool
        Whether the matrices of size q are inverted and multiplied in 32 bits, half the time. What
        n multiplies, the quadratic form and its derivatives, still comes out in full by iterative
        refinement.

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
    pairs = [(n, n2) for n in range(len(first_ids)) for n2 in range(n + 1)]
    packed_jet, logdets_jet = _first_jet(engine, structures[engine.order[0]], theta[first_ids])
    rest = RestFactors(tuple(f.value for f in factor_jets[1:]), engine.rest_levels)

    lower, right, corners = _assemble_all(engine, packed_jet, pairs if second else None)
    E, C = right[0], corners[0]
    q, r = E.shape
    S = lower if rest.scalar else symmetric(lower)
    A = rest.both(S) + jnp.eye(q, dtype=S.dtype)
    P, logdet_rest = spd_inverse_and_logdet(A.astype(jnp.float32) if coarse else A)

    def solve(columns: Array) -> Array:
        """``A^-1 F`` by the explicit inverse, in full precision only where that is in full."""
        return (P @ columns.astype(P.dtype)).astype(columns.dtype)

    def times(columns: Array) -> Array:
        """``S v``; of S the lower triangle is enough."""
        return symmetric_times(S, columns) if rest.scalar else S @ columns

    F = rest.transposed(E)
    X = solve(F)
    # Refined: the explicit inverse alone loses cond(A) of the value.
    X = X + solve(F - X - rest.transposed(times(rest.times(X))))
    u = rest.times(X)
    moved = {
        i: rest.on_term(t, factor_jets[t + 1].first[..., n], X, transpose=False)
        for t, ids in enumerate(rest_ids)
        for n, i in enumerate(ids)
    }
    products = jnp.split(times(jnp.concatenate([u, *moved.values()], axis=1)), len(moved) + 1, 1)
    Su, S_moved = products[0], dict(zip(moved, products[1:], strict=True))
    projected = engine.project(u)

    logdet_first: list[Any] = [None] * m
    F_first: list[Any] = [None] * m
    AX_first: list[Any] = [None] * m
    C_first: list[Any] = [jnp.zeros((r, r), S.dtype)] * m
    # d log|A| / dS = Lambda A^-1 Lambda', pulled back to the packed K.
    pulled = engine.schur_adjoint(rest.both(P.astype(S.dtype), transpose=False))
    kept_first = [packed_jet.first[..., n] for n in range(len(first_ids))]
    spread = [_weighted(packed_i, projected) for packed_i in kept_first]
    spread = jnp.split(engine.spread(jnp.concatenate(spread, axis=2)), len(spread), 1)
    for n, i in enumerate(first_ids):
        logdet_first[i] = jnp.sum(pulled * kept_first[n]) + jnp.sum(logdets_jet.first[..., n])
        F_first[i], C_first[i] = rest.transposed(right[1 + n]), corners[1 + n]
        AX_first[i] = rest.transposed(spread[n])
    lower_first = [engine.schur_part(packed_i) for packed_i in kept_first] if second else []
    curved = curvature(rest, S, P, lower_first, second)
    for t, ids in enumerate(rest_ids):
        for n, i in enumerate(ids):
            by = factor_jets[t + 1].first[..., n]
            logdet_first[i] = 2.0 * jnp.sum(by * curved.overlaps[t])
            F_first[i] = rest.on_term(t, by, E)
            AX_first[i] = rest.on_term(t, by, Su) + rest.transposed(S_moved[i])
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
    solved = jnp.split(solve(jnp.concatenate(residual, axis=1)), m, 1)

    def gram_pair(i: int, j: int, C_ij: Any, F_ij: Any, quadratic: Any) -> Array:
        out = -(residual[i].T @ solved[j] + residual[j].T @ solved[i]) + quadratic + C_ij
        if F_ij is not None:
            out = out - F_ij.T @ X - X.T @ F_ij
        return out

    for at, (n, n2) in enumerate(pairs):
        i, j = first_ids[n], first_ids[n2]
        packed_ij = packed_jet.second[..., n, n2]
        logdet_second[i, j] = (
            jnp.sum(pulled * packed_ij)
            + jnp.sum(logdets_jet.second[..., n, n2])
            - curved.first_pairs[at]
        )
        F_ij, C_ij = rest.transposed(right[1 + len(first_ids) + at]), corners[-len(pairs) + at]
        # u' S_ij u = sum_j (c_j u)' K_ij (c_j u)
        quadratic = jnp.einsum("als,alt->st", projected, _weighted(packed_ij, projected))
        gram_second[i, j] = gram_pair(i, j, C_ij, F_ij, quadratic)
    for n, i in enumerate(first_ids):
        for t, ids in enumerate(rest_ids):
            for n2, j in enumerate(ids):
                by = factor_jets[t + 1].first[..., n2]
                logdet_second[i, j] = 2.0 * jnp.sum(by * curved.mixed[n][t])
                cross = moved[j].T @ spread[n]
                F_ij = rest.on_term(t, by, right[1 + n])
                gram_second[i, j] = gram_pair(i, j, 0.0, F_ij, cross + cross.T)
    for t, ids in enumerate(rest_ids):
        for t2 in range(t + 1):
            cells = curved.rest_pairs[t, t2]
            for n, i in enumerate(ids):
                for n2, j in enumerate(rest_ids[t2]):
                    if t == t2 and j > i:
                        continue
                    by_i = factor_jets[t + 1].first[..., n]
                    by_j = factor_jets[t2 + 1].first[..., n2]
                    value = 2.0 * jnp.einsum("ab,cd,abcd->", by_i, by_j, cells)
                    quadratic = moved[i].T @ S_moved[j]
                    quadratic = quadratic + quadratic.T
                    F_ij = None
                    if t == t2:
                        bent = factor_jets[t + 1].second[..., n, n2]
                        value = value + 2.0 * jnp.sum(bent * curved.overlaps[t])
                        F_ij = rest.on_term(t, bent, E)
                        cross = rest.on_term(t, bent, X, transpose=False).T @ Su
                        quadratic = quadratic + cross + cross.T
                    logdet_second[i, j] = value
                    gram_second[i, j] = gram_pair(i, j, 0.0, F_ij, quadratic)
    return (
        Jet(logdet_value, first_part[0], _mirror(logdet_second, m)),
        Jet(gram_value, first_part[1], jnp.moveaxis(_mirror(gram_second, m), (0, 1), (-2, -1))),
    )


def _assemble_all(
    engine: Crossed, packed: Jet, pairs: list[tuple[int, int]] | None
) -> tuple[Array, list[Array], list[Array]]:
    """S (lower triangle), and all of E and C: values, first, and second derivatives of ``pairs``.

    E of all is one pass over the sparse entries.
    """
    every = [packed.value, *jnp.moveaxis(packed.first, -1, 0)]
    if pairs is not None:
        every += [packed.second[..., n, n2] for n, n2 in pairs]
    columns = jnp.moveaxis(jnp.asarray(engine.columns), 1, 2)
    shrunk = [_weighted(each, columns) for each in every]
    corners = [jnp.einsum("kla,klb->ab", columns, each) for each in shrunk]
    right = jnp.split(engine.spread(jnp.concatenate(shrunk, axis=2)), len(every), 1)
    right[0], corners[0] = engine.cross_within + right[0], engine.within + corners[0]
    return engine.rest_within + engine.schur_part(packed.value), right, corners


def _weighted(packed: Array, columns: Array) -> Array:
    """``K_j v_j`` of every level, v of shape (k, L, s)."""
    return jnp.einsum("abl,bls->als", packed[symmetric_positions(columns.shape[0])], columns)


def _first_jet(engine: Crossed, bars: tuple[Covariance, ...], theta: Array) -> tuple[Jet, Jet]:
    whole = jet(
        lambda x: smallblock.kept_share(jnp.asarray(engine.root), lambda_factors((bars,), x)[0]),
        theta,
    )
    packed, logdets = (Jet(*parts) for parts in zip(*whole, strict=True))
    return packed, logdets


def _mirror(table: np.ndarray, m: int) -> Array:
    """Stack a table of which each pair is filled on one side."""
    rows = [
        [table[i, j] if table[i, j] is not None else table[j, i] for j in range(m)]
        for i in range(m)
    ]
    return jnp.stack([jnp.stack(row) for row in rows])
