"""New responses from a fit, by resampling: of residuals, and by numbers drawn for each group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.likelihood.plan import is_nested

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult

Kind = Literal["parametric", "residual", "wild", "cases"]
KINDS = ("parametric", "residual", "wild", "cases")
#: Mammen's two points: mean 0, variance 1, third moment 1.
LOW, HIGH = (1 - np.sqrt(5)) / 2, (1 + np.sqrt(5)) / 2
LOW_SHARE = (np.sqrt(5) + 1) / (2 * np.sqrt(5))
#: Part of a column that those before do not have, relative to the column, below which it is none.
DEPENDENT = 1e-7


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
    """Centred effects, shape (L, k), whose mean square is ``factor @ factor.T``.

    Parameters
    ----------
    effects : ndarray, shape (L, k)
    factor : ndarray, shape (k, k)
        Lower-triangular root of the estimated covariance.

    Notes
    -----
    ``U A`` with ``A = (L_R L_S^-1)'`` for the Cholesky roots of the estimated covariance R and of
    the effects' own S (Carpenter, Goldstein & Rasbash 2003): effects that have the estimated
    covariance already stay as they are, and units do not matter. ``U L_S^-T`` is found by
    orthogonalising column after column. A column that depends on those before, as where modes are
    perfectly correlated or all zero, adds nothing: its pivot in the root of S is zero, and in that
    of R as a rule too.
    """
    centred = effects - effects.mean(axis=0)
    white = np.zeros_like(centred)
    for j in range(centred.shape[1]):
        left = centred[:, j]
        for _ in range(2):  # once more against rounding
            left = left - white[:, :j] @ (white[:, :j].T @ left)
        size = np.linalg.norm(left)
        if size > DEPENDENT * np.linalg.norm(effects[:, j]):
            white[:, j] = left / size
    return np.sqrt(len(effects)) * white @ factor.T


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


def outermost(
    fit: LinearMixedModelResult, instead: str = "kind='parametric' or 'residual'"
) -> tuple[np.ndarray, int]:
    """Level of each row in the factor that all others are nested in, and its number of levels.

    Parameters
    ----------
    fit : LinearMixedModelResult
    instead : str
        What serves where there is none, for the message.

    Raises
    ------
    LmmError
        There is none: factors are crossed.
    """
    terms = fit.design.terms
    top = min(terms, key=lambda term: len(term.levels))
    for term in terms:
        if not is_nested(term.index, top.index):
            raise LmmError(
                f"{term.group!r} is not nested in {top.group!r}: whole groups are independent only "
                f"where one factor holds all others. Use {instead}"
            )
    return np.asarray(top.index), len(top.levels)
