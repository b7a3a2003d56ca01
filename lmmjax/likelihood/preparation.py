"""Design arrays -> Prepared: all that a likelihood needs of a design, whatever its response."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmmjax.covariance import Covariance, Diagonal, Unstructured
from lmmjax.errors import DataError, LmmError
from lmmjax.likelihood import plan as planning
from lmmjax.likelihood.arguments import check_rank, check_structures, level_index, real_matrix
from lmmjax.likelihood.crossproducts import Elimination, Prepared, pattern_moments, search_forms
from lmmjax.likelihood.moments import MomentBlocks
from lmmjax.likelihood.nested import Nested
from lmmjax.likelihood.rowgroups import orthonormal_rows, row_groups
from lmmjax.likelihood.segments import group_gram
from lmmjax.likelihood.standardize import fixed_basis, standardize_term
from lmmjax.likelihood.start import moment_equations


def default_structures(blocks: Sequence[int]) -> tuple[Covariance, ...]:
    """What lme4 fits: one unstructured block per bar; bars of one column each are a diagonal."""
    if len(blocks) > 1 and all(size == 1 for size in blocks):
        return (Diagonal(len(blocks)),)
    return tuple(Unstructured(size) for size in blocks)


def prepare(
    X: np.ndarray,
    terms: Sequence[tuple[np.ndarray, np.ndarray, int]],
    structures: Sequence[tuple[Covariance, ...]] | None = None,
    weights: np.ndarray | None = None,
    offset: np.ndarray | None = None,
) -> Prepared:
    """Analyse a design: choose the elimination, standardise, find group patterns.

    Runs on the host, in float64.

    Parameters
    ----------
    X : ndarray, shape (n, p)
        Fixed effects, full column rank.
    terms : sequence of (Z, index, levels)
        Per grouping factor: columns, shape (n, k); level of each row, shape (n,); number of levels.
    structures : sequence of tuple of Covariance, optional
        Per term, its bars' structures (default: unstructured).
    weights, offset : ndarray, shape (n,), optional
        Ones and zeros by default; rows of weight zero are left out.

    Returns
    -------
    Prepared
        Host arrays, for :func:`cross_products`.

    Raises
    ------
    DataError
        An array has another shape than the others say, or is not finite; or the columns of X are
        dependent.
    LmmError
        A structure is not of its term's size, or crossed factors leave more random effects than a
        dense matrix can hold.

    Notes
    -----
    The layout follows the grouping: second moments of identical group designs, a chain of nested
    factors, or crossed ones (Bates et al. 2015, section 3, for what is eliminated).

    Examples
    --------
    Random intercepts of three groups, two rows each:

    >>> Z, index = np.ones((6, 1)), np.repeat(np.arange(3), 2)
    >>> prepared = prepare(np.ones((6, 1)), [(Z, index, 3)])
    >>> type(prepared.template).__name__, prepared.n_theta
    ('MomentBlocks', 1)
    """
    X = real_matrix("X", X, (None, None))
    n = len(X)
    weights = None if weights is None else real_matrix("weights", weights, (n,))
    if weights is not None and weights.min(initial=0.0) < 0:
        raise DataError(f"weights must not be negative: row {int(np.argmin(weights))} is")
    offset = None if offset is None else real_matrix("offset", offset, (n,))
    if not terms:
        raise DataError("terms must hold at least one (Z, index, levels)")
    checked = []
    for t, (z, index, levels) in enumerate(terms):
        z = real_matrix(f"Z of term {t}", z, (n, None))
        checked.append((z, level_index(f"index of term {t}", index, n, levels), int(levels)))
    if structures is None:
        structures = [(Unstructured(z.shape[1]),) for z, _, _ in checked]
    if len(structures) != len(checked):
        raise LmmError(f"structures has {len(structures)} entries; there are {len(checked)} terms")
    for t, (bars, (z, _, _)) in enumerate(zip(structures, checked, strict=True)):
        check_structures(f"structures[{t}]", bars, z.shape[1])
    check_rank(X if weights is None else np.sqrt(weights)[weights > 0, None] * X[weights > 0])
    return analyse(X, checked, structures, weights, offset)


def analyse(
    X: np.ndarray,
    terms: Sequence[tuple[np.ndarray, np.ndarray, int]],
    structures: Sequence[tuple[Covariance, ...]],
    weights: np.ndarray | None,
    offset: np.ndarray | None,
) -> Prepared:
    """Prepare a design as :func:`prepare` does, of arrays that are known to be in order."""
    root_weights = np.ones(len(X)) if weights is None else np.sqrt(np.asarray(weights, np.float64))
    offset = np.zeros(len(X)) if offset is None else np.asarray(offset, np.float64)
    # A row without weight is not there.
    n = int(np.count_nonzero(root_weights))
    basis = fixed_basis(np.asarray(X, np.float64), root_weights)
    standard = [
        standardize_term(np.asarray(z, np.float64), root_weights, bars)
        for (z, _, _), bars in zip(terms, structures, strict=True)
    ]
    transforms = tuple(transform for transform, _ in standard)
    columns = [z for _, z in standard]
    indices = [np.asarray(index) for _, index, _ in terms]
    levels = [int(count) for _, _, count in terms]
    plan = planning.choose(indices, levels, [z.shape[1] for z in columns])
    rows = planning.gather(plan, columns, indices, levels)
    own_groups = row_groups(rows.own_index, rows.own_levels)
    own_rows, root = orthonormal_rows(rows.own, own_groups)
    others = np.concatenate([rows.dense, basis.q], axis=1)
    c = group_gram(own_rows, others, rows.own_index, rows.own_levels)
    residual = others.copy()
    for a in range(own_rows.shape[1]):
        residual -= own_rows[:, [a]] * c[a].T[rows.own_index]
    w = others.shape[1] + 1
    empty = np.zeros((c.shape[0], 1, c.shape[2]))
    if plan.kind == "crossed":
        template: Elimination = planning.crossed_template(plan, rows, own_rows, root, c, basis.q)
        patterns = None
    else:
        tops = 1 if rows.parent_index is None else rows.levels[1]
        within = np.zeros((w, w, tops))
        within[:-1, :-1] = group_gram(residual, residual, rows.parent_index, tops)
        pattern, chosen, count = planning.patterns(plan, root)
        k = root.shape[0]
        if chosen is not None and planning.moments_pay(k, chosen.size, w, rows.own_levels):
            # Padded to a power of two with patterns that no group has, so that fits of similar
            # size share what is compiled.
            size = 1 << (chosen.size - 1).bit_length()
            patterns = row_groups(pattern, size, least=8)
            moments = np.zeros((k * (k + 1) // 2 * size, w, w))
            moments[:, :-1, :-1] = pattern_moments(c, c, patterns)
            template = MomentBlocks(
                root=_pad(root[..., chosen], size),
                count=_pad(count.astype(np.float64), size),
                moments=moments.reshape(moments.shape[0], -1),
                within=within[..., 0],
                order=plan.order,
                rest_levels=plan.rest_levels,
            )
        else:
            patterns = None
            template = Nested(
                root=root,
                columns=np.concatenate([c, empty], axis=1),
                within=within,
                parents=rows.parents,
                levels=rows.levels,
                order=plan.order,
                rest_levels=plan.rest_levels,
            )
    return Prepared(
        basis=basis,
        root_weights=root_weights,
        offset=offset,
        own_rows=own_rows,
        own_groups=own_groups,
        within_rows=residual,
        parent_index=rows.parent_index,
        term_rows=tuple(columns),
        term_index=tuple(indices),
        equations=moment_equations(columns, indices, levels, basis.q, search_forms(structures)),
        template=template,
        columns=c,
        patterns=patterns,
        level_root=root if len(levels) == 1 and plan.kind != "crossed" else None,
        transforms=transforms,
        sum_log_weights=2.0 * np.sum(np.log(root_weights[root_weights > 0])),
        within_df=_within_df(n, root, residual[:, rows.dense.shape[1] :]),
        levels=tuple(levels),
        structures=tuple(tuple(bars) for bars in structures),
        n_obs=np.asarray(n),
    )


def _within_df(n: int, root: np.ndarray, fixed: np.ndarray) -> float:
    """Rows less the rank of the groups' columns and of the fixed effects within groups."""
    rank = np.count_nonzero(np.diagonal(root))
    if fixed.shape[1]:
        rank += np.count_nonzero(np.linalg.eigvalsh(fixed.T @ fixed) > 1e-12)
    return float(max(n - rank, 1))


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    """Zeros behind the last axis, up to ``size``."""
    width = [(0, 0)] * (array.ndim - 1) + [(0, size - array.shape[-1])]
    return np.pad(array, width)
