"""Which linear functions of the fixed effects the data determine.

Where columns were dropped at the fit (cells without rows, copies) the coefficients that are left
stand for several, and a function of the whole model is determined only if its row lies in the space
of the data's rows. With ``D = X A``, the dropped columns in those kept, that is ``d = x A``. What
is left, ``d - x A``, is the function's gap: linear in the function, and zero if it is estimable.

Means, contrasts, joint tests and predictions all ask here.

Source: Searle (1971), Linear Models, section 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmmjax.inference.term_hypotheses import coder_of_rows, coordinates

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult

#: A gap, relative to the spread of its column, that is zero but for the solution's rounding.
SOLVED = 1e-8
#: The same relative to what is subtracted.
ROUNDING = 1e-12
#: Singular values, relative to the largest, of rows that depend on each other.
DEPENDENT = 1e-10


@dataclass(frozen=True, eq=False)
class Estimability:
    """The columns dropped at a fit, in those that it kept.

    Attributes
    ----------
    shares : ndarray, shape (p, r)
        A of ``D = X A``.
    size : ndarray, shape (r,)
        Spread of each dropped column, in whose units its gap is given.
    """

    shares: np.ndarray
    size: np.ndarray

    def gap(self, X: np.ndarray, dropped: np.ndarray) -> np.ndarray:
        """Return ``D - X A`` of new rows, shape (m, r): exactly zero where it is rounding.

        Parameters
        ----------
        X : ndarray, shape (m, p)
        dropped : ndarray, shape (m, r)
        """
        gap = dropped - X @ self.shares
        parts = np.abs(dropped) + np.abs(X) @ np.abs(self.shares)
        return np.where(np.abs(gap) < SOLVED * self.size + ROUNDING * parts, 0.0, gap / self.size)


def estimability(fit: LinearMixedModelResult) -> Estimability:
    """Return how the columns that a fit dropped depend on those that it kept."""
    coding = fit.design.coding
    p, names = fit.design.p, coding.fixed.names
    out = np.setdiff1d(np.arange(len(names)), coding.keep)
    if not out.size:
        return Estimability(np.zeros((p, 0)), np.zeros(0))
    whole = coder_of_rows(fit, contrasts=True).matrix(coding.fixed)
    kept, dropped = whole[:, coding.keep], whole[:, out]
    intercept = np.array(coding.assign) == 0
    shares = np.zeros((p, out.size))
    shares[~intercept] = coordinates(dropped, kept[:, ~intercept], coding.has_intercept)
    if coding.has_intercept:
        shares[intercept] = dropped.mean(axis=0) - kept.mean(axis=0) @ shares
    size = dropped.std(axis=0)
    # A cell without rows has an empty column: its term's other columns are in the same units.
    largest = np.abs(whole).max(axis=0)
    assign = np.array(coding.fixed.assign)
    for j in np.flatnonzero(size <= SOLVED * largest[out]):
        size[j] = largest[assign == assign[out[j]]].max() or 1.0
    return Estimability(shares, size)


class Independent(NamedTuple):
    """What rows of hypotheses say once.

    Attributes
    ----------
    rows : ndarray, shape (k, p + 1)
        Orthonormal combinations of the rows given: weights of the coefficients, right-hand side.
    rank : int
        How many rows were independent before those that the data do not determine were left out.
    """

    rows: np.ndarray
    rank: int


def estimable_part(L: np.ndarray, gap: np.ndarray, rhs: np.ndarray) -> Independent:
    """Return the part of the span of hypotheses that the data determine.

    A combination c of the hypotheses is estimable if ``c' gap = 0``: nothing depends on which of
    the rows span the hypotheses, nor on their order.

    Parameters
    ----------
    L : ndarray, shape (q, p)
    gap : ndarray, shape (q, r)
    rhs : ndarray, shape (q,)
    """
    size = np.abs(L).max(axis=0, initial=0.0)
    size = np.where(size > 0.0, size, 1.0)
    scaled = L / size
    both = np.linalg.svd(np.concatenate([scaled, gap], axis=1), compute_uv=False)
    largest = both.max(initial=0.0)
    rank = int(np.sum(both > DEPENDENT * largest))
    if gap.any():
        left, values, _ = np.linalg.svd(gap, full_matrices=False)
        left = left[:, values > SOLVED * values[0]]
        scaled = scaled - left @ (left.T @ scaled)
        rhs = rhs - left @ (left.T @ rhs)
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    turned = left[:, values > DEPENDENT * largest].T
    return Independent(np.column_stack([turned @ scaled * size, turned @ rhs]), rank)
