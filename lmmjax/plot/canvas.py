"""Axes in one style, labels with units, and which term is meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lmmjax.result import LinearMixedModelResult

# Okabe & Ito (2008), Color Universal Design.
DATA = "#5f6b76"  # what was measured: a grey
MODEL = "#0072B2"  # what was fitted: blue
LINE = "#D55E00"  # the population line, trends: vermillion
BAND = "#9fb8c9"
FAINT = "#c9ced3"
# Several lines or series in one picture.
COLOURS = (MODEL, LINE, DATA, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*X"

Units = Mapping[str, str] | None

#: Asks for a figure of the right size that pyplot does not know of: nothing to show or to close.
DETACHED = object()


def need_matplotlib() -> None:
    """Raise a clear error where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise LmmError(
            "pictures need matplotlib, which is not installed: pip install 'lmmjax[plot]'"
        ) from error


def axes(ax: Axes | None, size: tuple[float, float] = (6.4, 4.2)) -> Axes:
    """The given axes, or those of a new figure, without the clutter."""
    need_matplotlib()
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=size, layout="constrained")
    assert ax is not None
    return bare(ax)


def bare(ax: Axes) -> Axes:
    """Axes without the upper and right borders."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=9)
    return ax


def panels(figure: Any, rows: int, columns: int, size: tuple[float, float], **kwargs: Any) -> Any:
    """A figure (the given one, or a new one) and its axes, shape (rows, columns)."""
    need_matplotlib()
    if figure is DETACHED:
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
    elif figure is None:
        import matplotlib.pyplot as plt

        figure = plt.figure(figsize=size, layout="constrained")
    elif figure.get_layout_engine() is None:
        figure.set_layout_engine("constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **kwargs)
    for ax in grid.flat:
        bare(ax)
    return figure, grid


def legend_below(figure: Any, ax: Axes) -> None:
    """The legend of `ax` under the whole figure."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, fontsize=9, loc="outside lower center", ncols=3)


def known_units(fit: LinearMixedModelResult, units: Units) -> Mapping[str, str]:
    """Units as given, else those that the data frame carries."""
    if units is not None:
        return units
    carried = getattr(fit.data, "attrs", {})
    found = carried.get("units", {}) if isinstance(carried, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def with_unit(fit: LinearMixedModelResult, name: str, units: Units, what: str = "") -> str:
    """A label such as ``Reaction (ms)``; `what` stands for the name where given."""
    unit = known_units(fit, units).get(name)
    label = what or name
    # "Days (days)" says nothing twice.
    return f"{label} ({unit})" if unit and unit.lower() != label.lower() else label


def effect_label(fit: LinearMixedModelResult, column: str, units: Units) -> str:
    """A random effect's name with its unit: ``(Intercept), ms``, ``Days, ms / days``."""
    known = known_units(fit, units)
    unit, own = known.get(fit.design.y_name), known.get(column)
    if unit and column == "(Intercept)":
        return f"{column}, {unit}"
    return f"{column}, {unit} / {own}" if unit and own else column


def term_position(fit: LinearMixedModelResult, group: str | None) -> int:
    """Which random-effects term is meant; by default the one with the most levels."""
    groups = [term.group for term in fit.design.terms]
    if group is None:
        return 0
    if group not in groups:
        raise LmmError(
            f"{group!r} is no grouping factor of the model: they are {', '.join(map(repr, groups))}"
        )
    return groups.index(group)


def marker(n: int) -> dict[str, float]:
    """Size and opacity of n points: the more, the lighter."""
    return {
        "s": float(np.interp(np.log10(max(n, 1)), [2, 3, 4, 5], [22, 12, 6, 3])),
        "alpha": float(np.interp(np.log10(max(n, 1)), [2, 3, 4, 5], [0.75, 0.5, 0.25, 0.12])),
    }


def points(ax: Axes, x: np.ndarray, y: np.ndarray, **kwargs: Any) -> None:
    """A scatter of what was measured."""
    style: dict[str, Any] = {"color": DATA, "linewidths": 0, "rasterized": len(x) > 5000}
    style |= marker(len(x)) | kwargs
    ax.scatter(x, y, **style)
