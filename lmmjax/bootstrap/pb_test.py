"""Parametric bootstrap of the likelihood-ratio test."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.arguments import check_whole
from lmmjax.bootstrap.nested import check_nested
from lmmjax.bootstrap.refits import refit_responses
from lmmjax.errors import LmmError
from lmmjax.inference.comparison import refit_ml
from lmmjax.inference.contrasts import f_upper
from lmmjax.keywords import known_keywords
from lmmjax.studies.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult

#: A statistic that is smaller is zero but for rounding: the large model's fit is the small one's.
ZERO = 1e-6


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
        The statistic of every replicate, zero where the large model's fit is the small one's; NaN
        where a fit did not converge.
    formulas : tuple of str
        Of the large model and of the small one.
    """

    statistic: float
    df: int
    reference: np.ndarray
    formulas: tuple[str, str]

    @property
    def used(self) -> np.ndarray:
        """Statistics of the replicates that converged."""
        return self.reference[np.isfinite(self.reference)]

    @property
    def extreme(self) -> int:
        """How many of them are at least as large as that of the data."""
        return int(np.count_nonzero(self.used >= self.statistic))

    @property
    def pvalue(self) -> float:
        """Share of replicates at least as extreme, the data among them."""
        return (1 + self.extreme) / (1 + self.used.size)

    @property
    def frame(self) -> pd.DataFrame:
        """Pbkrtest's table: ``stat``, ``df``, ``ddf``, ``p.value`` of five tests.

        ``LRT`` by chi², ``PBtest`` by the replicates themselves, and three distributions with the
        moments of the positive replicates: ``Gamma``, ``Bartlett`` (chi², scaled) and ``F``, whose
        tails are multiplied by the share of replicates that are positive.
        """
        import pandas as pd
        from scipy.special import chdtrc, gammaincc

        stat, q, nan = self.statistic, self.df, np.nan
        positive = self.used[self.used > 0]
        share = positive.size / max(self.used.size, 1)
        rows = {
            "LRT": (stat, q, nan, chdtrc(q, stat)),
            "PBtest": (stat, nan, nan, self.pvalue),
            "Gamma": (stat, nan, nan, nan),
            "Bartlett": (nan, q, nan, nan),
            "F": (stat / q, q, nan, nan),
        }
        if positive.size > 1:
            mean, variance = float(np.mean(positive)), float(np.var(positive, ddof=1))
            # F(q, ddf) has the mean ddf / (ddf - 2), which is that of the statistics over q.
            # Below 1 no F has a mean: the closest is chi² over its df.
            ddf = 2 * mean / (mean - q) if mean > q else np.inf
            scaled = q * stat / mean
            gamma = gammaincc(mean**2 / variance, stat * mean / variance)
            ratio = f_upper(stat / q, q, ddf)
            rows["Gamma"] = (stat, nan, nan, share * gamma if stat > 0 else 1.0)
            rows["Bartlett"] = (scaled, q, nan, share * chdtrc(q, scaled) if stat > 0 else 1.0)
            rows["F"] = (stat / q, q, ddf, share * ratio if stat > 0 else 1.0)
        return pd.DataFrame.from_dict(
            rows, orient="index", columns=["stat", "df", "ddf", "p.value"]
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: statistic {self.statistic:.4g}, p {self.pvalue:.4g}>"

    def __str__(self) -> str:
        used, zero = self.used.size, int(np.count_nonzero(self.used == 0))
        lines = [
            "Parametric bootstrap of the likelihood-ratio test",
            f"large: {self.formulas[0]}",
            f"small: {self.formulas[1]}",
            f"{used} replicates, {self.extreme} at least as extreme"
            + (f", {zero} with the statistic 0" if zero else ""),
        ]
        failed = int(np.sum(np.isnan(self.reference)))
        if failed:
            lines.append(f"{failed} did not converge and {'is' if failed == 1 else 'are'} left out")
        return "\n".join([*lines, self.frame.to_string(float_format=lambda x: f"{x:.4g}")])


@known_keywords
def pb_test(
    large: LinearMixedModelResult,
    small: LinearMixedModelResult,
    n: int = 1000,
    *,
    key: Any = 0,
    progress: bool = False,
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
    progress : bool, default False
        Whether to show how far it is, with tqdm where that is installed.

    Returns
    -------
    BootstrapTest
        Prints pbkrtest's table; ``pvalue``, ``frame``.

    Raises
    ------
    LmmError
        The models are not nested: `large` has no more parameters, or `small` has fixed or random
        effects that `large` does not have; a fit did not converge; or `n` is not possible.
    DataError
        The fits are of different responses, rows, weights or offsets.

    Notes
    -----
    Halekoh & Højsgaard (2014), J. Stat. Softw. 59(9); Davison & Hinkley (1997), section 4.2, for
    the p value ``(1 + #{T* >= t}) / (1 + n)``.

    ``pbkrtest::PBmodcomp`` leaves out the replicates whose statistic is not positive. For fixed
    effects there are none but by rounding, and the p values are the same. Without a variance of the
    large model the statistic is zero in about half of the replicates: leaving those out makes the p
    value about twice what it should be, and they are kept here.

    The ``F`` row's denominator df are those whose F has the mean of the replicates over `df`.
    ``pbkrtest`` (0.5.2) takes their mean itself there, which is the same for one parameter only.

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
    from lmmjax.result import LinearMixedModelResult

    n = check_whole("the number of replicates", n, 2)
    for fit in (large, small):
        if not isinstance(fit, LinearMixedModelResult):
            raise LmmError(f"pb_test compares fits made by lmm(), not {type(fit).__name__}")
    check_nested(large, small)
    df = large.df_model - small.df_model
    large, small = refit_ml(large), refit_ml(small)
    for name, fit in (("large", large), ("small", small)):
        if not fit.converged:
            raise LmmError(
                f"the {name} model did not converge by maximum likelihood: {fit.formula}; its "
                "statistic would mean nothing. Simplify it, or try another optimizer"
            )
    statistic = float(lr_statistic(small.criterion, large.criterion))
    if np.isnan(statistic):
        raise LmmError(
            f"the large model fits worse than the small one (deviance {large.criterion:.6g} and "
            f"{small.criterion:.6g}): its search ended at a lower peak of the likelihood. Try "
            "another optimizer"
        )
    Y = small.simulate(n, key)
    with closing(Progress(2 * n, "bootstrap test", progress)) as bar:
        above, below = refit_responses(large, Y, bar), refit_responses(small, Y, bar)
    done = above.converged & below.converged
    reference = np.where(done, lr_statistic(below.criterion, above.criterion), np.nan)
    return BootstrapTest(statistic, df, reference, (large.formula, small.formula))


def lr_statistic(small: Any, large: Any) -> np.ndarray:
    """Likelihood-ratio statistics from deviances; NaN where the large model's is not the best."""
    found = np.subtract(small, large)
    return np.where(np.abs(found) < ZERO, 0.0, np.where(found < 0, np.nan, found))
