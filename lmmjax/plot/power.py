"""Power along a sample size or an effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmmjax.plot.canvas import COLOURS, MARKERS, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lmmjax.studies.curve import PowerCurve


def power(curve: PowerCurve, *, ax: Axes | None = None, target: float | None = 0.8) -> Axes:
    """Power along the curve's first axis with its exact 95 % band, a line for each other cell.

    Parameters
    ----------
    curve : PowerCurve
    ax : matplotlib Axes, optional
    target : float or None, default 0.8
        Where to draw a level line.

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (1 | Subject)", lj.datasets.load("sleepstudy"))
    >>> truth = lj.TrueParameters.from_fit(fit).with_fixed(Days=2)
    >>> curve = lj.power_curve(fit, truth, along={"groups": [6, 12]}, nsim=200)
    >>> lj.plot.power(curve).get_ylabel()
    'power of Days'
    """
    ax = axes(ax, (6.4, 4.2))
    frame = curve.frame
    first, *others = list(curve.cells[0][0])
    parts = list(frame.groupby(others, sort=False)) if others else [((), frame)]
    for i, (values, part) in enumerate(parts):
        values = values if isinstance(values, tuple) else (values,)
        label = ", ".join(f"{name} = {value}" for name, value in zip(others, values, strict=True))
        colour = COLOURS[i % len(COLOURS)]
        x = part[first].to_numpy()
        ax.fill_between(x, part.lower, part.upper, color=colour, alpha=0.2, lw=0)
        marker = MARKERS[i % len(MARKERS)]
        ax.plot(x, part.power, color=colour, marker=marker, ms=5, label=label or None)
    if target is not None:
        ax.axhline(target, color="0.4", lw=1, ls="--", zorder=0)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel(first)
    ax.set_ylabel(f"power of {frame.test[0]}")
    if others:
        ax.legend(frameon=False, fontsize=9)
    return ax
