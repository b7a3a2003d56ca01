"""Explained variance: Nakagawa and Schielzeth's marginal and conditional R²."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmmjax.inference.variance_shares import rows, variance_shares
from lmmjax.reading.icc import share_table

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.estimates import Estimates


@dataclass(frozen=True, eq=False)
class ExplainedVariance:
    """Marginal and conditional R²; prints as a table.

    Attributes
    ----------
    marginal : float
        Variance of the fixed part over all variance.
    conditional : float
        Variance of the fixed and random parts over all variance.
    frame : pandas.DataFrame
        ``estimate``, ``se``, ``lower`` and ``upper`` of both.
    level : float
        Of the intervals.
    """

    marginal: float
    conditional: float
    frame: pd.DataFrame
    level: float

    def __str__(self) -> str:
        return share_table("R² (Nakagawa)", self.frame, self.level)

    __repr__ = __str__


def r2(fit: Estimates, level: float = 0.95) -> ExplainedVariance:
    """Do the work of :meth:`LinearMixedModelResult.r2`, which documents it."""
    found = variance_shares(fit, level)
    frame = rows(found, ["r2_marginal", "r2_conditional"], ["marginal", "conditional"])
    marginal, conditional = frame["estimate"].tolist()
    return ExplainedVariance(marginal, conditional, frame, found.level)
