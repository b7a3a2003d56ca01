"""F tests of several linear functions of the fixed effects at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.inference.contrasts import f_test
from lmmjax.reading.marginal_means import Shown

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.inference.marginal_estimates import MarginalEstimates

DEPENDENT = "df1 reduced due to linear dependence"
UNKNOWN = "df1 reduced due to functions that the data do not determine"


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


def joint_test(
    estimates: MarginalEstimates, rows: np.ndarray, null: float = 0.0
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Test some rows at once.

    Parameters
    ----------
    estimates : MarginalEstimates
    rows : ndarray of int
    null : float
        What each of them is tested against.

    Returns
    -------
    numbers : dict
        ``df1``, ``df2``, ``F.ratio``, ``p.value``.
    notes : tuple of str
        Why ``df1`` is less than the number of rows.
    """
    L = estimates.L
    kept = rows[estimates.estimable[rows] & np.any(L[rows] != 0.0, axis=1)]
    notes = (UNKNOWN,) if len(kept) < len(rows) else ()
    if not len(kept):
        return {"df1": 0, "df2": np.nan, "F.ratio": np.nan, "p.value": np.nan}, notes
    test = f_test(estimates.fit, L[kept], null - estimates.offset[kept], estimates.ddf)
    if test.num_df < len(kept):
        notes = (DEPENDENT, *notes)
    return {"df1": test.num_df, "df2": test.den_df, "F.ratio": test.F, "p.value": test.p}, notes


def joint_table(
    rows: Sequence[dict[str, Any]], notes: Iterable[tuple[str, ...]], by: tuple[str, ...] = ()
) -> JointTests:
    """Rows of tests as a table, what is to be noted said once."""
    import pandas as pd

    said = dict.fromkeys(note for each in notes for note in each)
    return JointTests(pd.DataFrame(rows), by, tuple(said))
