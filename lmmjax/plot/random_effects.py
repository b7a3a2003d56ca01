"""Random effects with their uncertainty, and how far the model pulled them in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.plot.canvas import (
    DATA,
    FAINT,
    LINE,
    MODEL,
    Units,
    effect_label,
    legend_below,
    panels,
    term_position,
)
from lmmjax.reading.coefficients import check_level

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lmmjax.result import LinearMixedModelResult

#: With more levels than this their names would overlap.
MAX_NAMES = 80


def caterpillar(
    fit: LinearMixedModelResult,
    group: str | None = None,
    *,
    level: float = 0.95,
    figure: Any = None,
    units: Units = None,
) -> Figure:
    """Random effects of every level with intervals from their conditional variances.

    Levels are sorted by their first effect, in all panels alike. Filled points are those whose
    interval excludes zero.

    Parameters
    ----------
    fit : LinearMixedModelResult
    group : str, optional
        Grouping factor; by default the one with the most levels.
    level : float, default 0.95
        Of the intervals, which are normal and take the estimated variances as known.
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
    >>> [ax.get_title(loc="left") for ax in lj.plot.caterpillar(fit).axes]
    ['(Intercept)', 'Days']
    """
    from scipy.special import ndtri

    level = check_level(level)
    t = term_position(fit, group)
    term, modes = fit.design.terms[t], fit.raw.modes[t]
    variances = np.diagonal(fit.raw.conditional_covariances(t), axis1=1, axis2=2)
    half = ndtri(0.5 + 0.5 * level) * np.sqrt(variances)
    count, k = modes.shape
    order = np.argsort(modes[:, 0], kind="stable")
    place = np.arange(count)
    named = count <= MAX_NAMES
    height = float(np.clip(1.4 + 0.15 * count, 2.8, 10.0)) if named else 5.5
    figure, grid = panels(figure, 1, k, (max(4.8, 3.4 * k), height), sharey=True)
    for j, ax in enumerate(grid[0]):
        value, reach = modes[order, j], half[order, j]
        clear = np.abs(value) > reach
        ax.axvline(0.0, color=FAINT if named else "black", lw=1, zorder=0 if named else 3)
        # Thousands of intervals merge into an area: pale, so that the effects stand out.
        style = {"lw": 1.3} if named else {"lw": 0.6, "alpha": 0.35}
        low, high = value - reach, value + reach
        ax.hlines(place[~clear], low[~clear], high[~clear], DATA, **style)
        ax.hlines(place[clear], low[clear], high[clear], MODEL, **style)
        if named:
            hollow: dict[str, Any] = {"facecolor": "white", "edgecolor": DATA, "lw": 1}
            ax.scatter(value[~clear], place[~clear], 20, zorder=3, **hollow)
            ax.scatter(value[clear], place[clear], 20, color=MODEL, lw=1, zorder=3)
        else:
            ax.plot(value, place, ".", color="black", ms=2, mew=0, zorder=3)
        ax.set_title(effect_label(fit, term.columns[j], units), fontsize=11, loc="left")
        ax.set_ylim(-1, count)
    figure.supxlabel(
        f"Random effect, with {100 * level:g}% interval "
        f"({'filled' if named else 'blue'}: excludes zero)",
        fontsize=10,
    )
    first = grid[0, 0]
    if named:
        first.set_yticks(place, [term.levels[i] for i in order])
        first.tick_params(axis="y", labelsize=8 if count <= 40 else 6, length=0)
        first.set_ylabel(term.group)
    else:
        first.set_yticks([])
        first.set_ylabel(f"{term.group}: {count:,} levels, sorted by {term.columns[0]}")
    return figure


def separate_effects(fit: LinearMixedModelResult, t: int) -> np.ndarray:
    """Effects of each level from its own rows alone: least squares, without shrinkage.

    The fixed effects and the other terms' effects are taken as the model has them.

    Returns
    -------
    ndarray, shape (L, k)
        NaN for a level whose rows do not determine its effects.
    """
    design = fit.design
    term, modes = design.terms[t], fit.raw.modes[t]
    own = np.sum(term.Z * modes[term.index], axis=1)
    rest = design.y - fit.conditional_mean + own
    root = np.sqrt(design.weights)
    Z, r = root[:, None] * term.Z, root * rest
    count, k = modes.shape
    # Squared, but columns are first brought to unit size, and a level without spread is left out.
    scale = np.sqrt(np.mean(Z**2, axis=0))
    Z = Z / scale
    gram, right = np.zeros((count, k, k)), np.zeros((count, k))
    np.add.at(gram, term.index, Z[:, :, None] * Z[:, None, :])
    np.add.at(right, term.index, Z * r[:, None])
    values, vectors = np.linalg.eigh(gram)
    determined = values[:, 0] > 1e-9 * values[:, -1]
    values = np.where(determined[:, None], values, 1.0)
    projected = np.einsum("lij,li->lj", vectors, right) / values
    solution = np.einsum("lij,lj->li", vectors, projected) / scale
    return np.where(determined[:, None], solution, np.nan)


def shrinkage(
    fit: LinearMixedModelResult,
    group: str | None = None,
    *,
    effects: tuple[str, str] | None = None,
    figure: Any = None,
    units: Units = None,
) -> Figure:
    """From each level's own estimate to the model's: partial pooling made visible.

    With several effects, two of them span a plane: an arrow leads from the coefficients that a
    level's rows alone would give to those of the model, and ellipses show the estimated
    distribution of coefficients (50% and 95%). With one effect, each level has a row.

    Parameters
    ----------
    fit : LinearMixedModelResult
    group : str, optional
        Grouping factor; by default the one with the most levels.
    effects : pair of str, optional
        Which two effects, where there are more; by default the first two.
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
        If the grouping factor or an effect is unknown.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> ax = lj.plot.shrinkage(fit).axes[0]
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('(Intercept)', 'Days')
    """
    t = term_position(fit, group)
    term, modes = fit.design.terms[t], fit.raw.modes[t]
    fixed = dict(zip(fit.design.x_names, fit.beta.tolist(), strict=True))
    base = np.array([fixed.get(column, 0.0) for column in term.columns])
    separate, pooled = base + separate_effects(fit, t), base + modes
    if len(term.columns) == 1:
        return _dumbbells(fit, t, separate[:, 0], pooled[:, 0], float(base[0]), figure, units)
    chosen = effects or term.columns[:2]
    for name in chosen:
        if name not in term.columns:
            raise LmmError(
                f"{name!r} is no random effect of {term.group!r}: they are "
                f"{', '.join(map(repr, term.columns))}"
            )
    i, j = (term.columns.index(name) for name in chosen)
    figure, grid = panels(figure, 1, 1, (5.6, 5.0))
    ax = grid[0, 0]
    covariance = (fit.sigma**2 * fit.raw.factors[t] @ fit.raw.factors[t].T)[np.ix_([i, j], [i, j])]
    angle = np.linspace(0.0, 2.0 * np.pi, 181)
    # A square root by eigenvalues: it exists for a singular matrix too.
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for share, style in ((0.5, "-"), (0.95, "--")):
        # The squared radius follows chi-squared with 2 degrees of freedom.
        curve = np.sqrt(-2.0 * np.log(1.0 - share)) * root @ circle
        ax.plot(base[i] + curve[0], base[j] + curve[1], color=LINE, lw=1, ls=style, zorder=1)
        ax.annotate(
            f"{100 * share:g}%",
            (base[i] + curve[0, 23], base[j] + curve[1, 23]),
            color=LINE,
            fontsize=8,
            xytext=(2, 2),
            textcoords="offset points",
        )
    # Levels that their own rows do not determine have no start for an arrow.
    known = np.all(np.isfinite(separate[:, [i, j]]), axis=1)
    start, end = separate[known], pooled[known]
    ax.quiver(
        start[:, i],
        start[:, j],
        end[:, i] - start[:, i],
        end[:, j] - start[:, j],
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.003,
        headwidth=5,
        color="#8c96a0",
        zorder=2,
    )
    few = 1.0 if len(modes) <= 200 else 0.4
    ax.scatter(
        start[:, i],
        start[:, j],
        22 * few,
        facecolor="white",
        edgecolor=DATA,
        label=f"each {term.group}'s rows alone",
        zorder=3,
    )
    ax.scatter(pooled[:, i], pooled[:, j], 22 * few, color=MODEL, label="model", zorder=4)
    ax.scatter(base[i], base[j], 90, color=LINE, marker="P", label="population", zorder=5)
    ax.set_xlabel(effect_label(fit, term.columns[i], units))
    ax.set_ylabel(effect_label(fit, term.columns[j], units))
    ax.set_title(f"Shrinkage of the coefficients of {term.group}", fontsize=11, loc="left")
    legend_below(figure, ax)
    return figure


def _dumbbells(
    fit: LinearMixedModelResult,
    t: int,
    separate: np.ndarray,
    pooled: np.ndarray,
    base: float,
    figure: Any,
    units: Units,
) -> Figure:
    """One row a level: its own estimate, the model's, and the way between."""
    term = fit.design.terms[t]
    count = len(pooled)
    order = np.argsort(pooled, kind="stable")
    place = np.arange(count)
    named = count <= MAX_NAMES
    height = float(np.clip(1.6 + 0.15 * count, 3.0, 10.0)) if named else 5.5
    figure, grid = panels(figure, 1, 1, (5.6, height))
    ax = grid[0, 0]
    size = 22 if named else 4
    ax.axvline(base, color=LINE, lw=1.2, label="population", zorder=1)
    ax.hlines(place, separate[order], pooled[order], "#8c96a0", lw=1.2 if named else 0.5, zorder=2)
    ax.scatter(
        separate[order],
        place,
        size,
        facecolor="white",
        edgecolor=DATA,
        label=f"each {term.group}'s rows alone",
        zorder=3,
    )
    ax.scatter(pooled[order], place, size, color=MODEL, label="model", zorder=4)
    ax.set_ylim(-1, count)
    if named:
        ax.set_yticks(place, [term.levels[i] for i in order])
        ax.tick_params(axis="y", labelsize=8 if count <= 40 else 6, length=0)
        ax.set_ylabel(term.group)
    else:
        ax.set_yticks([])
        ax.set_ylabel(f"{term.group}: {count:,} levels")
    ax.set_xlabel(effect_label(fit, term.columns[0], units))
    ax.set_title(f"Shrinkage of the effects of {term.group}", fontsize=11, loc="left")
    legend_below(figure, ax)
    return figure
