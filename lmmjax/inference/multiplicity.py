"""Several tests or intervals at a time: adjusted p values and critical values.

The rules are those of R's emmeans: which adjustment suits which family, and which one its intervals
take.

Source: Tukey (1953), "The problem of multiple comparisons"; Scheffe (1953), Biometrika 40, 87-104;
Holm (1979), Scand. J. Statist. 6, 65-70; Benjamini & Hochberg (1995), J. R. Statist. Soc. B 57,
289-300; Benjamini & Yekutieli (2001), Ann. Statist. 29, 1165-1188.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from lmmjax.errors import LmmError

#: Adjustments that need nothing but the p values.
ADJUSTMENTS = ("none", "bonferroni", "holm", "fdr_bh", "fdr_by")
#: Adjustments of a family of estimates; ``fdr`` is ``fdr_bh``.
FAMILY_ADJUSTMENTS = ("tukey", "scheffe", "sidak", "dunnettx", "fdr", *ADJUSTMENTS)
SIDES = {"two-sided": 0, "<": -1, ">": 1}


def adjust_p(p: np.ndarray, method: str) -> np.ndarray:
    """P values, shape (q,), adjusted for being several.

    Parameters
    ----------
    p : ndarray, shape (q,)
    method : {"none", "bonferroni", "holm", "fdr_bh", "fdr_by"}
        The family-wise error rate by Bonferroni's or Holm's method, or the false discovery rate by
        that of Benjamini and Hochberg or of Benjamini and Yekutieli (SciPy's).

    Raises
    ------
    LmmError
        There is no such method.

    Examples
    --------
    >>> adjust_p(np.array([0.01, 0.04, 0.03]), "holm").round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    if method not in ADJUSTMENTS:
        raise LmmError(f"adjust must be one of {', '.join(map(repr, ADJUSTMENTS))}, not {method!r}")
    q = p.size
    if method == "none" or q == 0:
        return p
    if method == "bonferroni":
        return np.minimum(1.0, q * p)
    if method == "holm":
        order = np.argsort(p)
        steps = np.maximum.accumulate((q - np.arange(q)) * p[order])
        out = np.empty(q)
        out[order] = np.minimum(1.0, steps)
        return out
    from scipy.stats import false_discovery_control

    return false_discovery_control(p, method=method.removeprefix("fdr_"))


def check_adjustment(adjust: str) -> str:
    """An adjustment's name in small letters, or an error."""
    found = adjust.lower() if isinstance(adjust, str) else adjust
    found = {"bh": "fdr_bh", "by": "fdr_by"}.get(found, found)
    if found == "mvt":
        raise LmmError(
            "the multivariate t adjustment 'mvt' is not available: 'dunnettx' approximates it for "
            "comparisons with a control, 'sidak' and 'holm' are safe for any family"
        )
    if found not in FAMILY_ADJUSTMENTS:
        known = ", ".join(map(repr, FAMILY_ADJUSTMENTS))
        raise LmmError(f"adjust must be one of {known}, not {adjust!r}")
    return found


def check_side(side: str) -> int:
    """-1, 0 or 1 for a left-, two- or right-sided test, or an error."""
    if side not in SIDES:
        raise LmmError(f"side must be one of {', '.join(map(repr, SIDES))}, not {side!r}")
    return SIDES[side]


@dataclass(frozen=True)
class Family:
    """Estimates that are judged together.

    Attributes
    ----------
    groups : tuple of ndarray of int
        Rows of each family; adjustments are made within it.
    pairwise : bool
        Whether they are all differences of one set of means; Tukey's method is for these.
    size : int
        Number of means in that set, or of estimates in each group.
    ranks : tuple of int
        Rank of each group's linear functions, for Scheffe's method.
    """

    groups: tuple[np.ndarray, ...]
    pairwise: bool
    size: int
    ranks: tuple[int, ...]


def tukey_upper(t: np.ndarray, means: float, df: np.ndarray) -> np.ndarray:
    """P value of each largest ``|t|`` among the differences of so many means, shape (q,)."""
    from lmmjax.inference.studentized_range import range_upper

    return np.array(
        [range_upper(np.sqrt(2.0) * abs(x), means, nu) for x, nu in zip(t, df, strict=True)]
    )


def _by_distinct_df(of_one: Callable[[float], float], df: np.ndarray) -> np.ndarray:
    """A function of each df, shape (q,), computed once for those that differ by rounding only."""
    found: dict[str, float] = {}
    keys = [f"{nu:.11g}" for nu in df]
    for key, nu in zip(keys, df.tolist(), strict=True):
        if key not in found:
            found[key] = float("nan") if np.isnan(nu) else of_one(nu)
    return np.array([found[key] for key in keys])


def tukey_quantile(level: float, means: float, df: np.ndarray) -> np.ndarray:
    """Critical values of differences of so many means, in standard errors, shape (q,)."""
    from lmmjax.inference.studentized_range import range_quantile

    return _by_distinct_df(lambda nu: range_quantile(level, means, nu) / np.sqrt(2.0), df)


def _triangular(count: int) -> float:
    """The number of means that have so many differences."""
    return 0.5 * (1.0 + np.sqrt(1.0 + 8.0 * count))


def _dunnett(t: np.ndarray, count: int, df: np.ndarray) -> np.ndarray:
    """Chance that ``count`` comparisons with a control all stay below ``|t|``.

    emmeans' "dunnettx": between Tukey's value for as many comparisons and Sidak's, which exceed and
    fall short of the dependence of comparisons that share a mean.
    """
    from lmmjax.reading.coefficients import two_sided_p

    share = (count - 1.0) / count
    sidak = (1.0 - two_sided_p(t, df)) ** count
    return share * (1.0 - tukey_upper(t, _triangular(count), df)) + (1.0 - share) * sidak


def _dunnett_quantile(level: float, count: int, df: np.ndarray) -> np.ndarray:
    from scipy.optimize import brentq

    from lmmjax.reading.coefficients import t_quantile

    def of_one(nu: float) -> float:
        one = np.array([nu])
        ends = (
            float(tukey_quantile(level, _triangular(count), one)[0]),
            float(t_quantile(level ** (1.0 / count), one)[0]),
        )

        def excess(t: float) -> float:
            return float(_dunnett(np.array([t]), count, one)[0]) - level

        return cast(float, brentq(excess, min(ends) - 1e-6, max(ends) + 1e-6, xtol=1e-10))

    return _by_distinct_df(of_one, df)


def _suited(adjust: str, side: int, family: Family) -> tuple[str, list[str]]:
    """The adjustment that suits the family, and why another one than was asked for."""
    if side and adjust in ("tukey", "scheffe", "dunnettx"):
        return "sidak", [
            f'Note: adjust = "{adjust}" was changed to "sidak", because "{adjust}" is not '
            "appropriate for one-sided inferences"
        ]
    if adjust == "tukey" and not family.pairwise:
        return "sidak", [
            'Note: adjust = "tukey" was changed to "sidak", because "tukey" is only appropriate '
            "for one set of pairwise comparisons"
        ]
    return adjust, []


def _sentence(what: str, adjust: str, family: Family, noun: str) -> str | None:
    """What was done, as emmeans says it."""
    if adjust == "none" or (adjust in ("tukey", "scheffe") and family.size < 3):
        return None
    if adjust == "tukey":
        how = f"for comparing a family of {family.size} estimates"
    elif adjust == "scheffe":
        how = f"with rank {family.ranks[0]}"
    else:
        how = f"for {len(family.groups[0])} {noun}"
    return f"{what} adjustment: {adjust} method {how}"


def adjusted_p(
    t: np.ndarray, df: np.ndarray, adjust: str, family: Family, side: int = 0
) -> tuple[np.ndarray, Sequence[str]]:
    """P values of a family's t statistics.

    Parameters
    ----------
    t, df : ndarray, shape (q,)
        NaN for what cannot be estimated; infinite df mean the normal distribution.
    adjust : str
        One of ``FAMILY_ADJUSTMENTS``.
    family : Family
    side : {-1, 0, 1}
        Left-, two- or right-sided.

    Returns
    -------
    p : ndarray, shape (q,)
    messages : sequence of str
        What was adjusted and how.

    Examples
    --------
    >>> family = Family((np.arange(3),), True, 3, (2,))
    >>> adjusted_p(np.array([0.602, 0.62, 0.018]), np.full(3, 42.0), "tukey", family)[0].round(3)
    array([0.82, 0.81, 1.  ])
    """
    from scipy.special import stdtr

    from lmmjax.reading.coefficients import two_sided_p

    count = len(family.groups[0])
    if count == 1 and adjust != "scheffe":
        adjust = "none"
    adjust, messages = _suited(adjust, side, family)
    raw = two_sided_p(t, df) if side == 0 else stdtr(df, -side * t)
    if adjust == "sidak":
        p = -np.expm1(count * np.log1p(-raw))
    elif adjust == "tukey":
        p = tukey_upper(t, family.size, df)
    elif adjust == "dunnettx":
        p = 1.0 - _dunnett(t, count, df)
    else:
        p = np.full(t.shape, np.nan)
        for rows, rank in zip(family.groups, family.ranks, strict=True):
            known = rows[np.isfinite(raw[rows])]
            if adjust == "scheffe":
                p[known] = _scheffe_upper(t[known], rank, df[known])
            else:
                p[known] = adjust_p(raw[known], "fdr_bh" if adjust == "fdr" else adjust)
    said = _sentence("P value", adjust, family, "tests")
    return p, [*messages, *([said] if said else [])]


def _scheffe_upper(t: np.ndarray, rank: int, df: np.ndarray) -> np.ndarray:
    from scipy.special import chdtrc, fdtrc

    return np.where(np.isinf(df), chdtrc(rank, t**2), fdtrc(rank, df, t**2 / rank))


def critical_values(
    level: float, df: np.ndarray, adjust: str, family: Family, side: int = 0
) -> tuple[np.ndarray, Sequence[str]]:
    """Half widths of a family's intervals, in standard errors.

    Adjustments of p values that have no intervals of their own (Holm's, the false discovery rate)
    take Bonferroni's.

    Parameters
    ----------
    level : float
    df : ndarray, shape (q,)
    adjust, family, side
        As in :func:`adjusted_p`.

    Returns
    -------
    values : ndarray, shape (q,)
    messages : sequence of str
    """
    from scipy.special import chdtri, fdtri

    from lmmjax.reading.coefficients import t_quantile

    count = len(family.groups[0])
    if adjust not in ("sidak", "tukey", "scheffe", "dunnettx", "none"):
        adjust = "bonferroni"
    if count == 1 and adjust != "scheffe":
        adjust = "none"
    adjust, messages = _suited(adjust, side, family)
    # One-sided limits leave the whole error on their side.
    tails = 1.0 if side == 0 else 2.0
    if adjust == "tukey":
        values = tukey_quantile(level, family.size, df)
    elif adjust == "dunnettx":
        values = _dunnett_quantile(level, count, df)
    elif adjust == "scheffe":
        values = np.full(df.shape, np.nan)
        for rows, rank in zip(family.groups, family.ranks, strict=True):
            nu = df[rows]
            square = np.where(
                np.isinf(nu), chdtri(rank, 1.0 - level), rank * fdtri(rank, nu, level)
            )
            values[rows] = np.sqrt(square)
    else:
        error = 1.0 - level
        if adjust == "bonferroni":
            error /= count
        elif adjust == "sidak":
            error = 1.0 - level ** (1.0 / count)
        values = t_quantile(1.0 - tails * error, df)
    said = _sentence("Conf-level", adjust, family, "estimates")
    return values, [*messages, *([said] if said else [])]
