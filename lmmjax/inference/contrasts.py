"""Tests of linear combinations of the fixed effects, one or several at a time.

Source: Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13), section 2; the
denominator of a several-df F by Fai & Cornelius (1996), J. Statist. Comput. Simul. 54, 363-378.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.hypotheses import as_hypotheses
from lmmjax.inference.kenward_roger import denominator
from lmmjax.inference.multiplicity import adjust_p
from lmmjax.reading.coefficients import check_level, contrast_df, t_quantile, two_sided_p

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult

METHODS = ("satterthwaite", "kenward-roger", "asymptotic")
#: Directions of LVL' with an eigenvalue below this, relative to the largest, are not tested.
RANK_TOL = float(np.sqrt(np.finfo(float).eps))


class FTest(NamedTuple):
    """An F test of ``L beta = rhs``.

    Attributes
    ----------
    mean_square : float
        F, before any scaling, times sigma^2.
    num_df : int
        Rank of L.
    den_df : float
        Infinite for an asymptotic test, which is then that of chi^2 / num_df.
    F : float
    p : float
    """

    mean_square: float
    num_df: int
    den_df: float
    F: float
    p: float


def check_method(ddf: str) -> str:
    """A method of degrees of freedom, in small letters, or an error."""
    found = ddf.lower().replace("_", "-") if isinstance(ddf, str) else ddf
    if found not in METHODS:
        raise LmmError(f"ddf must be one of {', '.join(map(repr, METHODS))}, not {ddf!r}")
    return found


def f_upper(F: float, num_df: float, den_df: float) -> float:
    """Upper tail of the F distribution; of chi^2 over its df where ``den_df`` is infinite."""
    from scipy.special import chdtrc, fdtrc

    tail = chdtrc(num_df, num_df * F) if np.isinf(den_df) else fdtrc(num_df, den_df, F)
    return float(tail)


def pooled_df(nu: np.ndarray) -> np.ndarray:
    """Denominator df of the mean of q squared t variables with df ``nu``, shape (..., q).

    The F distribution with the same mean (Fai & Cornelius 1996).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        E = np.sum(nu / (nu - 2.0), axis=-1)
        pooled = 2.0 * E / (E - nu.shape[-1])
    pooled = np.where(np.any(nu <= 2.0, axis=-1), 2.0, pooled)
    same = np.all(np.abs(np.diff(nu, axis=-1)) < 1e-8, axis=-1)
    return np.where(same, np.mean(nu, axis=-1), pooled)


def f_test(fit: LinearMixedModelResult, L: np.ndarray, rhs: np.ndarray, ddf: str) -> FTest:
    """Joint test of ``L beta = rhs``; rows of L may depend on each other.

    Parameters
    ----------
    fit : LinearMixedModelResult
    L : ndarray, shape (q, p)
    rhs : ndarray, shape (q,)
    ddf : str
        One of ``METHODS``.

    Returns
    -------
    FTest
    """
    cov = np.asarray(fit.raw.estimate.fixed.vcov)
    values, vectors = np.linalg.eigh(L @ cov @ L.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > max(RANK_TOL * values[0], 0.0)
    q = int(np.sum(kept))
    if q == 0:
        raise LmmError("the hypotheses say nothing about the coefficients: L is zero")
    off = vectors[:, ~kept].T @ rhs
    if np.any(np.abs(off) > 1e-8 * (1.0 + np.abs(rhs).max())):
        raise LmmError("the hypotheses contradict each other: no coefficients satisfy all of them")
    rows, right = vectors[:, kept].T @ L, vectors[:, kept].T @ rhs
    difference = rows @ fit.beta - right
    scale = 1.0
    if ddf == "kenward-roger":
        kr = fit.kenward_roger
        den_df, scale = denominator(rows, kr)
        wald = difference @ np.linalg.solve(rows @ kr.adjusted @ rows.T, difference)
    else:
        wald = float(np.sum(difference**2 / values[kept]))
        den_df = np.inf
        if ddf == "satterthwaite":
            den_df = pooled_df(contrast_df(rows, fit.raw.estimate.fixed))
    F, den_df, scale = float(wald) / q, float(den_df), float(scale)
    return FTest(F * fit.sigma**2, q, den_df, scale * F, f_upper(scale * F, q, den_df))


def f_table(tests: Sequence[FTest], labels: Sequence[str]) -> pd.DataFrame:
    """Tests as an anova table's rows, with lmerTest's columns."""
    import pandas as pd

    return pd.DataFrame(
        {
            "Sum Sq": [t.mean_square * t.num_df for t in tests],
            "Mean Sq": [t.mean_square for t in tests],
            "NumDF": np.array([t.num_df for t in tests], int),
            "DenDF": np.array([t.den_df for t in tests], float),
            "F value": [t.F for t in tests],
            "Pr(>F)": [t.p for t in tests],
        },
        index=pd.Index(labels),
    )


def standard_errors_and_df(
    fit: LinearMixedModelResult, L: np.ndarray, ddf: str
) -> tuple[np.ndarray, np.ndarray]:
    """Of each row of L, shape (q, p), by itself: two arrays of shape (q,)."""
    fixed = fit.raw.estimate.fixed
    if ddf == "kenward-roger":
        kr = fit.kenward_roger
        variance = np.sum((L @ kr.adjusted) * L, axis=1)
        return np.sqrt(variance), np.array([denominator(row[None], kr).df for row in L])
    variance = np.sum((L @ np.asarray(fixed.vcov)) * L, axis=1)
    df = contrast_df(L, fixed) if ddf == "satterthwaite" else np.full(len(L), np.inf)
    return np.sqrt(variance), df


def coefficient_table(fit: LinearMixedModelResult, ddf: str) -> pd.DataFrame:
    """The fixed effects' table by a method of degrees of freedom, one of ``METHODS``."""
    import pandas as pd

    se, df = standard_errors_and_df(fit, np.eye(len(fit.beta)), ddf)
    t = fit.beta / se
    return pd.DataFrame(
        {
            "Estimate": fit.beta,
            "Std. Error": se,
            "df": df,
            "t value": t,
            "Pr(>|t|)": two_sided_p(t, df),
        },
        index=fit.x_index,
    )


def contest(
    fit: LinearMixedModelResult,
    L: Any,
    rhs: Any = None,
    *,
    joint: bool = True,
    ddf: str = "satterthwaite",
    adjust: str = "none",
    level: float = 0.95,
) -> pd.DataFrame:
    """Test contrasts of a fit; :meth:`LinearMixedModelResult.contest` documents it."""
    import pandas as pd

    ddf, level = check_method(ddf), check_level(level)
    hypotheses = as_hypotheses(L, rhs, fit.design.x_names)
    if joint:
        if adjust != "none":
            raise LmmError("a joint test has one p value: adjust is for joint=False")
        test = f_test(fit, hypotheses.L, hypotheses.rhs, ddf)
        return f_table([test], [", ".join(dict.fromkeys(hypotheses.labels))])
    estimate = hypotheses.L @ fit.beta
    se, df = standard_errors_and_df(fit, hypotheses.L, ddf)
    t = (estimate - hypotheses.rhs) / se
    half = t_quantile(level, df) * se
    return pd.DataFrame(
        {
            "Estimate": estimate,
            "Std. Error": se,
            "df": df,
            "t value": t,
            "lower": estimate - half,
            "upper": estimate + half,
            "Pr(>|t|)": adjust_p(two_sided_p(t, df), adjust),
        },
        index=pd.Index(hypotheses.labels),
    )
