"""Marginal means, slopes and contrasts with their intervals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.columns import label
from lmmjax.errors import LmmError
from lmmjax.plot.canvas import DATA, FAINT, MODEL, Units, known_units, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lmmjax.inference.marginal_estimates import MarginalEstimates

#: With more rows than this their names would overlap.
MAX_ROWS = 200


def means(estimates: MarginalEstimates, *, figure: Any = None, units: Units = None) -> Figure:
    """Draw estimates with their intervals, a panel for each level of ``by``.

    Contrasts and slopes have a line at zero (ratios at one); filled points are those whose interval
    excludes it.

    Parameters
    ----------
    estimates : MarginalEstimates
        From ``fit.emmeans(...)``, ``fit.emtrends(...)``, or contrasts of these.
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
        There are too many rows to tell apart.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("angle ~ recipe + temp + (1 | recipe:replicate)", lj.datasets.load("cake"))
    >>> ax = lj.plot.means(fit.emmeans("recipe")).axes[0]
    >>> [tick.get_text() for tick in ax.get_yticklabels()]
    ['A', 'B', 'C']
    """
    shown = replace(estimates, interval=True, tested=False)
    frame, fit = shown.frame, shown.fit
    value = frame[shown.estimate_name].to_numpy()
    low, high = frame.iloc[:, -2].to_numpy(), frame.iloc[:, -1].to_numpy()
    if len(frame) > MAX_ROWS:
        raise LmmError(f"{len(frame)} estimates are too many to draw: at most {MAX_ROWS}")
    groups = shown.family.groups
    count = max(map(len, groups))
    columns = min(len(groups), 3)
    lines = -(-len(groups) // columns)
    size = (max(5.2, 3.2 * columns), lines * float(np.clip(1.3 + 0.3 * count, 2.2, 10.0)))
    figure, grid = panels(figure, lines, columns, size, sharex=True, sharey=len(groups) > 1)
    nothing = 1.0 if shown.estimate_name == "ratio" else 0.0
    compared = shown.estimate_name not in ("emmean", "response")
    own = [c for c in shown.labels.columns if c not in shown.by]
    for ax, rows in zip(grid.flat, groups, strict=False):
        place = np.arange(len(rows))
        clear = (
            (low[rows] > nothing) | (high[rows] < nothing) if compared else np.full(len(rows), True)
        )
        if compared:
            ax.axvline(nothing, color=FAINT, lw=1, zorder=0)
        for mask, color, fill in ((clear, MODEL, MODEL), (~clear, DATA, "white")):
            ax.hlines(place[mask], low[rows][mask], high[rows][mask], color, lw=1.6)
            ax.scatter(
                value[rows][mask], place[mask], 26, facecolor=fill, edgecolor=color, zorder=3
            )
        names = [" ".join(label(frame[c].iloc[row]) for c in own) for row in rows]
        ax.set_yticks(place, names)
        # The first row stands above, as in the table.
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.tick_params(axis="y", length=0, labelsize=9 if count <= 40 else 6)
        if shown.by:
            where = shown.labels.iloc[rows[0]]
            title = ", ".join(f"{name} = {label(where[name])}" for name in shown.by)
            ax.set_title(title, fontsize=10, loc="left")
    for ax in list(grid.flat)[len(groups) :]:
        ax.set_visible(False)
    grid[0, 0].set_ylabel(", ".join(own) if own != ["1"] else "")
    what = {"emmean": f"Mean of {fit.design.y_name}", "estimate": "Contrast", "ratio": "Ratio"}
    what["response"] = "Mean, back-transformed"
    text = what.get(shown.estimate_name, shown.estimate_name)
    unit = known_units(fit, units).get(fit.design.y_name)
    if unit and shown.estimate_name in ("emmean", "estimate"):
        text += f" ({unit})"
    said = f", {shown.adjust}-adjusted" if any("adjustment" in m for m in shown.messages) else ""
    filled = f"; filled: excludes {nothing:g}" if compared else ""
    figure.supxlabel(f"{text}, with {100 * shown.level:g}% interval{said}{filled}", fontsize=10)
    return figure
