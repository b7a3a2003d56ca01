"""Intraclass correlations, and what follows from them: repeatability and design effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.delta import BOUNDARY_NOTE
from lmmjax.inference.variance_shares import mean_sizes, rows, variance_shares

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.estimates import Estimates


@dataclass(frozen=True, eq=False)
class IntraclassCorrelation:
    """Shares of the variance that lie between groups; prints as a table.

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
    frame : pandas.DataFrame
        ``estimate``, ``se``, ``lower`` and ``upper`` of ``adjusted``, ``conditional`` and, with
        several grouping factors, of each of them. NaN where a variance is at its boundary.
    level : float
        Of the intervals.

    Notes
    -----
    With random slopes a row's variance depends on its predictors; the random-effect variance is
    then the mean over the rows, ``trace(Z Sigma Z') / n`` (Johnson 2014). Definitions of adjusted
    and conditional: Nakagawa, Johnson & Schielzeth (2017), J. R. Soc. Interface 14, 20170213;
    Johnson (2014), Methods Ecol. Evol. 5, 944-946. Standard errors are by the delta method,
    intervals symmetric on the logit scale.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> print(fit.icc())
    Intraclass correlation
                  estimate     se  95% interval
      adjusted       0.722  0.072  0.56 to 0.84
      conditional    0.521  0.095  0.34 to 0.70
    """

    adjusted: float
    conditional: float
    by_group: dict[str, float]
    random: dict[str, float]
    fixed: float
    residual: float
    frame: pd.DataFrame
    level: float

    def __str__(self) -> str:
        return share_table("Intraclass correlation", self.frame, self.level)

    __repr__ = __str__


def share_table(title: str, frame: pd.DataFrame, level: float) -> str:
    """Shares with standard errors and intervals, as text."""
    width = max(map(len, frame.index))
    interval = f"{100 * level:g}% interval"
    lines = [title, f"  {'':{width}} {'estimate':>8}  {'se':>5}  {interval:>12}"]
    for name, row in zip(frame.index, frame.to_numpy(), strict=True):
        estimate, se, low, high = row
        line = f"  {name:<{width}} {estimate:8.3f}"
        if np.isfinite(se):
            line += f"  {se:5.3f}"
        if np.isfinite(low):
            line += f"  {f'{low:.2f} to {high:.2f}':>12}"
        lines.append(line)
    if not np.all(np.isfinite(frame["se"])):
        lines.append(BOUNDARY_NOTE)
    return "\n".join(lines)


def icc(fit: Estimates, level: float = 0.95) -> IntraclassCorrelation:
    """Do the work of :meth:`LinearMixedModelResult.icc`, which documents it."""
    found = variance_shares(fit, level)
    values = found.estimate
    groups = [term.group for term in fit.design.terms]
    names, labels = ["adjusted", "conditional"], ["adjusted", "conditional"]
    if len(groups) > 1:
        names += [f"by_group[{t}]" for t in range(len(groups))]
        labels += groups
    return IntraclassCorrelation(
        adjusted=values.adjusted,
        conditional=values.conditional,
        by_group=dict(zip(groups, values.by_group.tolist(), strict=True)),
        random=dict(zip(groups, values.random.tolist(), strict=True)),
        fixed=values.fixed,
        residual=values.residual,
        frame=rows(found, names, labels),
        level=found.level,
    )


def repeatability(fit: Estimates, level: float = 0.95, adjusted: bool = True) -> pd.DataFrame:
    """Do the work of :meth:`LinearMixedModelResult.repeatability`, which documents it."""
    found = variance_shares(fit, level)
    kind = "by_group" if adjusted else "by_group_of_all"
    groups = [term.group for term in fit.design.terms]
    return rows(found, [f"{kind}[{t}]" for t in range(len(groups))], groups)


def design_effect(fit: Estimates, level: float = 0.95, size: str = "weighted") -> pd.DataFrame:
    """Do the work of :meth:`LinearMixedModelResult.design_effect`, which documents it."""
    import pandas as pd

    if size not in ("weighted", "mean"):
        raise LmmError(f"size must be 'weighted' or 'mean', not {size!r}")
    table = repeatability(fit, level)
    sizes = mean_sizes(fit)
    m = np.array([sizes[group][0 if size == "mean" else 1] for group in table.index])
    # 1 + (m - 1) icc: increasing in the correlation, so its limits carry over.
    effect = table[["estimate", "lower", "upper"]].mul(m - 1.0, axis=0) + 1.0
    return pd.DataFrame(
        {
            "size": m,
            "icc": table["estimate"],
            "deff": effect["estimate"],
            "se": table["se"] * (m - 1.0),
            "lower": effect["lower"],
            "upper": effect["upper"],
            "n_effective": fit.nobs / effect["estimate"],
        }
    )
