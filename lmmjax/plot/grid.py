"""Rows to predict at for lines: one variable runs, the others stay where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult

#: Points of a line: enough for a curve to look smooth.
POINTS = 41


@dataclass(frozen=True)
class Lines:
    """The variable along the horizontal axis, and the data behind it.

    Attributes
    ----------
    fit : LinearMixedModelResult
    frame : pandas.DataFrame
        The variables of the model at the rows used.
    x_name : str
    x : ndarray, shape (n,)
        Its values, positions of the levels for a factor.
    labels : tuple of str
        A factor's levels; empty for a number.
    """

    fit: LinearMixedModelResult
    frame: pd.DataFrame
    x_name: str
    x: np.ndarray
    labels: tuple[str, ...]

    def rows(self, at: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
        """New rows where x runs over its range among the rows `at`, and x itself.

        Other numbers are at their mean over these rows, factors at their commonest level.
        """
        import pandas as pd

        x = self.x[at]
        if self.labels:
            grid, first = np.unique(x, return_index=True)
        else:
            grid, first = np.linspace(x.min(), x.max(), POINTS), None
        columns: dict[str, Any] = {}
        for name in self.frame.columns:
            values = self.frame[name]
            if name == self.x_name:
                columns[name] = grid if first is None else values.iloc[at[first]].array
            elif name in self.fit.design.coding.numeric:
                columns[name] = np.full(len(grid), np.mean(values.to_numpy(float)[at]))
            else:
                codes, _ = pd.factorize(values.iloc[at])
                typical = at[np.argmax(codes == np.argmax(np.bincount(codes)))]
                columns[name] = values.iloc[np.full(len(grid), typical)].array
        return pd.DataFrame(columns), grid

    def predict(self, new: pd.DataFrame, **kwargs: Any) -> Any:
        """Predictions at new rows; an offset that was given as an array stands at its mean."""
        if self.fit.design.coding.offset_source == "<array>":
            kwargs["offset"] = np.full(len(new), self.fit.design.offset.mean())
        return self.fit.predict(new, **kwargs)

    def elsewhere(self) -> str:
        """Where the other fixed predictors of the population line stand: ``"recipe = A"``."""
        new, _ = self.rows(np.arange(self.fit.nobs))
        coding = self.fit.design.coding
        said = []
        for name in coding.spec.names:
            if name in new.columns and name != self.x_name:
                value = new[name].iloc[0]
                said.append(
                    f"{name} = {value:.4g}" if name in coding.numeric else f"{name} = {value}"
                )
        return ", ".join(said)


def varies_within(values: np.ndarray, index: np.ndarray) -> bool:
    """Whether a variable changes between rows of one group."""
    order = np.argsort(index, kind="stable")
    same = np.diff(index[order]) == 0
    return bool(np.any(same & (values[order][1:] != values[order][:-1])))


def lines(fit: LinearMixedModelResult, x: str | None, t: int) -> Lines:
    """What runs along the horizontal axis: `x`, or the predictor that suits the groups best.

    That is one that varies within the groups of term `t`; a number rather than a factor; one with a
    random slope; the first.
    """
    import pandas as pd

    from lmmjax.frames import Frame

    coding = fit.design.coding
    spec = coding.spec
    bar_names = [name for bar in spec.bars for name in bar.names]
    predictors = [
        name
        for name in dict.fromkeys([*bar_names, *spec.names])
        if name in coding.numeric or name in coding.levels
    ]
    if x is None and not predictors:
        raise LmmError(f"the model {fit.formula!r} has no predictor to draw lines over")
    if x is not None and x not in predictors:
        known = ", ".join(map(repr, predictors)) or "none"
        raise LmmError(f"{x!r} is no predictor of the model: they are {known}")
    data = fit.data
    if not isinstance(data, pd.DataFrame):
        source = Frame(data)
        data = pd.DataFrame(
            {n: source.column(n).series() for n in dict.fromkeys(spec.variables) if n in source}
        )
    names = dict.fromkeys([*spec.variables, *([coding.offset_source] * bool(coding.offset_source))])
    # After refit() the frame's own response is an old one, and no prediction needs it.
    kept = [n for n in names if n in data.columns and n not in spec.response_names]
    frame = data[kept].iloc[fit.design.row_index]
    if x is None:
        index = fit.design.terms[t].index

        def rank(name: str) -> tuple[bool, bool]:
            values = frame[name].astype(str) if name not in coding.numeric else frame[name]
            return not varies_within(values.to_numpy(), index), name not in coding.numeric

        x = min(predictors, key=rank)
    if x in coding.numeric:
        return Lines(fit, frame, x, frame[x].to_numpy(float), ())
    labels = tuple(map(str, coding.levels[x]))
    place = {label: i for i, label in enumerate(labels)}
    positions = np.array([place[str(value)] for value in frame[x]], float)
    return Lines(fit, frame, x, positions, labels)
