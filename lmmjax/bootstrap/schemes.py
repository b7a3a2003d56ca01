"""New responses from a fit, by resampling: parametric, residual, wild, and whole groups."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.estimate import Estimate
from lmmjax.fitting import fit_data
from lmmjax.likelihood.crossproducts import cross_products, prepare

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult

Kind = Literal["parametric", "residual", "wild", "cases"]
KINDS = ("parametric", "residual", "wild", "cases")
#: Mammen's two points: mean 0, variance 1, third moment 1.
LOW, HIGH = (1 - np.sqrt(5)) / 2, (1 + np.sqrt(5)) / 2
LOW_SHARE = (np.sqrt(5) + 1) / (2 * np.sqrt(5))


def residual_responses(fit: LinearMixedModelResult, n: int, rng: np.random.Generator) -> np.ndarray:
    """Reflated random effects and residuals, drawn with replacement; shape (n, rows).

    Notes
    -----
    Carpenter, Goldstein & Rasbash (2003), Appl. Statist. 52, 431-443: conditional modes and
    residuals vary less than what they estimate, and are given the estimated covariances first.
    """
    design, sigma = fit.design, fit.sigma
    root = np.sqrt(design.weights)
    residual = root * (design.y - fit.conditional_mean)
    residual -= residual.mean()
    residual *= sigma / np.sqrt(np.mean(residual**2))
    Y = fit.marginal_mean + rng.choice(residual, (n, residual.size)) / root
    for term, modes, factor in zip(design.terms, fit.raw.modes, fit.raw.factors, strict=True):
        effects = reflated(modes, sigma * factor)
        drawn = effects[rng.integers(0, len(effects), (n, len(effects)))]
        for a in range(effects.shape[1]):
            Y += term.Z[:, a] * drawn[:, term.index, a]
    return Y


def reflated(effects: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Centred effects, shape (L, k), whose mean square is exactly ``factor @ factor.T``."""
    centred = effects - effects.mean(axis=0)
    left, size, right = np.linalg.svd(centred, full_matrices=False)
    kept = size > 1e-10 * max(size.max(initial=0.0), 1e-300)
    # Orthonormal columns in the effects' own directions, then the estimated root.
    white = (left * kept) @ right * np.sqrt(len(effects))
    return white @ factor.T


def wild_responses(fit: LinearMixedModelResult, n: int, rng: np.random.Generator) -> np.ndarray:
    """Every group's marginal residuals times a number of its own; shape (n, rows).

    Notes
    -----
    Modugno & Giannerini (2015), Commun. Statist. Theory Methods 44, 4812-4825, with residuals
    divided by ``1 - h`` (HC3) and Mammen's two-point distribution.
    """
    index, count = outermost(fit)
    root = np.sqrt(fit.design.weights)
    q, _ = np.linalg.qr(root[:, None] * fit.design.X)
    leverage = np.sum(q * q, axis=1)
    residual = (fit.design.y - fit.marginal_mean) / np.maximum(1.0 - leverage, 1e-8)
    times = np.where(rng.random((n, count)) < LOW_SHARE, LOW, HIGH)
    return fit.marginal_mean + times[:, index] * residual


def case_estimates(fit: LinearMixedModelResult, n: int, rng: np.random.Generator) -> list[Estimate]:
    """Fits of data made of whole groups drawn with replacement, a design of its own each.

    A group drawn twice counts as two. Every replicate is prepared anew, about as long as its fit.
    """
    index, count = outermost(fit)
    design, prepared = fit.design, fit.raw.prepared
    order = np.argsort(index, kind="stable")
    starts = np.searchsorted(index[order], np.arange(count + 1))
    members = [order[a:b] for a, b in itertools.pairwise(starts)]
    found = []
    for _ in range(n):
        drawn = rng.integers(0, count, count)
        rows = np.concatenate([members[g] for g in drawn])
        copy = np.repeat(np.arange(count), [len(members[g]) for g in drawn])
        terms = []
        for term in design.terms:
            # A level of a factor within the group is another one in each copy.
            pair = copy * np.int64(len(term.levels)) + term.index[rows]
            levels, new = np.unique(pair, return_inverse=True)
            terms.append((term.Z[rows], new.astype(np.int32), len(levels)))
        again = prepare(
            design.X[rows],
            terms,
            prepared.structures,
            weights=design.weights[rows],
            offset=design.offset[rows],
        )
        estimate = fit_data(cross_products(again, design.y[rows]), reml=fit.reml)
        factors = tuple(
            t @ np.linalg.solve(own, f)
            for t, own, f in zip(
                prepared.transforms, again.transforms, estimate.factors, strict=True
            )
        )
        found.append(estimate._replace(factors=factors))
    return found


def outermost(fit: LinearMixedModelResult) -> tuple[np.ndarray, int]:
    """Level of each row in the factor that all others are nested in, and its number of levels.

    Raises
    ------
    LmmError
        There is none: factors are crossed.
    """
    terms = fit.design.terms
    top = min(terms, key=lambda term: len(term.levels))
    for term in terms:
        pairs = np.unique(term.index.astype(np.int64) * len(top.levels) + top.index)
        if pairs.size > np.unique(term.index).size:
            raise LmmError(
                f"{term.group!r} is not nested in {top.group!r}: whole groups are independent only "
                "where one factor holds all others. Use kind='parametric' or 'residual'"
            )
    return np.asarray(top.index), len(top.levels)
