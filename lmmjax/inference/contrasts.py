"""Tests of linear combinations of the fixed effects, one or several at a time.

Source: Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13), section 2; the
denominator df of a several-df F are in :mod:`lmmjax.inference.pooled`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.hypotheses import as_hypotheses
from lmmjax.inference.kenward_roger import denominator
from lmmjax.inference.multiplicity import adjust_p
from lmmjax.inference.pooled import denominator_df
from lmmjax.inference.units import column_units, same_units
from lmmjax.reading.coefficients import (
    check_level,
    contrast_df,
    moved_rows,
    t_quantile,
    two_sided_p,
)

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.inference.satterthwaite import FixedInference
    from lmmjax.result import LinearMixedModelResult

METHODS = ("satterthwaite", "kenward-roger", "asymptotic")
#: Singular values of hypotheses at unit standard error, relative to the largest, that are rounding.
DEPENDENT = 1e-9


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
    found = "-".join(re.split(r"[\W_]+", ddf.lower())) if isinstance(ddf, str) else ddf
    found = "kenward-roger" if found in ("kr", "kenwardroger") else found
    if found not in METHODS:
        raise LmmError(f"ddf must be one of {', '.join(map(repr, METHODS))}, not {ddf!r}")
    return found


def f_upper(F: float, num_df: float, den_df: float) -> float:
    """Upper tail of the F distribution; of chi^2 over its df where ``den_df`` is infinite."""
    from scipy.special import chdtrc, fdtrc

    tail = chdtrc(num_df, num_df * F) if np.isinf(den_df) else fdtrc(num_df, den_df, F)
    return float(tail)


class _Independent(NamedTuple):
    """Uncorrelated combinations of hypotheses: ``rows beta = rhs``, of variance 1."""

    rows: np.ndarray
    rhs: np.ndarray


def _independent(L: np.ndarray, rhs: np.ndarray, fixed: FixedInference) -> _Independent:
    """Return what ``L beta = rhs`` says once; rows of L may depend on each other."""
    moved = moved_rows(L, fixed)
    se = np.sqrt(np.sum(moved**2, axis=1))
    told = se > 0.0
    if not told.any():
        raise LmmError("the hypotheses say nothing about the coefficients: L is zero")
    L, rhs, moved, se = L[told], rhs[told], moved[told], se[told]
    # A rank is decided at unit standard error, by what rounding leaves of the sums in L root'.
    left, values, _ = np.linalg.svd(moved / se[:, None], full_matrices=True)
    terms = np.linalg.norm(np.abs(L) @ np.abs(np.asarray(fixed.root)).T, axis=1) / se
    noise = 16.0 * L.shape[1] * np.finfo(float).eps * terms.max()
    q = int(np.sum(values > max(DEPENDENT, noise) * values[0]))
    scaled = rhs / se
    if np.any(np.abs(left[:, q:].T @ scaled) > 1e-8 * (1.0 + np.abs(scaled).max())):
        raise LmmError("the hypotheses contradict each other: no coefficients satisfy all of them")
    turned = (left[:, :q] / values[:q]).T / se
    return _Independent(turned @ L, turned @ rhs)


def f_test(
    fit: LinearMixedModelResult,
    L: np.ndarray,
    rhs: np.ndarray,
    ddf: str,
    alike: bool | None = None,
) -> FTest:
    """Joint test of ``L beta = rhs``; rows of L may depend on each other.

    Parameters
    ----------
    fit : LinearMixedModelResult
    L : ndarray, shape (q, p)
    rhs : ndarray, shape (q,)
    ddf : str
        One of ``METHODS``.
    alike : bool, optional
        Whether the rows are in one unit; by default told by their coefficients.

    Returns
    -------
    FTest
    """
    fixed = fit.raw.estimate.fixed
    rows, right = _independent(L, rhs, fixed)
    q = len(rows)
    difference = rows @ fit.beta - right
    scale = 1.0
    if ddf == "kenward-roger":
        kr = fit.kenward_roger
        den_df, scale = denominator(rows, kr)
        wald = difference @ np.linalg.solve(kr.covariance(rows), difference)
    else:
        wald = float(np.sum(difference**2))
        den_df = np.inf
        if ddf == "satterthwaite":
            if alike is None:
                alike = bool(same_units(L, column_units(fit.design.coding)))
            den_df = denominator_df(L, fixed, alike, q)
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
        return np.sqrt(kr.variances(L)), np.array([denominator(row[None], kr).df for row in L])
    variance = np.sum(moved_rows(L, fixed) ** 2, axis=1)
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
