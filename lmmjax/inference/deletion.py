"""A model fitted again without each group of rows, by the compiled function of the fit itself.

What is sufficient for the likelihood is a sum over groups: to leave one out is to take its part
off, and no row of the others is read again. Standardised columns stay those of the whole data; a
fit does not depend on them. Rows that are not whole groups of the eliminated factor (single rows,
a crossed factor's levels) have their weights set to zero instead, and are summed again.
Either way the shapes are those of the whole data, so nothing is compiled that was not compiled for
the fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmmjax.fitting import fit_data
from lmmjax.likelihood.crossed import Crossed
from lmmjax.likelihood.crossproducts import (
    CrossProducts,
    cross_products,
    group_response,
    within_groups,
)
from lmmjax.likelihood.moments import MomentBlocks, pair_indices
from lmmjax.likelihood.preparation import analyse
from lmmjax.likelihood.segments import group_gram

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.fitting import Fitted

#: Smallest eigenvalue of X'WX without the rows, relative to X'WX, with which beta is determined.
RANK_TOL = 1e-9


class Deletions(NamedTuple):
    """Estimates without each of J units.

    Attributes
    ----------
    beta : ndarray, shape (J, p)
    root : ndarray, shape (J, p, p)
        ``root' root`` is the covariance of beta.
    sigma : ndarray, shape (J,)
    covariances : tuple of ndarray, each (J, k_t, k_t)
        Of each term's effects, in squared units of the response.
    status : ndarray of int, shape (J,)
        :class:`~lmmjax.optimize.Status`, -1 where no fit was made.
    """

    beta: Any
    root: Any
    sigma: Any
    covariances: tuple[Any, ...]
    status: Any


def delete_units(fitted: Fitted, design: Design, unit: np.ndarray, count: int) -> Deletions:
    """Fit without each unit.

    Parameters
    ----------
    fitted : Fitted
    design : Design
    unit : ndarray of int, shape (n,)
        Which of the `count` units each row belongs to.
    count : int

    Returns
    -------
    Deletions
        NumPy arrays in the units of the data; NaN where what is left does not determine the
        fixed effects.
    """
    possible = _determined(fitted, unit, count)
    without = _taking_off(fitted, unit, count) or _without_weight(fitted, design, unit)
    p = design.p
    out = Deletions(
        beta=np.full((count, p), np.nan),
        root=np.full((count, p, p), np.nan),
        sigma=np.full(count, np.nan),
        covariances=tuple(np.full((count, *f.shape), np.nan) for f in fitted.factors),
        status=np.full(count, -1),
    )
    for at in np.flatnonzero(possible).tolist():
        data = without(at)
        found = fit_data(data, reml=fitted.reml)
        out.beta[at] = found.fixed.beta
        out.root[at] = found.fixed.root
        out.sigma[at] = found.fixed.sigma
        out.status[at] = found.solution.status
        for t, (transform, factor) in enumerate(zip(data.transforms, found.factors, strict=True)):
            root = float(found.fixed.sigma) * np.linalg.solve(transform, factor)
            out.covariances[t][at] = root @ root.T
    return out


def _determined(fitted: Fitted, unit: np.ndarray, count: int) -> np.ndarray:
    """Whether the fixed effects can be told without each unit, shape (count,)."""
    q = np.asarray(fitted.prepared.basis.q)
    left = np.eye(q.shape[1]) - np.moveaxis(group_gram(q, q, unit, count), -1, 0)
    size = np.bincount(unit, minlength=count)
    enough = (size > 0) & (q.shape[0] - size > q.shape[1])
    if q.shape[1] == 0:
        return enough
    return enough & (np.linalg.eigvalsh(left)[:, 0] > RANK_TOL)


# --- by taking a unit's part off -----------------------------------------------------------------


def _taking_off(
    fitted: Fitted, unit: np.ndarray, count: int
) -> Callable[[int], CrossProducts] | None:
    """What makes the cross-products without a unit; None if units are not made of whole groups."""
    prepared, data = fitted.prepared, fitted.data
    engine = data.elimination
    if isinstance(engine, Crossed):
        return None
    index = np.asarray(prepared.term_index[engine.order[0]])
    levels = np.asarray(prepared.columns).shape[2]
    unit_of_level = np.zeros(levels, np.int64)
    unit_of_level[index] = unit
    if not np.array_equal(unit_of_level[index], unit):
        return None
    _, residual, c_y = group_response(prepared, fitted.y)
    inner = within_groups(prepared, residual, c_y)
    within_rows = np.column_stack([np.asarray(part) for part in (prepared.within_rows, inner)])
    c = np.concatenate([np.asarray(prepared.columns), c_y[:, None]], axis=1)
    rows = _members(unit, count)
    groups = _members(unit_of_level, count)
    log_weights = 2.0 * np.log(np.asarray(prepared.root_weights))
    start = np.asarray(fitted.estimate.solution.theta)
    parent = prepared.parent_index
    pattern = None if prepared.patterns is None else np.asarray(prepared.patterns.index)

    def without(at: int) -> CrossProducts:
        gone, own = rows(at), groups(at)
        top = None if parent is None else np.asarray(parent)[gone]
        lost = group_gram(within_rows[gone], within_rows[gone], top, engine.within.shape[-1])
        if isinstance(engine, MomentBlocks):
            assert pattern is not None
            left = _moments_without(engine, pattern[own], c[:, :, own], lost[..., 0])
        else:
            root, columns = np.array(engine.root), np.array(engine.columns)
            root[..., own] = 0.0
            columns[..., own] = 0.0
            left = replace(engine, root=root, columns=columns, within=engine.within - lost)
        return replace(
            data,
            elimination=left,
            n_obs=data.n_obs - float(gone.size),
            sum_log_weights=data.sum_log_weights - np.sum(log_weights[gone]),
            start=start,
        )

    return without


def _moments_without(
    engine: MomentBlocks, pattern: np.ndarray, c: np.ndarray, lost: np.ndarray
) -> MomentBlocks:
    """Without the groups of these patterns, shape (g,), whose ``c`` has shape (k, w, g)."""
    left, right = pair_indices(c.shape[0])
    products = c[left][:, :, None] * c[right][:, None, :]
    both = products + np.swapaxes(products, 1, 2)
    products = np.where((left == right)[:, None, None, None], products, both)
    moments = np.array(engine.moments).reshape(left.size, engine.count.size, -1)
    taken = np.moveaxis(products.reshape(left.size, -1, pattern.size), -1, 0)
    for at, part in zip(pattern.tolist(), taken, strict=True):
        moments[:, at] -= part
    remaining = np.array(engine.count)
    np.subtract.at(remaining, pattern, 1.0)
    return replace(
        engine,
        count=remaining,
        moments=moments.reshape(engine.moments.shape),
        within=engine.within - lost,
    )


def _members(code: np.ndarray, count: int) -> Callable[[int], np.ndarray]:
    """Positions of each code, from one sort."""
    order = np.argsort(code, kind="stable")
    ends = np.searchsorted(code[order], np.arange(count + 1))
    return lambda at: order[ends[at] : ends[at + 1]]


# --- by weights of zero --------------------------------------------------------------------------


def _without_weight(
    fitted: Fitted, design: Design, unit: np.ndarray
) -> Callable[[int], CrossProducts]:
    terms = [(term.Z, term.index, len(term.levels)) for term in design.terms]
    structures = fitted.prepared.structures
    log_weights = np.log(design.weights)

    def without(at: int) -> CrossProducts:
        kept = unit != at
        # The logarithm of the weights' product is replaced below.
        with np.errstate(divide="ignore"):
            prepared = analyse(
                design.X, terms, structures, design.weights * kept, offset=design.offset
            )
        return replace(
            cross_products(prepared, fitted.y),
            n_obs=np.asarray(float(np.count_nonzero(kept))),
            sum_log_weights=np.sum(log_weights[kept]),
        )

    return without
