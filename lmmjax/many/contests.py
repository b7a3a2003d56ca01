"""Tests of linear combinations of the fixed effects in many fits at a time.

The single fit's are in :mod:`lmmjax.inference.contrasts`, with the sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.contrasts import check_method
from lmmjax.inference.hypotheses import as_hypotheses
from lmmjax.inference.kenward_roger import denominator
from lmmjax.inference.pooled import RANK_TOL, denominator_df
from lmmjax.inference.units import column_units, same_units
from lmmjax.many.determined import adjustment_for, coefficients_for, touched
from lmmjax.reading.coefficients import contrast_df, covariance_of, moved_rows, two_sided_p

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.many.fits import ManyFits


class TTests(NamedTuple):
    """Tests of single hypotheses, each array of shape (replicates, q)."""

    estimate: np.ndarray
    se: np.ndarray
    df: np.ndarray
    t: np.ndarray
    p: np.ndarray


class FTests(NamedTuple):
    """Joint tests, each array of shape (replicates,)."""

    F: np.ndarray
    den_df: np.ndarray
    p: np.ndarray


def t_tests(many: ManyFits, L: np.ndarray, rhs: np.ndarray, ddf: str) -> TTests:
    """Each of ``L beta = rhs`` by itself, L of shape (q, p)."""
    fixed = coefficients_for(L, many.estimate.fixed)
    estimate, missing = fixed.beta @ L.T, touched(L, many.beta)
    # Row by row: a coefficient without a value matters to the contrasts in which it has a part.
    variance, df = np.empty(estimate.shape), np.full(estimate.shape, np.inf)
    for j, row in enumerate(L):
        one = row[None]
        if ddf == "kenward-roger":
            kr = adjustment_for(one, many.beta, many.kenward_roger)
            variance[:, j], df[:, j] = kr.variances(one)[:, 0], denominator(one, kr).df
            continue
        if missing.any():
            fixed = coefficients_for(one, many.estimate.fixed)
        variance[:, j] = np.sum(moved_rows(one, fixed) ** 2, axis=-1)[:, 0]
        if ddf == "satterthwaite":
            df[:, j] = contrast_df(one, fixed)[:, 0]
    estimate, df = (np.where(missing, np.nan, x) for x in (estimate, df))
    se = np.sqrt(variance)
    t = (estimate - rhs) / se
    p = two_sided_p(t, df)
    return TTests(estimate, np.where(missing, np.nan, se), df, t, p)


def independent_rows(L: np.ndarray) -> None:
    """Refuse hypotheses, shape (q, p), some of which follow from the others."""
    # Neither the unit of a coefficient nor the size of a row decides.
    for axis in (0, 1):
        size = np.abs(L).max(axis=axis, keepdims=True)
        L = L / np.where(size > 0.0, size, 1.0)
    rank = np.linalg.matrix_rank(L, tol=RANK_TOL)
    if rank < len(L):
        raise LmmError(f"the {len(L)} hypotheses are only {rank}: leave out those that follow")


def f_tests(many: ManyFits, L: np.ndarray, rhs: np.ndarray, ddf: str) -> FTests:
    """All of ``L beta = rhs`` together, L of shape (q, p) and full row rank.

    Raises
    ------
    LmmError
        A hypothesis follows from the others.
    """
    from scipy.special import chdtrc, fdtrc

    q = len(L)
    independent_rows(L)
    fixed, kr = coefficients_for(L, many.estimate.fixed), None
    if ddf == "kenward-roger":
        kr = adjustment_for(L, many.beta, many.kenward_roger)
    V = covariance_of(L, fixed) if kr is None else kr.covariance(L)
    # A fit without estimates has no p value, and must not stop the others.
    usable = np.isfinite(V).all(axis=(1, 2)) & ~touched(L, many.beta).any(axis=1)
    V[~usable] = np.eye(q)
    se = np.sqrt(np.diagonal(V, axis1=1, axis2=2))
    difference = (fixed.beta @ L.T - rhs) / se
    # Solved at unit standard error: coefficients may be in very different units.
    ratio = np.linalg.solve(V / (se[:, :, None] * se[:, None, :]), difference[:, :, None])[..., 0]
    F = np.where(usable, np.mean(difference * ratio, axis=1), np.nan)
    if ddf == "asymptotic":
        return FTests(F, np.full(F.shape, np.inf), chdtrc(q, q * F))
    if kr is None:
        alike = same_units(L, column_units(many.design.coding))
        den_df = denominator_df(L, fixed, alike, q)
    else:
        # In any basis of the hypotheses the same: in one of rows of comparable size.
        den_df, scale = denominator(L / se[:, :, None], kr)
        F = scale * F
    den_df = np.where(usable, den_df, np.nan)
    return FTests(F, den_df, fdtrc(q, den_df, F))


def contest(
    many: ManyFits, L: Any, rhs: Any = None, *, joint: bool = True, ddf: str = "satterthwaite"
) -> pd.DataFrame:
    """Test contrasts of many fits; :meth:`ManyFits.contest` documents it."""
    import pandas as pd

    ddf = check_method(ddf)
    hypotheses = as_hypotheses(L, rhs, many.names)
    count, q = len(many), len(hypotheses.L)
    how = {"status": many.status, "singular": many.singular}
    if joint:
        test = f_tests(many, hypotheses.L, hypotheses.rhs, ddf)
        columns = {"NumDF": np.full(count, q), "DenDF": test.den_df, "F value": test.F}
        index = pd.RangeIndex(count, name="replicate")
        return pd.DataFrame({**columns, "Pr(>F)": test.p, **how}, index=index)
    tests = t_tests(many, hypotheses.L, hypotheses.rhs, ddf)
    index = pd.MultiIndex.from_product(
        [range(count), list(hypotheses.labels)], names=["replicate", "hypothesis"]
    )
    columns = {
        "Estimate": tests.estimate.ravel(),
        "Std. Error": tests.se.ravel(),
        "df": tests.df.ravel(),
        "t value": tests.t.ravel(),
        "Pr(>|t|)": tests.p.ravel(),
    }
    how = {name: np.repeat(x, q) for name, x in how.items()}
    return pd.DataFrame({**columns, **how}, index=index)
