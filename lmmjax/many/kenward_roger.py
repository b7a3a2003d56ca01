"""Kenward-Roger for many fits of one model."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax import Array, lax

from lmmjax.compiled import Kernel
from lmmjax.fitting import Fitted
from lmmjax.inference.component_jets import Evaluate, SearchJets, search_jets
from lmmjax.inference.kenward_roger import (
    KenwardRoger,
    check_reml,
    kenward_roger,
    kenward_roger_of_fits,
)
from lmmjax.likelihood.crossproducts import CrossProducts, Prepared
from lmmjax.many.determined import shares_of, widened_adjustment
from lmmjax.many.engine import Own, is_elementwise, join_lane
from lmmjax.many.fit_many import change_columns, columns_kept, rows_present
from lmmjax.many.runner import chunk_lanes
from lmmjax.many.sources import any_lane, any_response, response_source

if TYPE_CHECKING:
    from lmmjax.many.fits import ManyFits

#: Fits of a round: what is kept of their derivatives bounds the memory.
ROUND = 4096


def jets_of_lanes(theta: Array, shared: CrossProducts, own: Own) -> SearchJets:
    """:func:`search_jets` at points of shape (lanes, n_theta); ``own`` may be empty."""

    def lane(theta: Array, own: Own) -> SearchJets:
        return search_jets(theta, join_lane(shared, own))

    if is_elementwise(shared):
        return jax.vmap(lane)(theta, own)
    return lax.map(lambda both: lane(*both), (theta, own))


_jets_of_lanes = Kernel(jets_of_lanes)


def kenward_roger_of_many(many: ManyFits) -> KenwardRoger:
    """What tests by Kenward and Roger's method need, of every fit.

    Parameters
    ----------
    many : ManyFits
        By REML.

    Returns
    -------
    KenwardRoger
        Arrays with the replicates' axis first, NaN for fits that have no estimates.

    Raises
    ------
    LmmError
        The fits are by ML, or a covariance structure is not linear in its parameters.

    Notes
    -----
    The method looks at the design and the variances only: no response is needed.
    """
    check_reml(many.reml)
    if many.present is None or not many.undetermined.any():
        return _of_determined(many)
    shares = shares_of(many.design, many.prepared, many.present)
    parts = []
    for share in shares:
        estimate = jax.tree.map(lambda x, i=share.fits: np.asarray(x)[i], many.estimate)
        present = many.present[share.fits]
        some = replace(many, estimate=estimate, present=present)
        if not share.is_whole:
            some = replace(some, prepared=columns_kept(many.prepared, share.kept))
        parts.append(widened_adjustment(_of_determined(some), share))
    order = np.argsort(np.concatenate([share.fits for share in shares]))
    names = [field.name for field in fields(KenwardRoger)]
    return KenwardRoger(
        **{name: np.concatenate([getattr(kr, name) for kr in parts])[order] for name in names}
    )


def _of_determined(many: ManyFits) -> KenwardRoger:
    """Of fits whose rows determine all columns of the prepared design."""
    estimate = many.estimate
    theta = np.asarray(estimate.solution.theta, np.float64)
    usable = np.flatnonzero(np.isfinite(theta).all(axis=1) & np.isfinite(many.sigma))
    shared = any_lane(many.prepared)
    alone = many.present is not None and not is_elementwise(shared)
    rounds = [usable[at : at + ROUND] for at in range(0, usable.size, ROUND)]
    p, r = many.prepared.basis.factor.shape[1], theta.shape[1] + 1
    square = (p, p)
    shapes = {"phi": square, "phi_adjusted": square, "back": square}
    shapes |= {"sandwich": (r, p, p), "weight": (r, r)}
    out = {name: np.full((len(many), *shape), np.nan) for name, shape in shapes.items()}
    for fits in rounds:
        part = _one_by_one(many, fits) if alone else _at_once(many, fits, shared)
        for field in fields(part):
            out[field.name][fits] = getattr(part, field.name)
    return KenwardRoger(**out)


def _at_once(many: ManyFits, fits: np.ndarray, shared: CrossProducts) -> KenwardRoger:
    prepared, estimate, n_obs = many.prepared, many.estimate, many.prepared.n_obs
    present = None
    if many.present is not None:
        present = many.present[fits]
        n_obs = present.sum(axis=1)
    return kenward_roger_of_fits(
        np.asarray(estimate.solution.theta, np.float64)[fits],
        tuple(np.asarray(f)[fits] for f in estimate.factors),
        many.sigma[fits],
        np.asarray(n_obs, np.float64),
        prepared,
        _evaluate(prepared, shared, present),
    )


def _one_by_one(many: ManyFits, fits: np.ndarray) -> KenwardRoger:
    """Where rows are missing from designs that do not run in batches."""
    assert many.present is not None
    found = []
    for fit in fits:
        smaller = rows_present(many.prepared, many.present[fit])
        own = jax.tree.map(lambda x, i=fit: np.asarray(x)[i], many.estimate)
        own = own._replace(factors=change_columns(own.factors, many.prepared, smaller))
        response = any_response(many.prepared)
        found.append(kenward_roger(Fitted(smaller, response, True, "newton", own)))
    return KenwardRoger(
        *(np.stack([getattr(kr, field.name) for kr in found]) for field in fields(KenwardRoger))
    )


def _evaluate(prepared: Prepared, shared: CrossProducts, present: np.ndarray | None) -> Evaluate:
    """Derivatives at points of the fits, chunk by chunk."""

    def own_of(owner: np.ndarray) -> Own:
        if present is None:
            return {}
        noise = np.where(present[owner], any_response(prepared), np.nan)
        return response_source(prepared, noise)(0, len(owner))

    def evaluate(points: np.ndarray, owner: np.ndarray) -> SearchJets:
        lanes = chunk_lanes(shared, len(points))

        def work(at: int) -> SearchJets:
            some = np.arange(at, at + lanes) % len(points)
            own = own_of(owner[some])
            found = _jets_of_lanes(points[some], shared, own)
            return jax.tree.map(lambda x: x[: len(points) - at], found)

        starts = range(0, len(points), lanes)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            # The first alone, so that only one thread compiles.
            found = [work(starts[0]), *pool.map(work, starts[1:])]
        return jax.tree.map(lambda *xs: np.concatenate(xs), *found)

    return evaluate
