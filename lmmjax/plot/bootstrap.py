"""Histograms of bootstrap replicates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.plot.canvas import DATA, MODEL, panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lmmjax.bootstrap.result import Bootstrap


def bootstrap(
    found: Bootstrap, statistics: str | Sequence[str] | None = None, *, figure: Any = None
) -> Figure:
    """Distribution of each statistic over the replicates, with the original value.

    Parameters
    ----------
    found : Bootstrap
    statistics : str or sequence of str, optional
        Names, as printed; by default all.
    figure : matplotlib Figure, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    LmmError
        There is no such statistic.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> len(lj.plot.bootstrap(fit.bootstrap(20), ["Days", "sigma"]).axes)
    2
    """
    names = list(found.replicates)
    if isinstance(statistics, str):
        statistics = [statistics]
    for name in statistics or ():
        if name not in names:
            raise LmmError(f"{name!r} is no statistic of this bootstrap; they are {names}")
    names = list(statistics or names)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure, grid = panels(figure, rows, columns, (3.2 * columns, 2.5 * rows))
    for ax in grid.flat[len(names) :]:
        ax.remove()
    original = dict(zip(found.original.index, found.original.to_numpy(), strict=True))
    for ax, name in zip(grid.flat, names, strict=False):
        values = found.replicates[name].to_numpy()
        ax.hist(values[np.isfinite(values)], bins="auto", color=DATA, alpha=0.6, edgecolor="white")
        ax.axvline(original[name], color=MODEL, lw=1.8)
        ax.set_title(name, fontsize=9)
        ax.set_yticks([])
    return figure
