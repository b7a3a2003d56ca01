"""Normal quantile plots of residuals and of random effects, with bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.plot.canvas import (
    BAND,
    MODEL,
    Units,
    axes,
    effect_label,
    panels,
    points,
    term_position,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lmmjax.result import LinearMixedModelResult


def normal_band(n: int, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected quantiles of a sorted standard normal sample, and a pointwise band.

    Parameters
    ----------
    n : int
        Size of the sample.
    level : float
        How likely each value is to lie within the band.

    Returns
    -------
    tuple of ndarray, each (n,)
        Quantiles at ``(i - 1/2) / n``, lower and upper limits.

    Notes
    -----
    The i-th smallest of n uniform variables follows Beta(i, n + 1 - i), which gives exact limits.

    Examples
    --------
    >>> middle, lower, upper = normal_band(3)
    >>> middle.round(2).tolist(), upper.round(2).tolist()
    ([-0.97, 0.0, 0.97], [0.55, 1.31, 2.39])
    """
    from scipy.special import betaincinv, ndtri

    i = np.arange(1, n + 1)
    tail = 0.5 * (1.0 - level)
    return (
        ndtri((i - 0.5) / n),
        ndtri(betaincinv(i, n + 1 - i, tail)),
        # By symmetry; the upper tail directly would lose digits.
        -ndtri(betaincinv(i, n + 1 - i, tail))[::-1],
    )


def quantile_panel(
    ax: Axes, values: np.ndarray, names: Any, label: int, level: float = 0.95
) -> None:
    """Sorted values against normal quantiles, with the line through the quartiles and its band."""
    order = np.argsort(values, kind="stable")
    sorted_values = values[order]
    middle, lower, upper = normal_band(len(values), level)
    # Through the quartiles: a line that outliers do not move.
    low, high = np.quantile(values, [0.25, 0.75])
    scale = (high - low) / (2 * 0.6744897501960817)
    center = 0.5 * (low + high)
    ax.fill_between(
        middle,
        center + scale * lower,
        center + scale * upper,
        color=BAND,
        alpha=0.45,
        lw=0,
        label=f"{100 * level:g}% pointwise band",
    )
    ax.plot(middle, center + scale * middle, color=MODEL, lw=1.5, label="normal, by the quartiles")
    points(ax, middle, sorted_values, zorder=3)
    outside = np.maximum(
        sorted_values - (center + scale * upper), (center + scale * lower) - sorted_values
    )
    for at in np.argsort(-outside, kind="stable")[:label]:
        if outside[at] <= 0:
            break
        right = middle[at] > 0
        ax.annotate(
            str(names[order[at]]),
            (middle[at], sorted_values[at]),
            xytext=(-6 if right else 6, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=8,
        )
    ax.set_xlabel("Standard normal quantile")


def qq(fit: LinearMixedModelResult, *, ax: Axes | None = None, label: int = 3) -> Axes:
    """Normal quantile plot of the scaled residuals.

    Parameters
    ----------
    fit : LinearMixedModelResult
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.
    label : int, default 3
        At most so many points outside the band are named by their row.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    The band is for independent values; residuals of a mixed model are nearly so. It is pointwise:
    of many points a few lie outside by chance.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> lj.plot.qq(fit).get_ylabel()
    'Residual / σ'
    """
    ax = axes(ax, (5.2, 4.4))
    quantile_panel(ax, fit.scaled_residuals, fit.index, label)
    ax.set_ylabel("Residual / σ")
    ax.set_title("Normal quantiles of the residuals", fontsize=11, loc="left")
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    return ax


def qq_random(
    fit: LinearMixedModelResult,
    group: str | None = None,
    *,
    figure: Any = None,
    label: int = 3,
    units: Units = None,
) -> Figure:
    """Normal quantile plots of the random effects, one panel for each.

    Parameters
    ----------
    fit : LinearMixedModelResult
    group : str, optional
        Grouping factor; by default the one with the most levels.
    figure : matplotlib Figure or SubFigure, optional
        An empty one to draw on; by default a new one.
    label : int, default 3
        At most so many levels outside the band are named.
    units : mapping of str to str, optional
        Units of variables.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> [ax.get_title(loc="left") for ax in lj.plot.qq_random(fit).axes]
    ['(Intercept)', 'Days']
    """
    t = term_position(fit, group)
    term, modes = fit.design.terms[t], fit.raw.modes[t]
    k = len(term.columns)
    figure, grid = panels(figure, 1, k, (max(4.6, 3.8 * k), 4.0))
    for j, ax in enumerate(grid[0]):
        quantile_panel(ax, modes[:, j], term.levels, label)
        ax.set_title(effect_label(fit, term.columns[j], units), fontsize=11, loc="left")
    grid[0, 0].set_ylabel("Random effect")
    grid[0, 0].legend(frameon=False, fontsize=9, loc="upper left")
    figure.suptitle(f"Normal quantiles of the random effects of {term.group}", fontsize=11)
    return figure
