"""A robust local regression, for trends in residuals."""

from __future__ import annotations

import numpy as np


def lowess(
    x: np.ndarray, y: np.ndarray, *, span: float = 2 / 3, points: int = 60, robust: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Locally weighted regression of y on x.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    span : float
        Share of the points that each local line sees.
    points : int
        Where to evaluate it: at so many quantiles of x.
    robust : int
        Rounds of down-weighting outliers.

    Returns
    -------
    tuple of ndarray
        Places, in increasing order, and values; at most `points` of each.

    Notes
    -----
    Tricube weights in the neighbourhood, bisquare weights against outliers: Cleveland (1979),
    J. Am. Stat. Assoc. 74, 829-836.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0.0, 1.0, 50)
    >>> at, value = lowess(x, 2.0 * x + 1.0)
    >>> bool(np.allclose(value, 2.0 * at + 1.0))
    True
    """
    order = np.argsort(x, kind="stable")
    x, y = np.asarray(x, float)[order], np.asarray(y, float)[order]
    n = len(x)
    at = np.unique(np.quantile(x, np.linspace(0.0, 1.0, points)))
    if len(at) < 2:
        return at, np.full(len(at), np.median(y))
    k = min(n, max(int(np.ceil(span * n)), 3))
    # The k-th nearest neighbour; a little beyond it, so that it counts too.
    distance = np.abs(x - at[:, None])
    radius = np.partition(distance, k - 1, axis=1)[:, k - 1 : k]
    # With many ties the k nearest may all lie on the spot.
    radius = 1.001 * np.maximum(radius, (x[-1] - x[0]) / 100)
    near = np.clip(1.0 - (distance / radius) ** 3, 0.0, None) ** 3
    trust = np.ones(n)
    value = np.zeros(len(at))
    for _ in range(robust + 1):
        weights = near * trust
        total = weights.sum(axis=1)
        mean_x, mean_y = weights @ x / total, weights @ y / total
        away = x - mean_x[:, None]
        spread = np.sum(weights * away**2, axis=1)
        slope = np.sum(weights * away * (y - mean_y[:, None]), axis=1)
        slope = np.divide(slope, spread, out=np.zeros_like(slope), where=spread > 1e-12 * total)
        value = mean_y + slope * (at - mean_x)
        off = np.abs(y - np.interp(x, at, value))
        scale = 6.0 * np.median(off)
        if not scale > 1e-12 * np.ptp(y):
            break
        # A floor keeps every neighbourhood from losing all of its points.
        trust = np.maximum(np.clip(1.0 - (off / scale) ** 2, 0.0, None) ** 2, 1e-6)
    return at, value
