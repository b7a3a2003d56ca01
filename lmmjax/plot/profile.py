"""Profiles of a fit's parameters: zeta, or the density that it implies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.plot.canvas import BAND, FAINT, LINE, MODEL, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lmmjax.inference.profiling import Curve
    from lmmjax.reading.profile import Profile

#: Panels in a row.
COLUMNS = 4


def profile(
    profile: Profile, kind: Literal["zeta", "density"] = "zeta", *, figure: Any = None
) -> Figure:
    """Profile likelihood of each parameter, a panel each.

    Zeta is the signed root of the deviance's increase. Where it is straight, the deviance is
    quadratic and a Wald interval is as good; where it bends, it is not. The dashed line is that of
    a quadratic. The band is the interval at the profile's level.

    Parameters
    ----------
    profile : Profile
        From ``fit.profile()``.
    kind : {"zeta", "density"}, default "zeta"
        Zeta, or the density of the parameter of which zeta is a standard normal variable.
    figure : matplotlib Figure or SubFigure, optional
        An empty one to draw on; by default a new one.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    LmmError
        If `kind` is neither.

    Notes
    -----
    Bates & Watts (1988), Nonlinear Regression Analysis and Its Applications, chapter 6.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> [ax.get_title(loc="left") for ax in lj.plot.profile(fit.profile(0.95)).axes]
    ['sd_(Intercept)|Batch', 'sigma', '(Intercept)']
    """
    if kind not in ("zeta", "density"):
        raise LmmError(f"kind must be 'zeta' or 'density', not {kind!r}")
    curves = [curve for curve in profile.curves if curve.value.size > 1]
    if not curves:
        raise LmmError("the profile has no curve to draw")
    columns = min(len(curves), COLUMNS)
    rows = -(-len(curves) // columns)
    size = (max(4.6, 3.1 * columns), 0.6 + 2.6 * rows)
    figure, grid = panels(figure, rows, columns, size)
    limits = profile.conf_int()
    for ax, curve in zip(grid.flat, curves, strict=False):
        name = curve.parameter.name
        low, high = limits.loc[name].to_numpy(float)
        if curve.monotone:
            _draw(ax, curve, kind, low, high)
        else:
            ax.plot(curve.value, curve.zeta, ".", color=MODEL)
        ax.set_title(name, fontsize=10, loc="left")
    for ax in list(grid.flat)[len(curves) :]:
        ax.remove()
    for ax in grid[:, 0]:
        ax.set_ylabel("Zeta" if kind == "zeta" else "Density")
    figure.suptitle(f"Profile likelihood (band: {100 * profile.level:g}% interval)", fontsize=11)
    return figure


def _draw(ax: Axes, curve: Curve, kind: str, low: float, high: float) -> None:
    from lmmjax.reading.profile import dense_curve

    value, zeta, rate = dense_curve(curve)
    # An interval without an end on one side: the band ends with the curve.
    low, high = (x if np.isfinite(x) else end for x, end in ((low, value[0]), (high, value[-1])))
    ax.axvspan(low, high, color=BAND, alpha=0.35, lw=0)
    ax.axvline(curve.estimate, color=FAINT, lw=1)
    if kind == "density":
        ax.plot(value, np.exp(-0.5 * zeta**2) * rate / np.sqrt(2.0 * np.pi), color=MODEL, lw=1.6)
        ax.set_ylim(0)
        return
    ax.axhline(0.0, color=FAINT, lw=1)
    slope = curve.slope[curve.value == curve.estimate][0]
    if np.isfinite(slope) and slope > 0:
        ax.plot(curve.estimate + slope * zeta, zeta, color=LINE, lw=1, ls="--")
    ax.plot(value, zeta, color=MODEL, lw=1.6)
    ax.plot(curve.value, curve.zeta, ".", color=MODEL, ms=4)
    margin = 0.06 * (value[-1] - value[0])
    ax.set_xlim(value[0] - margin, value[-1] + margin)
