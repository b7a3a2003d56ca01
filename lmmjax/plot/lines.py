"""Trajectories: what was observed, what the model says of each group, and of the population."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.plot.canvas import (
    DATA,
    FAINT,
    LINE,
    MODEL,
    Units,
    axes,
    panels,
    term_position,
    with_unit,
)
from lmmjax.plot.grid import Lines, lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lmmjax.result import LinearMixedModelResult


def _chosen(fit: LinearMixedModelResult, t: int, most: int) -> list[np.ndarray]:
    """Rows of each group to draw, as many groups as are asked for, evenly over the levels."""
    index = fit.design.terms[t].index
    count = len(fit.design.terms[t].levels)
    order = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[order], np.arange(count + 1))
    picked = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    return [order[bounds[level] : bounds[level + 1]] for level in picked]


def _group_line(data: Lines, rows: np.ndarray, group: str) -> tuple[np.ndarray, np.ndarray]:
    new, grid = data.rows(rows)
    return grid, data.predict(new, include_re=group).to_numpy()


def _observed(data: Lines, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A group's data, along the axis; repeated measurements at one place stay in their order."""
    rows = rows[np.argsort(data.x[rows], kind="stable")]
    return data.x[rows], data.fit.design.y[rows]


def _horizontal(ax: Axes, data: Lines) -> None:
    if data.labels:
        ax.set_xticks(range(len(data.labels)), list(data.labels))
    elif np.ptp(data.x) <= 12 and np.array_equal(data.x, np.round(data.x)):
        # Counted things are not cut in half.
        ax.locator_params(axis="x", integer=True)


def trajectories(
    fit: LinearMixedModelResult,
    x: str | None = None,
    group: str | None = None,
    *,
    ax: Axes | None = None,
    max_groups: int = 60,
    level: float = 0.95,
    units: Units = None,
) -> Axes:
    """Observed and fitted lines of the groups, and the population line with its interval.

    Parameters
    ----------
    fit : LinearMixedModelResult
    x : str, optional
        Predictor along the horizontal axis; by default one that varies within the groups, a
        number if there is one, with a random slope if there is one.
    group : str, optional
        Grouping factor; by default the one with the most levels.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.
    max_groups : int, default 60
        Of more groups, so many are drawn, evenly over the levels.
    level : float, default 0.95
        Of the confidence interval of the population line.
    units : mapping of str to str, optional
        Units of variables.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    LmmError
        If the model has no predictor, or not that one.

    Notes
    -----
    Other predictors stand at their mean (numbers) or their commonest level (factors): within the
    group for a group's line, over all rows for the population line.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> ax = lj.plot.trajectories(fit, units={"Reaction": "ms", "Days": "days"})
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Days', 'Reaction (ms)')
    """
    t = term_position(fit, group)
    data = lines(fit, x, t)
    term = fit.design.terms[t]
    ax = axes(ax, (6.8, 4.8))
    chosen = _chosen(fit, t, max_groups)
    crowd = float(np.interp(len(chosen), [5, 60], [0.9, 0.45]))
    for i, rows in enumerate(chosen):
        ax.plot(
            *_observed(data, rows),
            color=DATA,
            lw=0.6,
            alpha=0.55 * crowd + 0.1,
            marker="o",
            ms=2.5,
            mew=0,
            label=f"{term.group}: observed" if i == 0 else None,
            zorder=1,
        )
        ax.plot(
            *_group_line(data, rows, term.group),
            color=MODEL,
            lw=0.9,
            alpha=crowd,
            label=f"{term.group}: model" if i == 0 else None,
            zorder=2,
        )
    others = data.elsewhere()
    new, grid = data.rows(np.arange(fit.nobs))
    band = data.predict(new, include_re=False, interval="confidence", level=level)
    ax.fill_between(grid, band["lower"], band["upper"], color=LINE, alpha=0.22, lw=0, zorder=3)
    ax.plot(
        grid,
        band["fit"],
        color=LINE,
        lw=2.6,
        label=f"population{f' at {others}' if others else ''}, with {100 * level:g}% interval",
        zorder=4,
    )
    _horizontal(ax, data)
    ax.set_xlabel(with_unit(fit, data.x_name, units))
    ax.set_ylabel(with_unit(fit, fit.design.y_name, units))
    shown = len(chosen)
    some = f" ({shown} of {len(term.levels):,} {term.group})" if shown < len(term.levels) else ""
    ax.set_title(f"Observed and fitted trajectories{some}", fontsize=11, loc="left")
    ax.legend(frameon=False, fontsize=9, loc="best")
    return ax


def group_panels(
    fit: LinearMixedModelResult,
    x: str | None = None,
    group: str | None = None,
    *,
    max_groups: int = 24,
    figure: Any = None,
    units: Units = None,
) -> Figure:
    """One small panel a group: its data, its own line, and the population's for comparison.

    Parameters
    ----------
    fit : LinearMixedModelResult
    x, group : str, optional
        As in :func:`trajectories`.
    max_groups : int, default 24
        Of more groups, so many are drawn, evenly over the levels.
    figure : matplotlib Figure or SubFigure, optional
        An empty one to draw on; by default a new one.
    units : mapping of str to str, optional
        Units of variables.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    LmmError
        If the model has no predictor, or not that one.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> figure = lj.plot.group_panels(fit)
    >>> sum(ax.get_visible() for ax in figure.axes)
    18
    """
    t = term_position(fit, group)
    data = lines(fit, x, t)
    term = fit.design.terms[t]
    chosen = _chosen(fit, t, max_groups)
    across = min(len(chosen), 6)
    down = -(-len(chosen) // across)
    size = (1.55 * across + 0.8, 1.55 * down + 0.9)
    figure, grid = panels(figure, down, across, size, sharex=True, sharey=True)
    for ax, rows in zip(grid.flat, chosen, strict=False):
        new, places = data.rows(rows)
        population = data.predict(new, include_re=False).to_numpy()
        ax.plot(places, population, color=LINE, lw=1.2, ls=(0, (4, 2)), label="population")
        ax.plot(*_group_line(data, rows, term.group), color=MODEL, lw=1.6, label="model")
        ax.plot(*_observed(data, rows), "o", color=DATA, ms=3, mew=0, label="observed")
        ax.set_title(str(term.levels[term.index[rows[0]]]), fontsize=9, pad=3)
        ax.tick_params(labelsize=8, color=FAINT)
        _horizontal(ax, data)
    for ax in grid.flat[len(chosen) :]:
        ax.set_visible(False)
    # Under a panel that is not there, the one above it shows the axis.
    for column in range(across):
        last = max(i for i in range(down) if grid[i, column].get_visible())
        grid[last, column].tick_params(labelbottom=True)
    figure.supxlabel(with_unit(fit, data.x_name, units), fontsize=10)
    figure.supylabel(with_unit(fit, fit.design.y_name, units), fontsize=10)
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(),
        frameon=False,
        fontsize=9,
        loc="outside upper right",
        ncols=3,
    )
    return figure
