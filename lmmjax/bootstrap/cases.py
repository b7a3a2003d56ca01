"""Fits of data made of whole groups drawn with replacement."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import jax
import numpy as np

from lmmjax.bootstrap.estimable import estimable
from lmmjax.bootstrap.schemes import outermost
from lmmjax.errors import DataError
from lmmjax.estimate import Estimate
from lmmjax.fitting import fit_best
from lmmjax.likelihood.crossproducts import cross_products
from lmmjax.likelihood.preparation import analyse
from lmmjax.many.fit_many import change_columns
from lmmjax.optimize.solution import Status
from lmmjax.studies.progress import Progress

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult


def case_estimates(
    fit: LinearMixedModelResult, n: int, rng: np.random.Generator, bar: Progress
) -> tuple[Estimate, np.ndarray]:
    """Fits of data made of whole groups drawn with replacement, a design of its own each.

    A group drawn twice counts as two. Every replicate is prepared anew, about as long as its fit.

    Returns
    -------
    estimate : Estimate
        Arrays with the replicates' axis first; NaN where a draw has no fit.
    lost : ndarray of bool, shape (n,)
        Draws that do not determine the model, such as without one level of a predictor.
    """
    index, count = outermost(fit)
    drawn = rng.integers(0, count, (n, count))
    times = np.stack([np.bincount(groups, minlength=count) for groups in drawn]).astype(float)
    lost = ~estimable(fit, index, count, times)
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(count + 1))
    members = [order[a:b] for a, b in itertools.pairwise(starts)]
    room = [_room(term.index, index, times) for term in fit.design.terms]
    nothing = no_estimate(fit.raw.estimate)
    found = []
    for r in range(n):
        one = nothing
        if not lost[r]:
            try:
                one = _fit_drawn(fit, drawn[r], members, room)
            except DataError:  # the response is then a linear function of the predictors
                lost[r] = True
        found.append(one)
        bar.add(1)
    return jax.tree.map(lambda *xs: np.stack(xs), *found), lost


def no_estimate(like: Estimate) -> Estimate:
    """An estimate that is not there: NaN, with a status that says so."""

    def empty(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x)
        return np.full_like(x, np.nan if x.dtype.kind == "f" else 0)

    nothing = jax.tree.map(empty, like)
    status = np.full_like(np.asarray(like.solution.status), Status.NOT_FINITE)
    return nothing._replace(solution=nothing.solution._replace(status=status))


def _room(own: np.ndarray, index: np.ndarray, times: np.ndarray) -> int:
    """Levels that hold a factor's levels of any draw, so that all draws are of one shape.

    A level without rows changes no fit, but every number of levels is compiled anew.
    """
    first = np.unique(own, return_index=True)[1]
    in_group = np.bincount(index[first], minlength=times.shape[1])
    drawn = times @ in_group
    most = int(drawn.max())
    if np.all(drawn == most):
        return most
    step = 1 << max(0, most.bit_length() - 4)
    return -(-most // step) * step


def _fit_drawn(
    fit: LinearMixedModelResult, drawn: np.ndarray, members: list[np.ndarray], room: list[int]
) -> Estimate:
    """The fit of one draw of groups."""
    design, prepared = fit.design, fit.raw.prepared
    rows = np.concatenate([members[g] for g in drawn])
    copy = np.repeat(np.arange(len(drawn)), [len(members[g]) for g in drawn])
    terms = []
    for term, levels in zip(design.terms, room, strict=True):
        # A level of a factor within the group is another one in each copy.
        pair = copy * np.int64(len(term.levels)) + term.index[rows]
        _, new = np.unique(pair, return_inverse=True)
        terms.append((term.Z[rows], new.astype(np.int32), levels))
    again = analyse(
        design.X[rows],
        terms,
        prepared.structures,
        weights=design.weights[rows],
        offset=design.offset[rows],
    )
    estimate = fit_best(again, cross_products(again, design.y[rows]), reml=fit.reml)
    factors = change_columns(estimate.factors, again, prepared)
    return jax.tree.map(np.asarray, estimate._replace(factors=factors))
