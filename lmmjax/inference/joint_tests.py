"""F tests of several linear functions of the fixed effects at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmmjax.inference.contrasts import f_test
from lmmjax.inference.estimability import estimable_part
from lmmjax.reading.coefficients import moved_rows
from lmmjax.reading.marginal_means import Shown

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.inference.marginal_estimates import MarginalEstimates

DEPENDENT = "df1 reduced due to linear dependence"
UNKNOWN = "df1 reduced due to functions that the data do not determine"
CONFOUNDED = "(confounded)"
#: A part of rows of length 1 that lies outside of others, but for rounding.
SPANNED = 1e-7


@dataclass(frozen=True, eq=False, repr=False)
class JointTests(Shown):
    """F tests of several linear functions at once; prints as in R's emmeans.

    Attributes
    ----------
    frame : pandas.DataFrame
        Columns ``df1``, ``df2``, ``F.ratio``, ``p.value``, after those that say what is tested.
    by : tuple of str
        Columns that make a table of their own for each of their levels.
    messages : tuple of str
    """

    frame: pd.DataFrame
    by: tuple[str, ...]
    messages: tuple[str, ...]
    estimate_name: str = "F.ratio"


class JointTest(NamedTuple):
    """A joint test, and what it tests.

    Attributes
    ----------
    numbers : dict
        ``df1``, ``df2``, ``F.ratio``, ``p.value``.
    notes : tuple of str
        Why ``df1`` is less than the number of hypotheses.
    rows : ndarray, shape (df1, p + 1)
        Independent hypotheses that the data determine: weights, right-hand side.
    """

    numbers: dict[str, Any]
    notes: tuple[str, ...]
    rows: np.ndarray


def joint_test(
    estimates: MarginalEstimates, chosen: np.ndarray, null: float = 0.0, count: int | None = None
) -> JointTest:
    """Test some rows at once, as far as the data determine them.

    Parameters
    ----------
    estimates : MarginalEstimates
    chosen : ndarray of int
        Which rows.
    null : float
        What each of them is tested against.
    count : int, optional
        How many hypotheses they are meant to be; by default as many as rows.
    """
    functions = estimates.functions[chosen]
    known = np.all(np.isfinite(functions), axis=1)
    functions = functions[known]
    p = estimates.fit.design.p
    L, gap, rhs = functions[:, :p], functions[:, p:-1], null - functions[:, -1]
    count = len(chosen) if count is None else count
    found = estimable_part(L, gap, rhs)
    df1 = len(found.rows)
    notes = (DEPENDENT,) if found.rank < min(count, len(L)) else ()
    if df1 < found.rank or not known.all():
        notes = (*notes, UNKNOWN)
    return JointTest(_numbers(estimates, found.rows), notes, found.rows)


def _numbers(estimates: MarginalEstimates, rows: np.ndarray) -> dict[str, Any]:
    """Test independent hypotheses, all of them in the units of the estimates."""
    if not len(rows):
        return {"df1": 0, "df2": np.nan, "F.ratio": np.nan, "p.value": np.nan}
    test = f_test(estimates.fit, rows[:, :-1], rows[:, -1], estimates.ddf, alike=True)
    return {"df1": test.num_df, "df2": test.den_df, "F.ratio": test.F, "p.value": test.p}


def confounded_test(cells: MarginalEstimates, tested: Sequence[np.ndarray]) -> dict[str, Any]:
    """Test what the data say of differences between cells beyond the terms that were tested.

    Parameters
    ----------
    cells : MarginalEstimates
        The cells, each as its difference from their mean.
    tested : sequence of ndarray, each (df1, p + 1)
        Hypotheses of the terms.

    Returns
    -------
    dict
        ``df1``, ``df2``, ``F.ratio``, ``p.value`` of the part of the cells' differences that is
        uncorrelated with all of the terms; df1 is 0 if they leave nothing.
    """
    whole = joint_test(cells, np.arange(len(cells.functions))).rows
    terms = np.concatenate([whole[:0], *tested])
    fixed = cells.fit.raw.estimate.fixed
    # Rows in coordinates in which estimates are uncorrelated, of variance 1
    white, known = moved_rows(whole[:, :-1], fixed), moved_rows(terms[:, :-1], fixed)
    size = np.linalg.norm(known, axis=1, keepdims=True)
    _, values, basis = np.linalg.svd(known / size, full_matrices=False)
    basis = basis[values > SPANNED]
    rest = white - (white @ basis.T) @ basis
    left, values, _ = np.linalg.svd(rest, full_matrices=False)
    left = left[:, values > SPANNED * np.linalg.norm(white)]
    # rest = white - shares known: the same combinations of the hypotheses themselves
    shares = np.linalg.lstsq((known / size).T, (white - rest).T, rcond=SPANNED)[0].T
    return _numbers(cells, left.T @ (whole - shares @ (terms / size)))


def joint_table(
    rows: Sequence[dict[str, Any]], notes: Iterable[tuple[str, ...]], by: tuple[str, ...] = ()
) -> JointTests:
    """Rows of tests as a table, what is to be noted said once."""
    import pandas as pd

    said = dict.fromkeys(note for each in notes for note in each)
    return JointTests(pd.DataFrame(rows), by, tuple(said))
