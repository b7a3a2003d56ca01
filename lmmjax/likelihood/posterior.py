"""The conditional distribution of the random effects: modes, variances, linear functionals.

Block by block along the same elimination as the likelihood. Given the coefficients of the columns
on its right (ancestors, rest, X, y), a level's effects are normal with

    mean  H (y-coefficient, minus the others),   H = M Z_j'W[.],   covariance  sigma^2 M,
    M = Lambda (Lambda' Z_j'W Z_j Lambda + I)^-1 Lambda',

so means go down from the top, and a linear functional's variance is collected on the way up. Runs
on the host, all in standardised columns; :class:`lmmjax.fitting.Fitted` maps to the data's units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.crossproducts import CrossProducts, Prepared, group_response
from lmmjax.likelihood.moments import MomentBlocks
from lmmjax.likelihood.nested import Nested

#: Levels of one factor, shape (m,), and coefficients on its effects and then its ancestors',
#: shape (m, k + ...).
Line = tuple[np.ndarray, np.ndarray]

#: Rows of a dense intermediate handled at once (doubles).
CHUNK = 20_000_000


def _covariance(factor: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """``Lambda (Lambda' S Lambda + I)^-1 Lambda'`` for ``S`` of shape (..., k, k).

    Positive terms only, so nothing cancels.
    """
    inner = np.eye(factor.shape[1]) + factor.T @ precision @ factor
    half = np.linalg.solve(np.linalg.cholesky(inner), np.broadcast_to(factor.T, inner.shape))
    return np.swapaxes(half, -1, -2) @ half


@dataclass(frozen=True)
class Stage:
    """One factor of the chain.

    Attributes
    ----------
    term : int
        Position in the model's order.
    own : ndarray, shape (L, k, k)
        ``M`` of each level.
    gain : ndarray, shape (L, k, w), or None
        ``H`` of each level on the columns to its right; None where it is kept sparse.
    parent : ndarray, shape (L,), or None
    """

    term: int
    own: np.ndarray
    gain: np.ndarray | None
    parent: np.ndarray | None


@dataclass(frozen=True)
class SparseGain:
    """``H = M R' c`` of a crossed design's eliminated factor, ``c`` sparse on the other effects.

    Attributes
    ----------
    half : ndarray, shape (L, k, k)
        ``M R'``.
    entry, entry_source, entry_target, columns
        ``c``, as in :class:`~lmmjax.likelihood.crossed.Crossed`.
    n_rest : int
        Number of remaining effects.
    """

    half: np.ndarray
    entry: np.ndarray
    entry_source: np.ndarray
    entry_target: np.ndarray
    columns: np.ndarray
    n_rest: int

    def times(self, vector: np.ndarray) -> np.ndarray:
        """``H v`` of every level, shape (L, k)."""
        k, _, count = self.columns.shape
        sparse = np.bincount(
            self.entry_source, self.entry * vector[: self.n_rest][self.entry_target], k * count
        )
        c = sparse.reshape(k, count) + np.einsum("krl,r->kl", self.columns, vector[self.n_rest :])
        return np.einsum("lab,bl->la", self.half, c)

    def rows(self, levels: np.ndarray) -> np.ndarray:
        """Dense ``H`` of the given levels, shape (len(levels), k, w)."""
        k, r, count = self.columns.shape
        slot = np.full(count, -1)
        slot[levels] = np.arange(levels.size)
        source_level = self.entry_source % count
        take = (slot[source_level] >= 0) & (self.entry != 0)  # without what only fills it up
        c = np.zeros((levels.size, k, self.n_rest + r))
        own = slot[source_level[take]], self.entry_source[take] // count, self.entry_target[take]
        c[own] = self.entry[take]
        c[:, :, self.n_rest :] = np.moveaxis(self.columns[:, :, levels], 2, 0)
        return self.half[levels] @ c


@dataclass(frozen=True)
class Posterior:
    """Conditional distribution of all random effects, in standardised columns and units of sigma.

    Attributes
    ----------
    stages : tuple of Stage
        The chain, finest first.
    sparse : SparseGain or None
        Gain of the first stage, where it is sparse.
    rest_terms : tuple of int
    rest_shapes : tuple of (int, int)
        Levels and columns of each remaining term.
    rest_cov : ndarray, shape (q, q)
    rest_gain : ndarray, shape (q, p + 1)
        On X and y.
    fixed_cov : ndarray, shape (p, p)
        ``(X'V^-1X)^-1`` on the orthonormal basis.
    modes : tuple of ndarray, each (L_t, k_t)
        Conditional modes, in the model's order, for the unit-length response.
    prior : tuple of ndarray, each (k_t, k_t)
        ``Lambda Lambda'``.
    """

    stages: tuple[Stage, ...]
    sparse: SparseGain | None
    rest_terms: tuple[int, ...]
    rest_shapes: tuple[tuple[int, int], ...]
    rest_cov: np.ndarray
    rest_gain: np.ndarray
    fixed_cov: np.ndarray
    modes: tuple[np.ndarray, ...]
    prior: tuple[np.ndarray, ...]

    def variances(
        self,
        rows: list[np.ndarray],
        levels: list[np.ndarray],
        fixed: np.ndarray,
        *,
        fixed_uncertain: bool = True,
    ) -> np.ndarray:
        """Variance (in units of sigma**2) of ``sum_t z_t'b_t + x'beta`` for each row.

        Parameters
        ----------
        rows : list of ndarray, each (m, k_t)
            In the model's order.
        levels : list of ndarray of int, each (m,)
            Level of each row in each term; -1 for a level not in the data, whose effects keep
            their prior.
        fixed : ndarray, shape (m, p)
            Rows on the orthonormal basis.
        fixed_uncertain : bool
            Whether beta's own uncertainty counts (as in prediction) or not (as in lme4's
            conditional variances).

        Returns
        -------
        ndarray, shape (m,)
        """
        if self.sparse is not None:
            return self._crossed_variances(rows, levels, fixed, fixed_uncertain)
        m = fixed.shape[0]
        q = self.rest_cov.shape[0]
        step = max(1, CHUNK // max(q + fixed.shape[1] + 1, 1))
        out = np.empty(m)
        for at in range(0, m, step):
            part = slice(at, min(at + step, m))
            out[part] = self._variances(
                [r[part] for r in rows], [i[part] for i in levels], fixed[part], fixed_uncertain
            )
        return out

    def _variances(
        self,
        rows: list[np.ndarray],
        levels: list[np.ndarray],
        fixed: np.ndarray,
        fixed_uncertain: bool,
    ) -> np.ndarray:
        m, p = fixed.shape
        total, rows = self._of_unknown(rows, levels)
        # Coefficients over [rest | X], which what the chain's effects pull along is taken from.
        parts = []
        for t, (count, k) in zip(self.rest_terms, self.rest_shapes, strict=True):
            block = np.zeros((m, count, k))
            block[np.arange(m), np.maximum(levels[t], 0)] = rows[t]
            parts.append(block.reshape(m, -1))
        right = np.concatenate([*parts, fixed], axis=1)
        lines: list[Line] = []
        for i, stage in enumerate(self.stages):
            k = stage.own.shape[1]
            above = sum(s.own.shape[1] for s in self.stages[i + 1 :])
            own = np.concatenate([rows[stage.term], np.zeros((m, above))], axis=1)
            lines = _joined([*lines, (np.maximum(levels[stage.term], 0), own)])
            for at, (level, coefficients) in enumerate(lines):
                own, left = coefficients[:, :k], coefficients[:, k:]
                total += np.einsum("ma,mab,mb->m", own, stage.own[level], own)
                assert stage.gain is not None
                pull = np.einsum("ma,mab->mb", own, stage.gain[level][..., :-1])
                right = right - pull[:, above:]
                if above:
                    assert stage.parent is not None
                    lines[at] = (stage.parent[level], left - pull[:, :above])
        q = self.rest_cov.shape[0]
        if q:
            a = right[:, :q]
            total += np.sum((a @ self.rest_cov) * a, axis=1)
            right = right[:, q:] - a @ self.rest_gain[:, :-1]
        if fixed_uncertain and p:
            total += np.sum((right @ self.fixed_cov) * right, axis=1)
        return total

    def _of_unknown(
        self, rows: list[np.ndarray], levels: list[np.ndarray]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Variance of effects of levels that are not in the data, and the rows without these."""
        total = np.zeros(levels[0].size)
        known = [(i >= 0)[:, None] for i in levels]
        for t, prior in enumerate(self.prior):
            if not known[t].all():
                z = np.where(known[t], 0.0, rows[t])
                total += np.einsum("ma,ab,mb->m", z, prior, z)
        return total, [np.where(k, z, 0.0) for k, z in zip(known, rows, strict=True)]

    def _crossed_variances(
        self,
        rows: list[np.ndarray],
        levels: list[np.ndarray],
        fixed: np.ndarray,
        fixed_uncertain: bool,
    ) -> np.ndarray:
        """As :meth:`variances`, in time that goes with the levels, not with the rows.

        A row ``z`` of the eliminated factor and ``v``, sparse, of the remaining effects has
        ``a = v - H'z`` on those, of covariance C: the parts of ``a'Ca`` are sums over few entries
        of C, of ``H C`` and of ``H C H'``.
        """
        assert self.sparse is not None
        (stage,) = self.stages
        q, p = self.rest_cov.shape[0], fixed.shape[1]
        gain = self.rest_gain[:, :-1]
        total, rows = self._of_unknown(rows, levels)
        z = rows[stage.term]
        columns, values, start = [], [], 0
        for t, (count, k) in zip(self.rest_terms, self.rest_shapes, strict=True):
            columns += [start + np.maximum(levels[t], 0) * k + b for b in range(k)]
            values += list(rows[t].T)
            start += count * k
        right = fixed.copy()
        for u, value in zip(columns, values, strict=True):
            right -= value[:, None] * gain[u]
            for u2, value2 in zip(columns, values, strict=True):
                total += value * value2 * self.rest_cov[u, u2]
        unique, where = np.unique(np.maximum(levels[stage.term], 0), return_inverse=True)
        step = max(1, CHUNK // (z.shape[1] * (q + p + 1)))
        for at in range(0, unique.size, step):
            pulled = self.sparse.rows(unique[at : at + step])
            flat = pulled[:, :, :q].reshape(-1, q)
            spread = (flat @ self.rest_cov).reshape(*pulled.shape[:2], q)
            own = stage.own[unique[at : at + step]]
            own = own + spread @ np.swapaxes(pulled[:, :, :q], 1, 2)
            by_fixed = pulled[:, :, q : q + p] - pulled[:, :, :q] @ gain
            take = slice(None)
            if step < unique.size:
                take = np.flatnonzero((where >= at) & (where < at + step))
            level, part = where[take] - at, z[take]
            total[take] += np.einsum("ma,mab,mb->m", part, own[level], part)
            right[take] -= np.einsum("ma,mab->mb", part, by_fixed[level])
            for u, value in zip(columns, values, strict=True):
                for a in range(z.shape[1]):
                    total[take] -= 2.0 * value[take] * part[:, a] * spread[level, a, u[take]]
        if fixed_uncertain and p:
            total += np.sum((right @ self.fixed_cov) * right, axis=1)
        return total

    def conditional_covariances(self, term: int) -> np.ndarray:
        """Covariance of each level's effects given the data and beta, in units of sigma**2.

        Shape (L, k, k).
        """
        sizes = [prior.shape[0] for prior in self.prior]
        counts = [modes.shape[0] for modes in self.modes]
        k, count, p = sizes[term], counts[term], self.fixed_cov.shape[0]
        if term in self.rest_terms:
            at = 0
            for t, (levels, width) in zip(self.rest_terms, self.rest_shapes, strict=True):
                if t == term:
                    block = self.rest_cov[at : at + levels * width, at : at + levels * width]
                    cube = block.reshape(levels, width, levels, width)
                    return cube[np.arange(levels), :, np.arange(levels), :]
                at += levels * width
        # Polarisation: Var(z'b) for z = e_a, e_b, e_a + e_b.
        own_levels = np.arange(count)
        result = np.empty((count, k, k))
        position = next(i for i, s in enumerate(self.stages) if s.term == term)
        if position == 0 and len(self.stages) == 1 and not self.rest_terms:
            return self.stages[0].own

        def variance(z: np.ndarray) -> np.ndarray:
            rows = [np.zeros((count, size)) for size in sizes]
            levels = [np.zeros(count, int) for _ in sizes]
            rows[term] = np.tile(z, (count, 1))
            index = own_levels
            for i, stage in enumerate(self.stages):
                if i < position:
                    continue
                levels[stage.term] = index
                if stage.parent is not None:
                    index = stage.parent[index]
            return self.variances(rows, levels, np.zeros((count, p)), fixed_uncertain=False)

        eye = np.eye(k)
        for a in range(k):
            result[:, a, a] = variance(eye[a])
        for a in range(k):
            for b in range(a):
                both = variance(eye[a] + eye[b]) - result[:, a, a] - result[:, b, b]
                result[:, a, b] = result[:, b, a] = 0.5 * both
        return result


def _joined(lines: list[Line]) -> list[Line]:
    """One line where the level is the same: as a rule all terms of a row share their ancestors.

    Where they do not (a known level under another parent than it has in the data), each effect
    pulls its own ancestors along.
    """
    out: list[Line] = []
    for level, coefficients in lines:
        for at, (other, before) in enumerate(out):
            same = (other == level)[:, None]
            out[at] = (other, before + np.where(same, coefficients, 0.0))
            coefficients = np.where(same, 0.0, coefficients)
        if not out or coefficients.any():
            out.append((level, coefficients))
    return out


def posterior(
    prepared: Prepared, data: CrossProducts, y: np.ndarray, factors: list[np.ndarray]
) -> Posterior:
    """Conditional distribution at given standardised factors ``T Lambda``.

    Parameters
    ----------
    prepared : Prepared
    data : CrossProducts
        Host arrays.
    y : ndarray, shape (n,)
        The response that ``data`` was made with.
    factors : list of ndarray, each (k_t, k_t)

    Returns
    -------
    Posterior
    """
    engine = data.elimination
    p = data.n_fixed
    ordered = [factors[i] for i in engine.order]
    stages: list[Stage] = []
    sparse = None
    if isinstance(engine, Crossed):
        depth = 1
        root = np.moveaxis(np.asarray(engine.root), -1, 0)
        own = _covariance(ordered[0], np.swapaxes(root, 1, 2) @ root)
        stages.append(Stage(engine.order[0], own, None, None))
        sparse = SparseGain(
            half=own @ np.swapaxes(root, 1, 2),
            entry=np.asarray(engine.entry),
            entry_source=np.asarray(engine.entry_source),
            entry_target=np.asarray(engine.entry_target),
            columns=np.asarray(engine.columns),
            n_rest=engine.cross_within.shape[0],
        )
        gram = _crossed_gram(engine, ordered[0])
    else:
        depth = len(engine.order) - len(engine.rest_levels)
        gram = _chain(prepared, y, engine, ordered, stages)
    q = gram.shape[0] - p - 1
    rest = tuple(engine.order[depth:])
    rest_shapes = tuple(
        (count, f.shape[0]) for count, f in zip(engine.rest_levels, ordered[depth:], strict=True)
    )
    big = np.zeros((q, q))
    at = 0
    for (count, k), factor in zip(rest_shapes, ordered[depth:], strict=True):
        big[at : at + count * k, at : at + count * k] = np.kron(np.eye(count), factor)
        at += count * k
    rest_cov = _covariance(big, gram[:q, :q]) if q else np.zeros((0, 0))
    rest_gain = rest_cov @ gram[:q, q:]
    top = gram[q:, q:] - gram[q:, :q] @ rest_gain
    fixed_cov = np.linalg.inv(top[:p, :p]) if p else np.zeros((0, 0))
    beta = fixed_cov @ top[:p, p]
    # Means, from the top down: coefficients over [ancestors | rest | X | y].
    known = np.concatenate([-beta, [1.0]])
    rest_mode = rest_gain @ known
    known = np.concatenate([-rest_mode, known])
    modes: list[np.ndarray | None] = [None] * len(factors)
    at = 0
    for t, (count, k) in zip(rest, rest_shapes, strict=True):
        modes[t] = rest_mode[at : at + count * k].reshape(count, k)
        at += count * k
    ancestors: np.ndarray | None = None
    for stage in reversed(stages):
        if stage.gain is None:
            assert sparse is not None
            mode = sparse.times(known)
        else:
            skip = stage.gain.shape[2] - known.size
            mode = stage.gain[:, :, skip:] @ known
            if skip:
                assert ancestors is not None and stage.parent is not None
                mode = mode - np.einsum(
                    "lab,lb->la", stage.gain[:, :, :skip], ancestors[stage.parent]
                )
        modes[stage.term] = mode
        if ancestors is None or stage.parent is None:
            ancestors = mode
        else:
            ancestors = np.concatenate([mode, ancestors[stage.parent]], axis=1)
    return Posterior(
        stages=tuple(stages),
        sparse=sparse,
        rest_terms=rest,
        rest_shapes=rest_shapes,
        rest_cov=rest_cov,
        rest_gain=rest_gain,
        fixed_cov=fixed_cov,
        modes=tuple(m for m in modes if m is not None),
        prior=tuple(f @ f.T for f in factors),
    )


def _chain(
    prepared: Prepared,
    y: np.ndarray,
    engine: MomentBlocks | Nested,
    factors: list[np.ndarray],
    stages: list[Stage],
) -> np.ndarray:
    """Eliminate a chain, appending its stages; returns the Gram matrix over ``[rest | X | y]``."""
    if isinstance(engine, MomentBlocks):
        assert prepared.patterns is not None
        root = np.asarray(engine.root)[..., prepared.patterns.index]
        c_y = group_response(prepared, y)[2]
        columns = np.concatenate([prepared.columns, c_y[:, None]], axis=1)
        within = np.asarray(engine.within)[..., None]
        parents: tuple[np.ndarray | None, ...] = (None,)
        levels = (root.shape[-1],)
    else:
        root, columns, within = (
            np.asarray(x) for x in (engine.root, engine.columns, engine.within)
        )
        parents, levels = engine.parents, engine.levels
    root, columns, within = (np.moveaxis(x, -1, 0) for x in (root, columns, within))
    root_t = np.swapaxes(root, 1, 2)
    own = _covariance(factors[0], root_t @ root)
    stages.append(Stage(engine.order[0], own, own @ root_t @ columns, parents[0]))
    scaled = root @ factors[0]
    shrunk = np.linalg.solve(np.eye(root.shape[1]) + scaled @ np.swapaxes(scaled, 1, 2), columns)
    counts = (*levels[1:], 1)
    gram = within + _sum_by(np.swapaxes(columns, 1, 2) @ shrunk, parents[0], counts[0])
    for i in range(1, len(levels)):
        k = factors[i].shape[0]
        own = _covariance(factors[i], gram[:, :k, :k])
        gain = own @ gram[:, :k, k:]
        stages.append(Stage(engine.order[i], own, gain, parents[i]))
        gram = _sum_by(gram[:, k:, k:] - gram[:, k:, :k] @ gain, parents[i], counts[i])
    return gram[0]


def _sum_by(values: np.ndarray, parent: np.ndarray | None, count: int) -> np.ndarray:
    if parent is None:
        return values.sum(axis=0, keepdims=True)
    out = np.zeros((count, *values.shape[1:]))
    np.add.at(out, parent, values)
    return out


def _crossed_gram(engine: Crossed, factor: np.ndarray) -> np.ndarray:
    """Gram matrix over ``[rest | X | y]`` after eliminating the first factor, on the host."""
    root = np.moveaxis(np.asarray(engine.root), -1, 0)
    scaled = root @ factor
    kept = np.linalg.inv(np.eye(root.shape[1]) + scaled @ np.swapaxes(scaled, 1, 2))
    k, r = engine.columns.shape[:2]
    row, col = np.triu_indices(k)
    packed = np.concatenate([kept[:, a, b] for a, b in zip(row, col, strict=True)])
    q = engine.cross_within.shape[0]
    added = np.bincount(
        engine.product_target, engine.product * packed[engine.product_source], q * q
    )
    lower = np.asarray(engine.rest_within) + added.reshape(q, q)
    columns = np.asarray(engine.columns)
    shrunk = np.einsum("lab,brl->arl", kept, columns)
    by_entry = np.moveaxis(shrunk, 1, 2).reshape(-1, r)[engine.entry_source]
    cross = np.array(engine.cross_within)
    for i in range(r):
        cross[:, i] += np.bincount(engine.entry_target, engine.entry * by_entry[:, i], q)
    gram = np.empty((q + r, q + r))
    gram[:q, :q] = lower + np.tril(lower, -1).T
    gram[:q, q:] = cross
    gram[q:, :q] = cross.T
    gram[q:, q:] = np.asarray(engine.within) + np.einsum("kal,kbl->ab", columns, shrunk)
    return gram
