"""Intervals from bootstrap replicates, as R's boot::boot.ci defines them.

Source: Davison & Hinkley (1997), Bootstrap Methods and their Application, chapter 5.
"""

from __future__ import annotations

import numpy as np

from lmmjax.errors import LmmError

TYPES = ("percentile", "basic", "normal", "bca")


def order_quantile(values: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Quantiles by interpolation of order statistics on the normal scale (boot's norm.inter)."""
    from scipy.special import ndtri

    values = np.sort(values[np.isfinite(values)])
    count = values.size
    place = np.clip((count + 1) * share, 1.0, count)
    low = np.clip(np.floor(place).astype(int), 1, max(count - 1, 1))
    here, next_ = ndtri(low / (count + 1)), ndtri((low + 1) / (count + 1))
    weight = (ndtri(place / (count + 1)) - here) / (next_ - here)
    below, above = values[low - 1], values[np.minimum(low, count - 1)]
    return np.where(place == low, below, below + weight * (above - below))


def check_type(type: str) -> None:
    """Raise unless an interval's type is known."""
    if type not in TYPES:
        raise LmmError(f"type must be one of {', '.join(map(repr, TYPES))}, not {type!r}")


def interval(
    original: float,
    replicates: np.ndarray,
    level: float,
    type: str,
    jackknife: np.ndarray | None = None,
) -> tuple[float, float]:
    """Lower and upper limit of one statistic.

    Parameters
    ----------
    original : float
    replicates : ndarray, shape (n,)
    level : float
    type : str
        One of ``TYPES``.
    jackknife : ndarray, shape (groups,), optional
        The statistic without each group, for ``"bca"``. Where it has no value without one of them
        there is no interval.
    """
    from scipy.special import ndtr, ndtri

    check_type(type)
    tails = np.array([0.5 - level / 2, 0.5 + level / 2])
    finite = replicates[np.isfinite(replicates)]
    if finite.size < 2 or not np.isfinite(original):
        return np.nan, np.nan
    if type == "normal":
        bias, sd = finite.mean() - original, finite.std(ddof=1)
        low, high = original - bias + ndtri(tails) * sd
        return float(low), float(high)
    if type == "basic":
        high, low = 2 * original - order_quantile(finite, tails)
        return float(low), float(high)
    if type == "bca":
        assert jackknife is not None
        # At a boundary the estimates differ by rounding alone, which is no order.
        below = np.mean(finite < original - 1e-6 * finite.std())
        if below in (0.0, 1.0) or not np.all(np.isfinite(jackknife)):
            return np.nan, np.nan
        z0 = ndtri(below)
        influence = jackknife.mean() - jackknife
        size = np.sum(influence**2) ** 1.5
        a = np.sum(influence**3) / (6 * size) if size > 0 else 0.0
        z = z0 + ndtri(tails)
        tails = ndtr(z0 + z / (1 - a * z))
    low, high = order_quantile(finite, tails)
    return float(low), float(high)
