"""Several pictures at once: on one page, or in files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmmjax.errors import LmmError
from lmmjax.plot.canvas import DETACHED, Units, need_matplotlib, panels
from lmmjax.plot.lines import group_panels, trajectories
from lmmjax.plot.quantiles import qq, qq_random
from lmmjax.plot.random_effects import caterpillar, shrinkage
from lmmjax.plot.residuals import residuals, scale_location

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lmmjax.result import LinearMixedModelResult


def diagnostics(fit: LinearMixedModelResult, *, figure: Any = None, units: Units = None) -> Figure:
    """Residuals, their quantiles and their spread, on one page.

    Parameters
    ----------
    fit : LinearMixedModelResult
    figure : matplotlib Figure or SubFigure, optional
        An empty one to draw on; by default a new one.
    units : mapping of str to str, optional
        Units of variables.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> len(lj.plot.diagnostics(fit).axes)
    3
    """
    figure, grid = panels(figure, 1, 3, (13.0, 4.0))
    residuals(fit, ax=grid[0, 0], units=units)
    qq(fit, ax=grid[0, 1])
    scale_location(fit, ax=grid[0, 2], units=units)
    return figure


def save_pictures(
    fit: LinearMixedModelResult,
    folder: str | Path,
    *,
    dpi: int = 130,
    units: Units = None,
) -> list[Path]:
    """Save every picture of a fit as a PNG file.

    Parameters
    ----------
    fit : LinearMixedModelResult
    folder : path
        It is made if need be; files of the same names are replaced.
    dpi : int, default 130
        Dots per inch.
    units : mapping of str to str, optional
        Units of variables.

    Returns
    -------
    list of Path
        ``trajectories.png`` and ``group_panels.png`` (where the model has a predictor),
        ``residuals.png``, ``qq.png``, ``scale_location.png``, and for each grouping factor
        ``caterpillar``, ``qq_random`` and ``shrinkage``, with its name if there are several.

    Examples
    --------
    >>> import tempfile
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in lj.plot.save_pictures(fit, folder, dpi=40)]
    ['residuals.png', 'qq.png', 'scale_location.png', 'caterpillar.png', 'qq_random.png',
     'shrinkage.png']
    """
    need_matplotlib()
    from matplotlib.figure import Figure

    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LmmError(f"cannot make the folder {str(folder)!r}: {error.strerror}") from error
    saved: list[Path] = []

    def save(name: str, draw: Any, size: tuple[float, float] | None, **kwargs: Any) -> None:
        # Not through pyplot: no window, and nothing is left open.
        if size is None:
            figure = draw(fit, figure=DETACHED, **kwargs)
        else:
            figure = Figure(figsize=size, layout="constrained")
            draw(fit, ax=figure.subplots(), **kwargs)
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=dpi)
        saved.append(path)

    if fit.design.coding.spec.names or any(bar.names for bar in fit.design.coding.spec.bars):
        save("trajectories", trajectories, (6.8, 4.8), units=units)
        save("group_panels", group_panels, None, units=units)
    save("residuals", residuals, (6.4, 4.2), units=units)
    save("qq", qq, (5.2, 4.4))
    save("scale_location", scale_location, (6.4, 4.2), units=units)
    for term in fit.design.terms:
        own = f"_{_file_name(term.group)}" if len(fit.design.terms) > 1 else ""
        for name, draw in (
            ("caterpillar", caterpillar),
            ("qq_random", qq_random),
            ("shrinkage", shrinkage),
        ):
            save(name + own, draw, None, group=term.group, units=units)
    return saved


def _file_name(text: str) -> str:
    """A grouping factor's name as part of a file's."""
    return "".join(c if c.isalnum() else "_" for c in text)
