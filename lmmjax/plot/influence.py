"""Which rows or groups decide a fit: Cook's distances and DFBETAS, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.influence import Influence
from lmmjax.plot.canvas import COLOURS, DATA, FAINT, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lmmjax.result import LinearMixedModelResult

#: A rule of thumb.
RULE: dict[str, Any] = {"color": "black", "lw": 1, "ls": (0, (4, 3)), "zorder": 1}
#: Up to so many units have their labels on the axis.
NAMED = 40


def influence(
    fit: LinearMixedModelResult | Influence,
    groups: str | None = None,
    kind: Literal["cooksd", "dfbetas"] = "cooksd",
    *,
    ax: Axes | None = None,
    label: int = 3,
) -> Axes:
    """Cook's distance, or DFBETAS, of each row or group.

    The dashed line is a rule of thumb for what deserves a look: 4 over the number of units for
    Cook's distance, 2 over its root for DFBETAS.

    Parameters
    ----------
    fit : LinearMixedModelResult or Influence
        A fit, or what ``fit.influence(...)`` gave.
    groups : str, optional
        What to leave out of a fit, as in ``fit.influence``: by default single rows.
    kind : {"cooksd", "dfbetas"}, default "cooksd"
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.
    label : int, default 3
        How many of the largest are named.

    Returns
    -------
    matplotlib.axes.Axes

    Notes
    -----
    Belsley, Kuh & Welsch (1980), Regression Diagnostics; Nieuwenhuis, te Grotenhuis & Pelzer
    (2012), R Journal 4(2), 38-47, for the lines.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> lj.plot.influence(fit, "Subject").get_ylabel()
    "Cook's distance"
    """
    if not isinstance(fit, Influence):
        fit = fit.influence(groups)
    elif groups is not None and groups != fit.unit:
        raise LmmError(f"this is of each {fit.unit}: give the fit itself to leave out {groups!r}")
    return index_plot(fit, kind, ax=ax, label=label)


def index_plot(
    found: Influence, kind: str = "cooksd", *, ax: Axes | None = None, label: int = 3
) -> Axes:
    """Draw an influence that was computed already; arguments as in :func:`influence`."""
    if kind not in ("cooksd", "dfbetas"):
        raise LmmError(f"kind must be 'cooksd' or 'dfbetas', not {kind!r}")
    ax = axes(ax, (7.2, 4.2))
    count = len(found.frame)
    at = np.arange(count)
    if kind == "cooksd":
        size = found.frame["cooksd"].to_numpy()
        ax.vlines(at, 0.0, size, color=DATA, lw=1.2 if count <= 200 else 0.6)
        if count <= 200:
            ax.plot(at, size, "o", color=DATA, ms=4)
        bound, rule = 4.0 / count, "4 / number"
        ax.axhline(bound, **RULE)
        ax.set_ylabel("Cook's distance")
        height = size
    else:
        values = found.dfbetas.to_numpy()
        ax.axhline(0.0, color=FAINT, lw=1, zorder=0)
        for j, name in enumerate(found.dfbetas.columns):
            style: dict[str, Any] = {
                "color": COLOURS[j % len(COLOURS)],
                "marker": MARKERS[j % len(MARKERS)],
            }
            ax.plot(at, values[:, j], ls="", ms=5 if count <= 200 else 3, label=str(name), **style)
        bound, rule = 2.0 / np.sqrt(count), "2 / √ number"
        ax.axhline(bound, **RULE)
        ax.axhline(-bound, **RULE)
        ax.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        ax.set_ylabel("DFBETAS")
        largest = np.argmax(np.nan_to_num(np.abs(values)), axis=1)
        height = values[at, largest]
        size = np.abs(height)
    units = [str(unit) for unit in found.frame.index]
    if count <= NAMED and found.unit != "row":
        ax.set_xticks(at, units, rotation=90 if count > 8 else 0)
    for i in np.argsort(-np.nan_to_num(size), kind="stable")[:label]:
        ax.annotate(
            units[i],
            (float(at[i]), float(height[i])),
            xytext=(0, 5 if height[i] >= 0 else -5),
            textcoords="offset points",
            ha="center",
            va="bottom" if height[i] >= 0 else "top",
            fontsize=8,
        )
    ax.annotate(
        rule,
        (1.0, bound),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8,
    )
    ax.margins(y=0.12)
    if kind == "cooksd":
        ax.set_ylim(bottom=0.0)
    ax.set_xlabel("Row" if found.unit == "row" else found.unit)
    how = "fitted again without it" if found.refitted else "variances held"
    ax.set_title(f"Influence of each {found.unit} ({how})", fontsize=11, loc="left")
    return ax
