"""`power_curve()`: power along sample sizes and effects."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmmjax.design import Design
from lmmjax.errors import LmmError, LmmWarning, warn
from lmmjax.likelihood.plan import is_nested
from lmmjax.simulation.given import read_number
from lmmjax.simulation.parameters import TrueParameters
from lmmjax.studies.checkpoint import Checkpoint
from lmmjax.studies.extend import check_count, more_groups, more_rows, warn_of_structures
from lmmjax.studies.study import PowerResult, power

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult

AXES = ("groups", "per_group", "effect")


@dataclass(frozen=True, eq=False, repr=False)
class PowerCurve:
    """Power in every cell of a grid; prints, and has a row a cell as ``frame``.

    Attributes
    ----------
    cells : tuple of (mapping, PowerResult)
        What was varied, and what was found.
    """

    cells: tuple[tuple[Mapping[str, Any], PowerResult], ...]

    @property
    def frame(self) -> pd.DataFrame:
        """What was varied, then the columns of :class:`PowerResult`'s frame."""
        import pandas as pd

        rows = [{**at, **found.frame.iloc[0].to_dict()} for at, found in self.cells]
        return pd.DataFrame(rows)

    def plot(self, ax: Any = None) -> Any:
        """Power along the first axis with its 95 % band; see :func:`lmmjax.plot.power`."""
        from lmmjax.plot import power as draw

        return draw(self, ax=ax)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.cells)} cells>"

    def __str__(self) -> str:
        frame = self.frame
        varied = list(self.cells[0][0])
        shown = frame[[*varied, "power", "lower", "upper", "nsim", "singular"]]
        head = f"Power of {frame.test[0]} at alpha = {self.cells[0][1].alpha:g}"
        return f"{head}\n{shown.round(3).to_string(index=False)}"


def power_curve(
    model: Design | LinearMixedModelResult | Callable[..., Design],
    parameters: TrueParameters | Callable[[Design], TrueParameters],
    test: Any = None,
    *,
    along: Mapping[str, Sequence[Any]],
    group: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    **options: Any,
) -> PowerCurve:
    """Power in every cell of a grid of sample sizes and effects.

    Parameters
    ----------
    model : Design, LinearMixedModelResult, or callable
        A pilot, which :func:`lmmjax.extend` makes larger or smaller (a fit's method stays); or a
        function of the sizes in `along`, by name, that gives a design.
    parameters : TrueParameters, or callable
        What is true; where it depends on the design, a function of it.
    test : optional
        As in :func:`lmmjax.power`: by default the last coefficient.
    along : mapping
        Values by axis: ``"groups"`` (levels of `group`), ``"per_group"`` (rows in each),
        ``"effect"`` (of the tested coefficient); for a function, any names that it takes.
    group : str, optional
        Grouping factor that grows; by default the one in which all others are nested. Of crossed
        factors one must be named.
    checkpoint : path, optional
        A file to go on from.
    **options
        For :func:`lmmjax.power`.

    Returns
    -------
    PowerCurve

    Raises
    ------
    LmmError
        An axis is unknown or empty, an argument is not possible, or grouping factors are crossed
        and `group` does not say which of them grows.

    Warns
    -----
    LmmWarning
        Sizes vary, and the pilot fit has covariance structures of its own; or a size cannot keep
        the shares of a predictor of groups (:func:`lmmjax.extend`).

    Notes
    -----
    All cells draw from the same random numbers: their differences are sharper than their intervals.

    Examples
    --------
    >>> import lmmjax as lj
    >>> def design(groups):
    ...     frame = lj.simulate_design({"id": groups}, within={"time": range(5)})
    ...     return lj.Design.from_formula("y ~ time + (1 | id)", frame)
    >>> truth = lj.TrueParameters.for_design(design(10), {"time": 0.5}, sd=2, sigma=3)
    >>> curve = lj.power_curve(design, truth, "time", along={"groups": [10, 40]}, nsim=500, key=1)
    >>> small, large = curve.frame.power
    >>> small < large
    True
    """
    axes = _axes(along)
    if not callable(model):
        unknown = [name for name in axes if name not in AXES]
        if unknown:
            raise LmmError(f"along knows {', '.join(AXES)}, not {', '.join(map(repr, unknown))}")
        for count in (*axes.get("groups", ()), *axes.get("per_group", ())):
            check_count(count)
    if "effect" in axes and not (test is None or isinstance(test, str)):
        raise LmmError("an effect can be varied where the test is one coefficient by its name")
    for effect in axes.get("effect", ()):
        read_number(effect, "an effect in along")
    kept = None if checkpoint is None else Checkpoint(checkpoint)
    if hasattr(model, "raw") and set(axes) - {"effect"}:
        fit: LinearMixedModelResult = model  # type: ignore[assignment]
        warn_of_structures(fit)
        # A design does not know its fit's method.
        options["method"] = options.get("method") or ("REML" if fit.raw.reml else "ML")
        model = fit.design
    grid = list(itertools.product(*(range(len(values)) for values in axes.values())))
    sized = {} if callable(model) else _all_sizes(model, axes, group)
    cells, pilot, made = [], model, None
    for places in grid:
        at = {name: axes[name][i] for name, i in zip(axes, places, strict=True)}
        sizes = {name: value for name, value in at.items() if name != "effect"}
        where = tuple(sizes.values())
        if where != made:  # neighbours that differ in their effect share a design
            pilot, made = model(**sizes) if callable(model) else sized[where], where
        design: Design = pilot.design if hasattr(pilot, "raw") else pilot  # type: ignore
        truth = parameters(design) if callable(parameters) else parameters
        if "effect" in at:
            name = test if isinstance(test, str) else design.x_names[-1]
            truth = truth.with_fixed({name: at["effect"]})
        label = ", ".join(f"{name} = {value}" for name, value in at.items())
        found = power(pilot, truth, test, checkpoint=kept, cell=label, **options)  # type: ignore
        cells.append((at, found))
    return PowerCurve(tuple(cells))


