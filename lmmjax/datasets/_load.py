"""Reading a data set and telling what is in it."""

from __future__ import annotations

import textwrap
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from lmmjax.datasets._catalogue import CATALOGUE, NUMERIC_ORDER, Column, Entry
from lmmjax.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Hashable

    import pandas as pd


def names() -> tuple[str, ...]:
    """The names of the data sets.

    Returns
    -------
    tuple of str
        What `load` and `describe` take.

    Examples
    --------
    >>> from lmmjax import datasets
    >>> datasets.names()
    ('sleepstudy', 'Dyestuff', 'Dyestuff2', 'Pastes', 'Penicillin', 'cake', 'InstEval')
    """
    return tuple(CATALOGUE)


def load(name: str) -> pd.DataFrame:
    """Read a data set.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    pandas.DataFrame
        A new frame at each call. Factors are unordered categoricals of strings whose categories
        stand in the order R has them, so that the first is the reference level of a treatment
        contrast; all other columns are numbers.

    Raises
    ------
    DataError
        There is no data set of that name.

    See Also
    --------
    describe : a set's columns, units and source.

    Notes
    -----
    ============  ======  ==================================================================
    name          rows    from
    ============  ======  ==================================================================
    sleepstudy    180     Belenky et al. (2003), J. Sleep Research 12, 1-12
    Dyestuff      30      Davies and Goldsmith (1972), section 6.4
    Dyestuff2     30      Box and Tiao (1973), section 5.1.2
    Pastes        60      Davies and Goldsmith (1972), section 6.5
    Penicillin    144     Davies and Goldsmith (1972), section 6.6
    cake          270     Cook (1938); Cochran and Cox (1957), p. 300
    InstEval      73,421  ETH Zurich's lecture ratings, published with the R package lme4
    ============  ======  ==================================================================

    Examples
    --------
    >>> from lmmjax import datasets
    >>> df = datasets.load("sleepstudy")
    >>> df.shape
    (180, 3)
    >>> df["Subject"].cat.categories[:3].tolist()
    ['308', '309', '310']
    """
    import pandas as pd

    entry = _entry(name)
    # Whole-number labels are read as integers, which is quick, and relabelled once a level.
    dtypes: dict[Hashable, Any] = {
        column: "int64" if spec.levels == NUMERIC_ORDER else "str"
        for column, spec in entry.columns.items()
        if spec.is_factor
    }
    with as_file(files("lmmjax.datasets") / "data" / entry.file) as path:
        frame = pd.read_csv(path, dtype=dtypes)
    for column, spec in entry.columns.items():
        if spec.is_factor:
            frame[column] = _categorical(frame, column, spec)
    return frame


def describe(name: str) -> str:
    """A data set's story, columns, units and source, as text to print.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    str
        Several lines.

    Raises
    ------
    DataError
        There is no data set of that name.

    Examples
    --------
    >>> from lmmjax import datasets
    >>> print(datasets.describe("Dyestuff"))
    Dyestuff: 30 rows, 2 columns
    <BLANKLINE>
    Yield of five preparations of a dyestuff (Naphthalene Black 12B) from each of six batches of
    an intermediate product (H-acid).
    <BLANKLINE>
      Batch  factor, 6 levels: A, B, C, D, E, F; batch of the intermediate product
      Yield  number, in grams of standard colour; yield of dyestuff
    <BLANKLINE>
    Source: Davies and Goldsmith (1972), Statistical Methods in Research and Production, 4th ed.,
    section 6.4
    """
    entry = _entry(name)
    width = max(map(len, entry.columns))
    lines = [f"{name}: {entry.rows:,} rows, {len(entry.columns)} columns", ""]
    lines += [*_wrap(entry.about), ""]
    lines += [f"  {column:<{width}}  {_words(spec)}" for column, spec in entry.columns.items()]
    lines += ["", *_wrap(f"Source: {entry.source}")]
    return "\n".join(lines)


def _entry(name: str) -> Entry:
    if name not in CATALOGUE:
        raise DataError(f"there is no data set {name!r}; there are: {', '.join(CATALOGUE)}.")
    return CATALOGUE[name]


def _categorical(frame: pd.DataFrame, column: str, spec: Column) -> pd.Categorical:
    import pandas as pd

    values = frame[column]
    if spec.levels != NUMERIC_ORDER:
        return pd.Categorical(values, categories=list(spec.levels or ()))
    codes, levels = pd.factorize(values, sort=True)
    return pd.Categorical.from_codes(codes, [str(level) for level in levels])


def _words(spec: Column) -> str:
    if not spec.is_factor:
        return f"number, in {spec.unit}; {spec.about}" if spec.unit else f"number; {spec.about}"
    if spec.levels == NUMERIC_ORDER:
        return f"factor; {spec.about}"
    levels = list(spec.levels or ())
    shown = levels if len(levels) <= 6 else [*levels[:3], "...", levels[-1]]
    return f"factor, {len(levels)} levels: {', '.join(shown)}; {spec.about}"


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, width=94)
