"""A profile as its reader has it: a frame, intervals, a printed table, a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.profiling import CLOSE, Curve, profile_curves
from lmmjax.keywords import methods_know_keywords
from lmmjax.reading.coefficients import check_level

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from lmmjax.estimates import Estimates

#: Where a slope is further than this from the secant, a curve is read the other way round.
STEEP = 3.0


@methods_know_keywords
@dataclass(frozen=True, eq=False, repr=False)
class Profile(Mapping[str, Curve]):
    """Profile likelihood of a fit's parameters; maps their names to their curves.

    Attributes
    ----------
    curves : tuple of Curve
        By parameter, in lme4's order.
    names : tuple of str
        All parameters of the model, profiled or not.
    level : float
        How far the profile goes: intervals up to this level can be read off.
    formula : str
    refitted : bool
        Whether the fit was by REML, so that the model was fitted by maximum likelihood first.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> profile = fit.profile(0.95)
    >>> profile
    Profile likelihood of: Yield ~ 1 + (1 | Batch)
    Refitted by maximum likelihood; 95% intervals
                         estimate  lower  upper
    sd_(Intercept)|Batch   37.260 12.197 84.063
    sigma                  49.510 38.230 67.658
    (Intercept)            1527.5 1486.5 1568.5
    >>> profile.conf_int(0.5).round(2).loc["sigma"].tolist()
    [45.05, 54.75]
    """

    curves: tuple[Curve, ...]
    names: tuple[str, ...]
    level: float
    formula: str
    refitted: bool

    def __getitem__(self, name: str) -> Curve:
        for curve in self.curves:
            if curve.parameter.name == name:
                return curve
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(curve.parameter.name for curve in self.curves)

    def __len__(self) -> int:
        return len(self.curves)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """All points of all profiles.

        Returns
        -------
        pandas.DataFrame
            ``parameter`` and its ``value``; ``zeta``, the signed root of the deviance's increase
            over its minimum; then all parameters of the model at that point, the others at their
            constrained optimum. Each parameter's estimate is among its points, with ``zeta`` 0.
        """
        import pandas as pd

        curves = self.curves
        counts = [curve.value.size for curve in curves]
        head = pd.DataFrame(
            {
                "parameter": np.repeat(list(self), counts),
                "value": np.concatenate([curve.value for curve in curves]),
                "zeta": np.concatenate([curve.zeta for curve in curves]),
            }
        )
        rest = pd.DataFrame(np.vstack([c.others for c in curves]), columns=list(self.names))
        return pd.concat([head, rest], axis=1)

    def conf_int(self, level: float | None = None) -> pd.DataFrame:
        """Intervals of the parameters whose deviance is not significantly above its minimum.

        Parameters
        ----------
        level : float, optional
            Up to the profile's own, which is the default. At that level the limits are exact, at
            lower ones interpolated (to about five digits).

        Returns
        -------
        pandas.DataFrame
            Columns ``lower`` and ``upper``, one row a parameter. A limit that the data do not
            exclude is the end of the parameter's range: 0 for a standard deviation, ±1 for a
            correlation.

        Raises
        ------
        LmmError
            If `level` does not lie between 0 and 1, or is beyond the profile's.
        """
        import pandas as pd
        from scipy.special import ndtri

        level = self.level if level is None else check_level(level)
        if level > self.level:
            raise LmmError(
                f"the profile goes as far as level {self.level:g} needs: make one with "
                f"profile(level={level:g})"
            )
        cutoff = float(ndtri(0.5 + 0.5 * level))
        limits = [[limit_at(curve, -cutoff), limit_at(curve, cutoff)] for curve in self.curves]
        return pd.DataFrame(limits, columns=["lower", "upper"], index=list(self), dtype=float)

    def plot(self, kind: Literal["zeta", "density"] = "zeta", *, figure: Any = None) -> Figure:
        """Zeta of each parameter, or the density that it implies; see :func:`lmmjax.plot.profile`.

        Parameters
        ----------
        kind : {"zeta", "density"}, default "zeta"
        figure : matplotlib Figure or SubFigure, optional
            An empty one to draw on; by default a new one.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from lmmjax.plot.profile import profile

        return profile(self, kind, figure=figure)

    def lines(self) -> tuple[list[str], list[str], list[list[str]]]:
        """Title, header and cells of the printed table."""
        from lmmjax.reading.numbers import same_decimals

        how = "Refitted by maximum likelihood" if self.refitted else "Maximum likelihood"
        title = [
            f"Profile likelihood of: {self.formula}",
            f"{how}; {100 * self.level:g}% intervals",
        ]
        frame = self.conf_int()
        frame.insert(0, "estimate", [curve.estimate for curve in self.curves])
        cells = [
            [name, *map(str.strip, same_decimals([float(f"{x:.5g}") for x in row], 5))]
            for name, row in zip(self, frame.to_numpy(), strict=True)
        ]
        return title, ["", *frame.columns], cells

    def __repr__(self) -> str:
        from lmmjax.reading.numbers import table

        title, header, cells = self.lines()
        return "\n".join([*title, *table(header, cells, "l" + "r" * (len(header) - 1))])

    def _repr_html_(self) -> str:
        from lmmjax.reading.html import html_table

        _, header, cells = self.lines()
        return html_table(header, cells, text_columns=1)


