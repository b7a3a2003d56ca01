"""Residuals against fitted values, and their spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lmmjax.plot.canvas import FAINT, LINE, Units, axes, points, with_unit
from lmmjax.plot.smooth import lowess

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lmmjax.result import LinearMixedModelResult

#: Trends are drawn from so many points: enough to see one, and quick.
MAX_SMOOTH = 20_000


def _trend(ax: Axes, x: np.ndarray, y: np.ndarray, label: str) -> None:
    if len(x) > MAX_SMOOTH:
        kept = np.random.default_rng(0).choice(len(x), MAX_SMOOTH, replace=False)
        x, y = x[kept], y[kept]
    ax.plot(*lowess(x, y), color=LINE, lw=2, label=label)


def _name_extremes(
    ax: Axes,
    fit: LinearMixedModelResult,
    x: np.ndarray,
    y: np.ndarray,
    size: np.ndarray,
    count: int,
) -> None:
    """Row labels at the points that stand out."""
    for row in np.argsort(-size, kind="stable")[:count]:
        right = x[row] > np.mean(ax.get_xlim())
        ax.annotate(
            str(fit.index[row]),
            (x[row], y[row]),
            xytext=(-5 if right else 5, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=8,
        )


def residuals(
    fit: LinearMixedModelResult,
    *,
    ax: Axes | None = None,
    label: int = 3,
    units: Units = None,
) -> Axes:
    """Residuals against fitted values, random effects included.

    A good fit shows a level band of even width: a bend in the trend says that the mean is wrong,
    a funnel that the variance is not constant.

    Parameters
    ----------
    fit : LinearMixedModelResult
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.
    label : int, default 3
        How many of the largest residuals are named by their row.
    units : mapping of str to str, optional
        Units of variables.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> ax = lj.plot.residuals(fit, units={"Reaction": "ms"})
    >>> ax.get_ylabel()
    'Residual (ms)'
    """
    ax = axes(ax)
    name = fit.design.y_name
    weighted = bool(np.ptp(fit.design.weights))
    x = fit.conditional_mean
    y = fit.resid("pearson" if weighted else "response").to_numpy()
    ax.axhline(0.0, color=FAINT, lw=1, zorder=0)
    points(ax, x, y)
    _trend(ax, x, y, "trend (lowess)")
    _name_extremes(ax, fit, x, y, np.abs(y), label)
    what = "Residual x root of weight" if weighted else "Residual"
    ax.set_xlabel(with_unit(fit, name, units, f"Fitted {name}"))
    ax.set_ylabel(with_unit(fit, name, units, what))
    ax.set_title("Residuals against fitted values", fontsize=11, loc="left")
    ax.legend(frameon=False, fontsize=9, loc="best")
    return ax


def scale_location(
    fit: LinearMixedModelResult,
    *,
    ax: Axes | None = None,
    label: int = 3,
    units: Units = None,
) -> Axes:
    """Root of the scaled residuals' size against fitted values, to see whether spread is constant.

    Parameters
    ----------
    fit : LinearMixedModelResult
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.
    label : int, default 3
        How many of the largest residuals are named by their row.
    units : mapping of str to str, optional
        Units of variables.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> lj.plot.scale_location(fit).get_xlabel()
    'Fitted Reaction'
    """
    ax = axes(ax)
    name = fit.design.y_name
    x, size = fit.conditional_mean, np.abs(fit.scaled_residuals)
    y = np.sqrt(size)
    points(ax, x, y)
    _trend(ax, x, y, "trend (lowess)")
    ax.axhline(np.median(y), color="black", lw=1, ls=(0, (4, 3)), zorder=1, label="median")
    ax.set_ylim(bottom=0.0)
    _name_extremes(ax, fit, x, y, size, label)
    ax.set_xlabel(with_unit(fit, name, units, f"Fitted {name}"))
    ax.set_ylabel("√ |residual / σ|")
    ax.set_title("Spread against fitted values", fontsize=11, loc="left")
    ax.legend(frameon=False, fontsize=9, loc="best")
    return ax
