"""The worked example: a study with known parameters, simulated, fitted, compared with the truth.

Fifty subjects are measured at five times. Subject j has an intercept and a slope of its own::

    score_jt = (50 + b0_j) + (3 + b1_j) time_t + e_jt
    (b0_j, b1_j) ~ N(0, [[100, 5], [5, 4]])        e_jt ~ N(0, 25)

so the standard deviations are 10, 2 and 5, and the correlation of intercepts and slopes is 0.25.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from lmmjax.result import LinearMixedModelResult

FORMULA = "score ~ time + (1 + time | id)"
SEED = 2026


@dataclass(frozen=True)
class Truth:
    """The parameters that the data are simulated from.

    Attributes
    ----------
    subjects, times : int
        Numbers of subjects and of measurements of each, at times 0, 1, 2, ...
    intercept, slope : float
        Fixed effects.
    tau00, tau11, tau01 : float
        Variances of subjects' intercepts and slopes, and their covariance.
    sigma2 : float
        Residual variance.
    """

    subjects: int = 50
    times: int = 5
    intercept: float = 50.0
    slope: float = 3.0
    tau00: float = 100.0
    tau11: float = 4.0
    tau01: float = 5.0
    sigma2: float = 25.0

    @property
    def correlation(self) -> float:
        """Correlation of subjects' intercepts and slopes."""
        return self.tau01 / (self.tau00 * self.tau11) ** 0.5


TRUTH = Truth()


def simulate(seed: int = SEED, truth: Truth = TRUTH) -> pd.DataFrame:
    """Simulate the study.

    Parameters
    ----------
    seed : int
        The same seed gives the same data.
    truth : Truth
        Parameters and size.

    Returns
    -------
    pandas.DataFrame
        Columns ``id`` (categorical: ``"s01"``, ``"s02"``, ...), ``time`` and ``score``; one row a
        measurement.

    Examples
    --------
    >>> from lmmjax import demo
    >>> demo.simulate(seed=1).head(3).round(2)
        id  time  score
    0  s01     0  50.20
    1  s01     1  62.53
    2  s01     2  62.36
    """
    import pandas as pd

    rng = np.random.default_rng(seed)
    covariance = [[truth.tau00, truth.tau01], [truth.tau01, truth.tau11]]
    effects = rng.standard_normal((truth.subjects, 2)) @ np.linalg.cholesky(covariance).T
    noise = truth.sigma2**0.5 * rng.standard_normal((truth.subjects, truth.times))
    time = np.arange(truth.times)
    intercepts, slopes = truth.intercept + effects[:, :1], truth.slope + effects[:, 1:]
    score = intercepts + slopes * time + noise
    width = len(str(truth.subjects))
    labels = [f"s{j:0{width}d}" for j in range(1, truth.subjects + 1)]
    return pd.DataFrame(
        {
            "id": pd.Categorical(np.repeat(labels, truth.times), categories=labels),
            "time": np.tile(time, truth.subjects),
            "score": score.ravel(),
        }
    )


def fit(data: pd.DataFrame) -> LinearMixedModelResult:
    """Fit the model that the data were simulated from, by REML."""
    from lmmjax.model import lmm

    return lmm(FORMULA, data)


def recovery(
    result: LinearMixedModelResult, truth: Truth = TRUTH, level: float = 0.95
) -> pd.DataFrame:
    """How well a fit of :data:`FORMULA` recovers the parameters.

    Parameters
    ----------
    result : LinearMixedModelResult
    truth : Truth
    level : float, default 0.95
        Of the intervals.

    Returns
    -------
    pandas.DataFrame
        One row a parameter; columns ``true``, ``estimate``, ``lower``, ``upper`` (Wald intervals:
        Student's t for the fixed effects, on log standard deviations and atanh correlations for
        the variance components) and ``covered``, whether the truth lies within.

    Examples
    --------
    >>> from lmmjax import demo
    >>> table = demo.recovery(demo.fit(demo.simulate()))
    >>> table["true"].tolist()
    [50.0, 3.0, 10.0, 2.0, 0.25, 5.0]
    """
    import pandas as pd

    fixed = result.conf_int(level)
    random = result.variance_components(level)
    sds = (truth.tau00**0.5, truth.tau11**0.5, truth.correlation, truth.sigma2**0.5)
    table = pd.DataFrame(
        {
            "true": [truth.intercept, truth.slope, *sds],
            "estimate": [*result.beta, *random["estimate"]],
            "lower": [*fixed["lower"], *random["lower"]],
            "upper": [*fixed["upper"], *random["upper"]],
        },
        index=pd.Index(
            [
                "(Intercept)",
                "time",
                "sd of intercepts",
                "sd of slopes",
                "correlation",
                "residual sd",
            ],
            name="parameter",
        ),
    )
    inside = (table["lower"] <= table["true"]) & (table["true"] <= table["upper"])
    return table.assign(covered=inside)


def recovery_text(table: pd.DataFrame, level: float = 0.95) -> str:
    """The recovery table, to print."""
    width = max(map(len, table.index))
    interval = f"{100 * level:g}% interval"
    lines = [f"{'':{width}}  {'true':>7}  {'estimate':>8}  {interval:>16}  covers the truth"]
    for name, row in zip(table.index, table.itertuples(index=False), strict=True):
        true, estimate, lower, upper, covered = row
        lines.append(
            f"{name:{width}}  {true:7.2f}  {estimate:8.2f}  [{lower:6.2f}, {upper:6.2f}]  "
            + ("yes" if covered else "no")
        )
    return "\n".join(lines)


def run(plots: str | Path | None = None, seed: int = SEED, truth: Truth = TRUTH) -> str:
    """Simulate, fit, and tell the whole story.

    Parameters
    ----------
    plots : path, optional
        Folder to save the pictures in; it is made if need be.
    seed : int
    truth : Truth

    Returns
    -------
    str
        What ``lmmjax demo`` prints.
    """
    result = fit(simulate(seed, truth))
    cells = f"{truth.subjects} subjects x {truth.times} times, seed {seed}"
    parts = [
        f"A simulated study: {cells}",
        str(result.summary()),
        f"Recovery of the parameters\n{recovery_text(recovery(result, truth))}",
        str(result.icc()),
    ]
    if plots is not None:
        from lmmjax.plot import save_pictures

        saved = save_pictures(result, plots)
        parts.append("Pictures:\n" + "\n".join(f"  {path}" for path in saved))
    return "\n\n".join(parts)
