"""Parametric bootstrap of the likelihood-ratio test, as pbkrtest::PBmodcomp defines it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import DataError, LmmError
from lmmjax.inference.comparison import refit_ml
from lmmjax.many.fit_many import fit_many

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult


@dataclass(frozen=True, eq=False, repr=False)
class BootstrapTest:
    """A likelihood-ratio statistic and its bootstrap distribution.

    Attributes
    ----------
    statistic : float
        Twice the difference of the log-likelihoods.
    df : int
        Difference of the numbers of parameters.
    reference : ndarray, shape (n,)
        The statistic of every replicate; NaN where a fit did not converge.
    formulas : tuple of str
        Of the large model and of the small one.
    """

    statistic: float
    df: int
    reference: np.ndarray
    formulas: tuple[str, str]

    @property
    def used(self) -> np.ndarray:
        """Replicates with a positive statistic, which is what pbkrtest compares with."""
        return self.reference[self.reference > 0]

    @property
    def pvalue(self) -> float:
        """Share of replicates at least as extreme, the data among them."""
        return float((1 + np.sum(self.used > self.statistic)) / (1 + self.used.size))

    @property
    def frame(self) -> pd.DataFrame:
        """Pbkrtest's table: ``stat``, ``df``, ``ddf``, ``p.value`` of five tests.

        ``LRT`` by chi², ``PBtest`` by the replicates themselves, and three distributions with the
        replicates' moments: ``Gamma``, ``Bartlett`` (chi², scaled) and ``F``.
        """
        import pandas as pd
        from scipy.special import chdtrc, fdtrc, gammaincc

        stat, q = self.statistic, self.df
        mean, variance = float(np.mean(self.used)), float(np.var(self.used, ddof=1))
        scaled = q * stat / mean
        ddf = 2 * mean / (mean - 1)
        nan = np.nan
        rows = {
            "LRT": (stat, q, nan, chdtrc(q, stat)),
            "PBtest": (stat, nan, nan, self.pvalue),
            "Gamma": (stat, nan, nan, gammaincc(mean**2 / variance, stat * mean / variance)),
            "Bartlett": (scaled, q, nan, chdtrc(q, scaled)),
            "F": (stat / q, q, ddf, fdtrc(q, ddf, stat / q) if ddf > 0 else nan),
        }
        return pd.DataFrame.from_dict(
            rows, orient="index", columns=["stat", "df", "ddf", "p.value"]
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: statistic {self.statistic:.4g}, p {self.pvalue:.4g}>"

    def __str__(self) -> str:
        asked, used = self.reference.size, self.used.size
        lines = [
            "Parametric bootstrap of the likelihood-ratio test",
            f"large: {self.formulas[0]}",
            f"small: {self.formulas[1]}",
            f"{asked} replicates, {used} used (statistic above 0), "
            f"{int(np.sum(self.used > self.statistic))} more extreme",
        ]
        failed = int(np.sum(np.isnan(self.reference)))
        if failed:
            lines.append(f"{failed} did not converge")
        return "\n".join([*lines, self.frame.to_string(float_format=lambda x: f"{x:.4g}")])


def pb_test(
    large: LinearMixedModelResult, small: LinearMixedModelResult, n: int = 1000, *, key: Any = 0
) -> BootstrapTest:
    """Test a model against one within it by a parametric bootstrap.

    Right where chi² is not: for fixed effects with few groups, and for variances, whose null value
    lies on the boundary.

    Parameters
    ----------
    large, small : LinearMixedModelResult
        Fits of the same rows; `small` is a special case of `large`. REML fits are refitted by ML.
    n : int, default 1000
        Replicates, simulated from `small`.
    key : int or Array, default 0
        A seed, or a JAX random key.

    Returns
    -------
    BootstrapTest
        Prints pbkrtest's table; ``pvalue``, ``frame``.

    Raises
    ------
    LmmError
        `large` has no more parameters than `small`, or `n` is not possible.
    DataError
        The fits are of different responses.

    Notes
    -----
    Halekoh & Højsgaard (2014), J. Stat. Softw. 59(9).

    Examples
    --------
    >>> import lmmjax as lj
    >>> df = lj.datasets.load("sleepstudy")
    >>> large = lj.lmm("Reaction ~ Days + (Days | Subject)", df)
    >>> small = lj.lmm("Reaction ~ 1 + (Days | Subject)", df)
    >>> test = lj.pb_test(large, small, n=200, key=1)
    >>> round(test.statistic, 3), test.df, test.pvalue < 0.02
    (23.537, 1, True)
    """
    if n < 2:
        raise LmmError(f"the number of replicates must be at least 2, not {n!r}")
    if large.raw.y.shape != small.raw.y.shape or not np.array_equal(large.raw.y, small.raw.y):
        raise DataError("the fits are of different responses or rows")
    df = large.df_model - small.df_model
    if df <= 0:
        raise LmmError(
            f"the large model has {large.df_model} parameters and the small one {small.df_model}: "
            "give the larger one first"
        )
    large, small = refit_ml(large), refit_ml(small)
    Y = small.simulate(n, key)
    above, below = fit_many(large, Y), fit_many(small, Y)
    reference = below.criterion - above.criterion
    reference = np.where(above.converged & below.converged, reference, np.nan)
    statistic = max(small.criterion - large.criterion, 0.0)
    return BootstrapTest(statistic, df, reference, (large.formula, small.formula))
