"""Intraclass correlations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult


@dataclass(frozen=True)
class IntraclassCorrelation:
    """Shares of the variance that lie between groups.

    Attributes
    ----------
    adjusted : float
        Random-effect variance over random-effect plus residual variance.
    conditional : float
        Random-effect variance over all variance, that of the fixed part included (R's
        performance calls it "unadjusted").
    by_group : dict of str to float
        For each grouping factor its share of random-effect plus residual variance.
    random : dict of str to float
        Variance of each grouping factor's contribution to a row, in squared units of the response.
    fixed : float
        Variance over the rows of the fixed part ``X beta``.
    residual : float
        ``sigma**2``.

    Notes
    -----
    With random slopes a row's variance depends on its predictors; the random-effect variance is
    then the mean over the rows, ``trace(Z Sigma Z') / n`` (Johnson 2014). Definitions of adjusted
    and conditional: Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14, 20170213;
    Johnson (2014), Methods Ecol. Evol. 5, 944-946.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> print(fit.icc())
    Intraclass correlation
      adjusted     0.722
      conditional  0.521
    """

    adjusted: float
    conditional: float
    by_group: dict[str, float]
    random: dict[str, float]
    fixed: float
    residual: float

    def __str__(self) -> str:
        lines = [("adjusted", self.adjusted), ("conditional", self.conditional)]
        if len(self.by_group) > 1:
            lines += list(self.by_group.items())
        width = max(len(name) for name, _ in lines)
        return "\n".join(
            ["Intraclass correlation", *(f"  {name:<{width}}  {v:.3f}" for name, v in lines)]
        )


def icc(fit: LinearMixedModelResult) -> IntraclassCorrelation:
    """Intraclass correlations of a fit."""
    residual = fit.sigma**2
    random = {
        term.group: residual * float(np.mean(np.sum((term.Z @ factor) ** 2, axis=1)))
        for term, factor in zip(fit.design.terms, fit.raw.factors, strict=True)
    }
    fixed = float(np.var(fit.design.X @ fit.beta, ddof=1))
    total = sum(random.values())
    return IntraclassCorrelation(
        adjusted=total / (total + residual),
        conditional=total / (total + residual + fixed),
        by_group={group: v / (total + residual) for group, v in random.items()},
        random=random,
        fixed=fixed,
        residual=residual,
    )