def _axes(along: Any) -> dict[str, list[Any]]:
    """The values of each axis as lists."""
    if not isinstance(along, Mapping) or not along:
        raise LmmError(
            f"along must name at least one axis, as {{'groups': [20, 40]}}, not {along!r}"
        )
    axes = {}
    for name, values in along.items():
        listed = not isinstance(values, str | Mapping) and hasattr(values, "__iter__")
        axes[name] = list(values) if listed else []
        if not axes[name]:
            raise LmmError(f"along[{name!r}] must have at least one value in a list: {values!r}")
    return axes


def _all_sizes(
    model: Design | LinearMixedModelResult,
    axes: Mapping[str, Sequence[Any]],
    group: str | None,
) -> dict[tuple[Any, ...], Design | LinearMixedModelResult]:
    """The pilot made larger or smaller, by its sizes; says which shares that does not keep."""
    varied = [name for name in axes if name != "effect"]
    if not varied:
        return {(): model}
    pilot: Design = model  # type: ignore[assignment]
    name = _growing(pilot) if group is None else group
    out: dict[tuple[Any, ...], Design | LinearMixedModelResult] = {}
    notes: dict[str, None] = {}
    for values in itertools.product(*(axes[each] for each in varied)):
        design, sizes = pilot, dict(zip(varied, values, strict=True))
        for size, change in (("per_group", more_rows), ("groups", more_groups)):
            if size in sizes:
                design, note = change(design, name, sizes[size])
                notes.update(dict.fromkeys([note] if note else []))
        out[values] = design
    if notes:
        warn("; ".join(notes), LmmWarning)
    return out


def _growing(pilot: Design) -> str:
    """Return the factor in which all others are nested, or raise: of crossed ones any may grow."""
    top = min(pilot.terms, key=lambda term: len(term.levels))
    if not all(is_nested(term.index, top.index) for term in pilot.terms):
        shown = " and ".join(f"{term.group!r} ({len(term.levels)})" for term in pilot.terms)
        raise LmmError(
            f"the grouping factors {shown} are crossed, so either may grow: say which by group="
        )
    return top.group
