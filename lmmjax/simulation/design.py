"""Predictors of a study that has not been run: one row an observation, without a response."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.arguments import check_whole
from lmmjax.drawn import DRAWN
from lmmjax.errors import LmmError
from lmmjax.keywords import known_keywords
from lmmjax.simulation.shares import copies, kinds

if TYPE_CHECKING:
    import pandas as pd

RANDOM_COVARIATES = ("normal", "uniform")


@known_keywords
def simulate_design(
    groups: int | Mapping[str, int] = 50,
    per_group: int | Sequence[Any] | Callable[..., Any] | None = None,
    within: Mapping[str, Any] | None = None,
    between: Mapping[str, Any] | None = None,
    crossed: Mapping[str, int] | None = None,
    nested: Mapping[str, int] | None = None,
    dropout: float | Sequence[float] = 0.0,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Lay out a study: the predictors of every row, for a power study.

    Parameters
    ----------
    groups : int or {name: int}, default 50
        Number of groups (subjects, schools), and the name of their column (``"group"``).
    per_group : int, sequence of int, tuple or callable, optional
        Rows of each group; of each finest unit with `nested`, and of each combination of levels
        with `crossed`. A sequence has a number for each unit. ``("poisson", mean)`` draws them, at
        least 1, and ``("uniform", low, high)`` too; a callable takes a NumPy generator and the
        number of units. By default as many as `within` has combinations of values.
    within : mapping, optional
        Covariates that vary from row to row. Values: the rows run through their combinations in
        order, the first covariate slowest, and begin again if there are more rows. An int: that
        many levels. ``"index"``: 0, 1, 2, ... in each unit. ``"normal"``, ``"uniform"`` (0 to 1):
        drawn for each row. A callable: takes a NumPy generator and the number of rows.
    between : mapping, optional
        Covariates of groups, with values as above (but for ``"index"``), or ``{level: share}`` with
        whole numbers as shares, which are kept to the nearest whole group. Combinations are
        allocated evenly, to one group after the other, and so that each covariate keeps its shares.
        For those of a nested or crossed factor's levels, a mapping of its own under its name:
        ``{"item": {"frequency": ["low", "high"]}}``.
    crossed : {name: int}, optional
        Factors whose every level meets every group: ``{"item": 40}``.
    nested : {name: int}, optional
        Units in each group, and units in each of those: ``{"class": 3, "pupil": 20}``. Labels are
        unique over the whole study.
    dropout : float or sequence of float, default 0
        Probability that a unit leaves before each of its rows after the first, in order; it does
        not come back. A sequence has a probability for the second row, the third, and so on; its
        last one holds from there.
    seed : int, default 0
        Of all that is random: the same seed gives the same frame.

    Returns
    -------
    pandas.DataFrame
        Groups, units, crossed factors, then covariates. Labels are categorical, in the order given:
        the first level is the reference of a model's contrasts. What was drawn at random is one
        draw of it: its names are in the frame's ``attrs["drawn"]``, and power studies of it say so.

    Raises
    ------
    LmmError
        If a number, a name or a probability is not possible; it says which.

    Examples
    --------
    >>> import lmmjax as lj
    >>> frame = lj.simulate_design(
    ...     groups={"id": 50}, within={"time": range(5)}, between={"arm": ["control", "active"]}
    ... )
    >>> frame.shape
    (250, 3)
    >>> frame.iloc[[0, 1, 5]]
        id      arm  time
    0  id01  control     0
    1  id01  control     1
    5  id02   active     0
    >>> lj.simulate_design({"id": 20}, crossed={"item": 40}).shape
    (800, 2)
    >>> lj.simulate_design(6, per_group=("poisson", 4), seed=1)["group"].value_counts().tolist()
    [6, 5, 5, 4, 3, 2]
    """
    check_whole("seed", seed, 0)
    by_name = {"within": within, "between": between, "crossed": crossed, "nested": nested}
    for what, mapping in by_name.items():
        if mapping is not None and not isinstance(mapping, Mapping):
            raise LmmError(f"{what} must be a mapping by name, not {mapping!r}")
    rng = np.random.default_rng(seed)
    name, count = _groups(groups)
    within, between = dict(within or {}), dict(between or {})
    nested, crossed = _counts("nested", nested), _counts("crossed", crossed)
    factors = {name: count, **nested, **crossed}
    own = {key: value for key, value in between.items() if key not in factors}
    given = {key: value for key, value in between.items() if key in factors}
    for factor, covariates in given.items():
        if not isinstance(covariates, Mapping):
            raise LmmError(
                f"between[{factor!r}] is for covariates of the factor {factor!r}, and must be a "
                f"mapping of them, not {covariates!r}"
            )
    given[name] = {**own, **given.get(name, {})}
    _check_names([*factors, *within, *(key for value in given.values() for key in value)])

    # Every unit once: its own label, those above it, then the covariates of each of them.
    units: dict[str, Any] = {name: np.arange(count)}
    total = {name: count}
    size = count
    for level, each in nested.items():
        units = {key: np.repeat(value, each) for key, value in units.items()}
        size *= each
        units[level] = np.arange(size)
        total[level] = size
    cells = math.prod(crossed.values())
    fixed, drawn = _split(within)
    combinations = math.prod(len(values) for values in fixed.values())
    if per_group is None:
        if not (fixed or crossed):
            raise LmmError("per_group is needed: how many rows has a group?")
        per_group = combinations
    rows = _sizes(per_group, size, rng)
    # Rows run over units, then combinations of crossed levels, then occasions.
    unit = np.repeat(np.arange(size), cells * rows)
    occasion = np.concatenate([np.tile(np.arange(r), cells) for r in rows])
    cell = np.concatenate([np.repeat(np.arange(cells), r) for r in rows])
    keep = _stays(dropout, rows, rng)
    if keep is not None:
        if crossed:
            raise LmmError(
                "dropout needs an order of rows in time, which crossed factors do not give: drop "
                "rows of the frame instead"
            )
        unit, occasion, cell = unit[keep], occasion[keep], cell[keep]

    codes = {key: value[unit] for key, value in units.items()}
    for factor, place in zip(crossed, _places(cell, list(crossed.values())), strict=True):
        codes[factor] = place
        total[factor] = crossed[factor]
    columns: dict[str, Any] = {key: _labels(key, total[key], codes[key]) for key in codes}
    for factor, covariates in given.items():
        for key, (values, code) in _allocate(covariates, total[factor], rng).items():
            columns[key] = _column(values, code[codes[factor]])
    place = _places(occasion % combinations, [len(values) for values in fixed.values()])
    made = {key: _column(v, at) for (key, v), at in zip(fixed.items(), place, strict=True)}
    for key, value in drawn.items():
        made[key] = occasion if value == "index" else _draw(key, value, rng, len(unit))
    columns.update({key: made[key] for key in within})

    import pandas as pd

    frame = pd.DataFrame(columns)
    random = [] if keep is None else ["dropout"]
    if callable(per_group) or (isinstance(per_group, tuple) and isinstance(per_group[0], str)):
        random.append("per_group")
    random += [key for key, value in drawn.items() if value != "index"]
    random += [key for of in given.values() for key, v in of.items() if _is_drawn(v)]
    if random:
        frame.attrs[DRAWN] = tuple(random)
    return frame