def limit_at(curve: Curve, zeta: float) -> float:
    """The parameter's value at a zeta, by cubic interpolation between the profile's points.

    The end of the parameter's range where the profile does not get so far; NaN where it was not
    followed so far, or is not monotone.
    """
    if np.isnan(curve.estimate):
        return curve.lower if zeta < 0 else curve.upper
    z, v, s = curve.zeta, curve.value, curve.slope
    if not curve.monotone:
        return float("nan")
    for end, side, bound in ((0, -1.0, curve.lower), (-1, 1.0, curve.upper)):
        beyond = zeta - z[end]
        if side * beyond > 0.0:
            if side * v[end] >= side * bound:
                return bound
            near = abs(beyond) < CLOSE and s[end] > 0.0
            return float(
                np.clip(v[end] + s[end] * beyond, curve.lower, curve.upper) if near else np.nan
            )
    # The crossing nearest to the estimate: a flat stretch crosses by rounding.
    if zeta > 0:
        i = int(np.flatnonzero(z >= zeta)[0]) - 1
    else:
        i = int(np.flatnonzero(z <= zeta)[-1])
    i = min(max(i, 0), z.size - 2)
    return _between(zeta, z[i : i + 2], v[i : i + 2], s[i : i + 2])


def _between(zeta: float, z: np.ndarray, v: np.ndarray, s: np.ndarray) -> float:
    """Value at a zeta between two points, from their values and slopes."""
    width, rise = z[1] - z[0], v[1] - v[0]
    if width <= 0.0:
        return float(v[0] if zeta > 0 else v[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = s * width / rise
    if np.all(np.isfinite(relative) & (relative >= 0.0) & (relative < STEEP)):
        return float(v[0] + rise * _hermite((zeta - z[0]) / width, relative[0], relative[1]))
    # Vertical or flat at an end (at a bound): read zeta as a function of the value.
    with np.errstate(divide="ignore"):
        steep = np.where(np.isfinite(relative), 1.0 / relative, 0.0)
    steep = np.clip(np.where(np.isfinite(steep), steep, STEEP), 0.0, STEEP)
    low, high, target = 0.0, 1.0, (zeta - z[0]) / width
    for _ in range(60):
        middle = 0.5 * (low + high)
        if _hermite(middle, steep[0], steep[1]) < target:
            low = middle
        else:
            high = middle
    return float(v[0] + rise * 0.5 * (low + high))


def _hermite(t: Any, first: float, last: float) -> Any:
    """Cubic from (0, 0) to (1, 1) with these slopes at its ends."""
    return t * (first + t * (3.0 - 2.0 * first - last + t * (first + last - 2.0)))


def dense_curve(curve: Curve, count: int = 101) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, zeta and d zeta / d value at `count` evenly spaced zetas."""
    zeta = np.linspace(curve.zeta[0], curve.zeta[-1], count)
    value = np.array([limit_at(curve, each) for each in zeta])
    return value, zeta, np.gradient(zeta, value)


def profile_of(fit: Estimates, level: float, parameters: str | Sequence[str] | None) -> Profile:
    """The profile of a fit."""
    from lmmjax.inference.profile_lanes import profiled_parameters

    level = check_level(level)
    wanted = [parameters] if isinstance(parameters, str) else parameters
    curves = profile_curves(fit, level, wanted)
    names = tuple(p.name for p in profiled_parameters(fit))
    return Profile(tuple(curves), names, level, getattr(fit, "formula", ""), fit.raw.reml)


def intervals(
    fit: Estimates,
    level: float,
    method: str,
    which: str | None,
    bootstrap: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """Intervals of the wanted parameters by the wanted method.

    `bootstrap` has what was asked of the bootstrap; None where nothing was.
    """
    import pandas as pd

    from lmmjax.inference.profile import COEFFICIENT
    from lmmjax.inference.profile_lanes import profiled_parameters
    from lmmjax.reading.coefficients import wald_interval

    level = check_level(level)
    if method not in ("wald", "wald-z", "profile", "bootstrap"):
        raise LmmError(f"method must be 'wald', 'wald-z', 'profile' or 'bootstrap', not {method!r}")
    if which not in (None, "fixed", "random", "all"):
        raise LmmError(f"which must be 'fixed', 'random' or 'all', not {which!r}")
    if which is None:
        which = "all" if method in ("profile", "bootstrap") else "fixed"
    asked = {name: x for name, x in (bootstrap or {}).items() if x is not None}
    if asked and method != "bootstrap":
        raise LmmError(f"{', '.join(asked)}: for method='bootstrap' alone, not {method!r}")
    if method == "bootstrap":
        from lmmjax.bootstrap.intervals import check_type

        type = asked.pop("type", "percentile")
        check_type(type)
        frame = fit._fit.bootstrap(**asked).conf_int(level, type)
        p = len(fit.beta)
        return {"all": frame, "fixed": frame.iloc[-p:], "random": frame.iloc[:-p]}[which]
    if method == "profile":
        chosen = None
        if which != "all":
            fixed = which == "fixed"
            chosen = [p.name for p in profiled_parameters(fit) if (p.kind == COEFFICIENT) == fixed]
        return profile_of(fit, level, chosen).conf_int()
    parts = []
    if which != "fixed":
        parts.append(_wald_components(fit, level))
    if which != "random":
        parts.append(wald_interval(fit, level, method))
    return parts[0] if len(parts) == 1 else pd.concat(parts)


def _wald_components(fit: Estimates, level: float) -> pd.DataFrame:
    """Wald intervals of standard deviations and correlations, named as in a profile."""
    from lmmjax.inference.profile import SD, SIGMA
    from lmmjax.inference.profile_lanes import profiled_parameters
    from lmmjax.reading.components import variance_component_intervals

    frame = variance_component_intervals(fit, level)
    # The frame lists a block's standard deviations first; a profile goes column by column.
    order, names, at = [], [], 0
    parameters = [p for p in profiled_parameters(fit) if p.term >= 0]
    while at < len(parameters):
        size = len(parameters[at].block)
        block = parameters[at : at + size * (size + 1) // 2]
        ranks = sorted(range(len(block)), key=lambda i: block[i].kind != SD)
        order += [at + ranks.index(i) for i in range(len(block))]
        names += [p.name for p in block]
        at += len(block)
    names += [p.name for p in profiled_parameters(fit) if p.kind == SIGMA]
    order.append(len(frame) - 1)
    return frame[["lower", "upper"]].iloc[order].set_axis(names, axis=0)