def _is_drawn(given: Any) -> bool:
    return callable(given) or isinstance(given, str)


def _groups(groups: Any) -> tuple[str, int]:
    if isinstance(groups, Mapping):
        if len(groups) != 1:
            raise LmmError(
                f"groups names one factor, as {{'subject': 50}}, not {len(groups)}: others are "
                "nested or crossed"
            )
        ((name, count),) = groups.items()
    else:
        name, count = "group", groups
    return name, _count("groups", count)


def _counts(what: str, given: Mapping[str, int] | None) -> dict[str, int]:
    return {key: _count(f"{what}[{key!r}]", n) for key, n in (given or {}).items()}


def _count(what: str, value: Any) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise LmmError(f"{what} must be a whole number of at least 1, not {value!r}")
    return int(value)


def _check_names(names: list[str]) -> None:
    for name in names:
        if not isinstance(name, str) or not name:
            raise LmmError(f"the name of a column must be text, not {name!r}")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise LmmError(f"the name {min(twice)!r} is used for more than one column")


def _places(code: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Place in each of several crossed factors, the first one slowest."""
    places = []
    for size in reversed(sizes):
        code, place = np.divmod(code, size)
        places.append(place)
    return places[::-1]


def _sizes(per_group: Any, units: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of each unit."""
    if np.isscalar(per_group):
        return np.full(units, _count("per_group", per_group))
    if callable(per_group):
        sizes = np.asarray(per_group(rng, units))
    elif isinstance(per_group, Sequence) and len(per_group) and isinstance(per_group[0], str):
        kind, *numbers = per_group
        numeric = (int, float, np.number)
        if not all(isinstance(x, numeric) and np.isfinite(x) and x < 2**31 for x in numbers):
            numbers = []
        if kind == "poisson" and len(numbers) == 1 and numbers[0] > 0:
            sizes = np.maximum(rng.poisson(numbers[0], units), 1)
        elif kind == "uniform" and len(numbers) == 2 and 1 <= numbers[0] <= numbers[1]:
            sizes = rng.integers(numbers[0], numbers[1], units, endpoint=True)
        else:
            raise LmmError(
                f"per_group can be ('poisson', mean) or ('uniform', low, high), not {per_group!r}"
            )
    else:
        try:
            sizes = np.asarray(per_group)
        except ValueError as error:  # a ragged list
            raise LmmError(f"per_group must be whole numbers, not {per_group!r}") from error
    if sizes.shape != (units,):
        raise LmmError(f"per_group has shape {sizes.shape}; there are {units} units to give rows")
    if sizes.dtype.kind not in "iu" or sizes.min() < 1:
        raise LmmError(f"per_group must be whole numbers of at least 1, not {per_group!r}")
    return sizes.astype(np.int64)


def _split(within: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Covariates with values to run through, and those to draw row by row."""
    fixed, drawn = {}, {}
    for key, value in within.items():
        if callable(value) or isinstance(value, str):
            if isinstance(value, str) and value not in ("index", *RANDOM_COVARIATES):
                raise LmmError(
                    f"within[{key!r}] must be values, a number of levels, a callable, 'index', "
                    f"'normal' or 'uniform', not {value!r}"
                )
            drawn[key] = value
        else:
            fixed[key] = _values(f"within[{key!r}]", key, value)
    return fixed, drawn


def _values(what: str, key: str, given: Any) -> list:
    """Values of a covariate; an int stands for so many levels."""
    if isinstance(given, (int, np.integer)):
        return _names(key, _count(what, given))
    try:
        values = list(given)
    except TypeError:
        raise LmmError(f"{what} must be values or a number of levels, not {given!r}") from None
    if not values:
        raise LmmError(f"{what} has no values")
    for value in values:
        if (
            np.ndim(value)
            if isinstance(value, np.ndarray)
            else isinstance(value, list | dict | set)
        ):
            raise LmmError(f"{what} must hold single values, not {value!r}")
    return values


def _names(prefix: str, count: int) -> list[str]:
    width = len(str(count))
    return [f"{prefix}{i:0{width}d}" for i in range(1, count + 1)]


def _labels(prefix: str, count: int, codes: np.ndarray) -> Any:
    import pandas as pd

    return pd.Categorical.from_codes(codes, _names(prefix, count))


def _column(values: list | np.ndarray, codes: np.ndarray) -> Any:
    """The values of some codes: numbers as they are, anything else categorical in its order."""
    array = np.asarray(values)
    if array.dtype.kind in "iufb":
        return array[codes]
    import pandas as pd

    labels = [str(value) for value in values]
    distinct = list(dict.fromkeys(labels))
    place = np.array([distinct.index(label) for label in labels])
    return pd.Categorical.from_codes(place[codes], distinct)


def _allocate(
    covariates: Mapping[str, Any], count: int, rng: np.random.Generator
) -> dict[str, tuple[Any, np.ndarray]]:
    """Values of each covariate and their codes for `count` levels, combinations evenly spread."""
    out: dict[str, tuple[Any, np.ndarray]] = {}
    spread: dict[str, list] = {}
    for key, given in covariates.items():
        what = f"between[{key!r}]"
        if callable(given) or isinstance(given, str):
            if isinstance(given, str) and given not in RANDOM_COVARIATES:
                raise LmmError(
                    f"{what} must be values, a number of levels, shares, a callable, 'normal' or "
                    f"'uniform', not {given!r}"
                )
            out[key] = (_draw(key, given, rng, count), np.arange(count))
            continue
        if isinstance(given, Mapping):
            shares = {level: _count(f"{what}[{level!r}]", n) for level, n in given.items()}
            unit = math.gcd(*shares.values())
            given = [level for level, share in shares.items() for _ in range(share // unit)]
        values = _values(what, key, given)
        out[key] = (values, np.zeros(0))
        spread[key] = values
    if not spread:
        return out
    cells = np.array(list(product(*(range(len(v)) for v in spread.values()))), np.int64)
    # A level that is there more than once, for its share, is one kind.
    names = [[str(value) for value in values] for values in spread.values()]
    levels = [np.array([own.index(name) for name in own]) for own in names]
    kind = np.stack([own[at] for own, at in zip(levels, cells.T, strict=True)], axis=1)
    least = math.prod(len(set(own)) for own in names)
    if least > count:
        raise LmmError(
            f"the {least} combinations of {', '.join(map(repr, spread))} need as many groups; "
            f"there are {count}"
        )
    # Rounds of all combinations; of the last one those that keep every covariate's shares.
    last = copies([*kind.T, kinds(kind)], count % len(cells))
    rounds = np.tile(np.arange(len(cells)), count // len(cells))
    chosen = cells[np.concatenate([rounds, np.flatnonzero(last)])]
    for (key, values), own, at in zip(spread.items(), names, chosen.T, strict=True):
        out[key] = (values, at)
        absent = [name for name in dict.fromkeys(own) if name not in {own[j] for j in at.tolist()}]
        if absent:
            raise LmmError(
                f"{count} groups are too few for the share of {absent[0]!r} in between[{key!r}]: "
                "it would have none"
            )
    return out


def _draw(key: str, given: Any, rng: np.random.Generator, count: int) -> np.ndarray:
    if given == "normal":
        return rng.standard_normal(count)
    if given == "uniform":
        return rng.random(count)
    values = np.asarray(given(rng, count))
    if values.shape != (count,):
        raise LmmError(
            f"the callable of {key!r} gave shape {values.shape}; {count} values were asked for"
        )
    return values


def _stays(dropout: Any, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Which rows are there, unit by unit; None if nobody can leave."""
    try:
        chances = np.atleast_1d(np.asarray(dropout, np.float64))
    except (TypeError, ValueError):
        chances = np.zeros(0)
    if chances.ndim != 1 or not chances.size or not np.all((chances >= 0) & (chances < 1)):
        raise LmmError(f"dropout must be probabilities from 0 to below 1, not {dropout!r}")
    if not chances.any():
        return None
    longest = int(rows.max())
    each = chances[np.minimum(np.arange(max(longest - 1, 0)), chances.size - 1)]
    leaves = rng.random((rows.size, max(longest - 1, 0))) < each
    there = np.cumsum(leaves, axis=1) == 0
    there = np.concatenate([np.ones((rows.size, 1), bool), there], axis=1)
    exists = np.arange(longest) < rows[:, None]
    return there[exists]
