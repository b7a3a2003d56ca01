"""Columns out of any data frame, brought into one form.

pandas frames and mappings of arrays are read directly; polars, pyarrow and every other eager
frame through narwhals, when it is installed. Neither is imported here unless the data need it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .columns import EXACT, Column, label
from .errors import DataError

# Signed integers wide enough that arithmetic inside a formula does not wrap around.
_WIDE = {"i": np.int64, "u": np.int64, "f": np.float64}
_OTHER = {"c": "complex", "M": "datetime", "m": "timedelta"}


class Frame:
    """Read access to a data frame's columns.

    Parameters
    ----------
    data : pandas.DataFrame, mapping of 1-d arrays, or any eager frame that narwhals reads

    Raises
    ------
    DataError
        If `data` is none of these.
    """

    def __init__(self, data: Any) -> None:
        self.data = data
        self._reader = self._pandas_column
        module = type(data).__module__.split(".")[0]
        if module == "pandas":
            if not hasattr(data, "columns"):
                raise DataError(f"the data must be a data frame, not a {type(data).__name__}")
            names: Iterable[Any] = data.columns
            self.n: int | None = len(data)
        elif isinstance(data, Mapping):
            names = data.keys()
            self.n = None
            self._reader = self._mapping_column
        elif isinstance(data, np.ndarray) and data.dtype.names:
            names = data.dtype.names
            self.n = len(data)
            self._reader = self._mapping_column
        else:
            self.data = _narwhals_frame(data)
            names = self.data.columns
            self.n = len(self.data)
            self._reader = self._narwhals_column
        self._keys = names

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [str(key) for key in self._keys]

    def __contains__(self, name: str) -> bool:
        return name in self._keys or name in self.names

    def length(self) -> int:
        """Number of rows; a mapping's is that of its first column."""
        if self.n is None:
            self.n = 0
            for key in self._keys:
                self.n = len(self.data[key])
                break
        return self.n

    def column(self, name: str) -> Column:
        """A column by name.

        Raises
        ------
        DataError
            If there is no such column, there are two, or it is not one-dimensional.
        """
        key: Any = name
        if name not in self._keys:
            matching = [k for k in self._keys if str(k) == name]
            if not matching:
                raise unknown_column(name, self.names)
            key = matching[0]
        elif self.names.count(name) > 1:
            # Two columns with the label itself are found by the reader.
            alike = [k for k in self._keys if str(k) == name and not isinstance(k, str)]
            if alike:
                raise DataError(
                    f"the data have a column {name!r} and a column {alike[0]!r}, which a formula "
                    "cannot tell apart: rename one of them"
                )
        column = self._reader(name, key)
        if self.n is None:
            self.n = len(column.values)
        elif len(column.values) != self.n:
            raise DataError(
                f"the columns have different lengths: {name!r} has {len(column.values)} rows, "
                f"those before it {self.n}"
            )
        return column

    def _pandas_column(self, name: str, key: Any) -> Column:
        series = self.data[key]
        if getattr(series, "ndim", 1) != 1:
            raise DataError(
                f"the data have {series.shape[1]} columns named {name!r}: rename or drop all but "
                "one"
            )
        return column_from_pandas(name, series)

    def _mapping_column(self, name: str, key: Any) -> Column:
        return column_from_values(name, self.data[key])

    def _narwhals_column(self, name: str, key: Any) -> Column:
        return column_from_narwhals(name, self.data[key])


def unknown_column(name: str, names: list[str]) -> DataError:
    """The error for a name that is no column, with the names that it may have meant."""
    import difflib

    folded = {n.lower(): n for n in reversed(names)}
    close = [folded[c] for c in difflib.get_close_matches(name.lower(), list(folded), 3, 0.6)]
    if close:
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    else:
        shown = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
        hint = f"the columns are {shown}" if names else "there are no columns"
    return DataError(f"there is no column {name!r} in the data: {hint}")


def column_from_values(name: str, values: Any) -> Column:
    """A column from an array, a list, or a series of any library."""
    module = type(values).__module__.split(".")[0]
    if module == "pandas":
        import pandas as pd

        return column_from_pandas(name, values if hasattr(values, "index") else pd.Series(values))
    if module in ("polars", "pyarrow", "narwhals", "modin", "cudf"):
        return column_from_narwhals(name, _narwhals_series(values))
    if isinstance(values, (str, bytes)) or np.ndim(values) == 0:
        raise DataError(f"column {name!r} is a single value ({values!r}): give one for each row")
    if isinstance(values, (list, tuple)):
        import pandas as pd

        return column_from_pandas(name, _exact_series(list(values)))
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"column {name!r} has shape {array.shape}: a column has one dimension")
    if array.dtype.kind in "iufbcMmV":
        return _numpy_column(name, array, str(array.dtype))
    import pandas as pd

    return column_from_pandas(name, pd.Series(array.tolist() if array.dtype.kind == "S" else array))


def _exact_series(values: list) -> Any:
    """A list as a pandas Series whose integers are exact, also where values are missing.

    pandas makes floats of integers beside a missing value, and those beyond 2^53 lose digits.
    """
    import pandas as pd

    series = pd.Series(values)
    if series.dtype == np.float64 and np.nanmax(np.abs(series), initial=0.0) >= EXACT:
        whole = [v for v in values if isinstance(v, (int, np.integer))]
        if whole:
            low, high = min(whole), max(whole)
            return pd.Series(
                [None if pd.isna(v) else v for v in values],
                dtype="Int64" if low >= -(2**63) and high < 2**63 else object,
            )
    return series


def _numpy_column(name: str, values: np.ndarray, dtype: str, missing=None) -> Column:
    kind = values.dtype.kind
    if kind == "b":
        return Column(name, "bool", values, dtype, missing=missing)
    if kind == "V":
        raise DataError(f"column {name!r} has a structured dtype ({dtype}): use plain columns")
    if kind in _OTHER:
        lost = np.isnan(values)
        categories, present = np.unique(values[~lost], return_inverse=True)
        codes = np.full(len(values), -1, np.int32)
        codes[~lost] = present
        shown = tuple(categories.astype(str).tolist())
        return Column(name, "other", codes, _OTHER[kind], shown, lost if lost.any() else None)
    # Identifiers beyond the signed range stay as they are: as floats neighbours would be one.
    far = values.dtype == np.uint64 and values.size and values.max() > np.iinfo(np.int64).max
    if not far:
        values = values.astype(_WIDE[kind], copy=False)
    if kind == "f":
        lost = np.isnan(values)
        if lost.any():
            missing = lost if missing is None else missing | lost
    return Column(name, "number", values, dtype, missing=missing)


def column_from_pandas(name: str, series: Any) -> Column:
    """A column from a pandas Series of any dtype."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return _numpy_column(name, series.to_numpy(), str(dtype))
    import pandas as pd

    if isinstance(dtype, pd.CategoricalDtype):
        codes = series.cat.codes.to_numpy()
        missing = codes < 0
        return Column(
            name,
            "factor",
            codes.astype(np.int32),
            "category",
            tuple(dtype.categories.tolist()),
            missing if missing.any() else None,
        )
    if not isinstance(dtype, np.dtype) and dtype.kind in "iufb":
        # Nullable, arrow-backed and sparse numbers.
        missing = series.isna().to_numpy()
        plain = {"b": np.bool_, "f": np.float64, "u": np.uint64}.get(dtype.kind, np.int64)
        if not missing.any():
            return _numpy_column(name, series.to_numpy(dtype=plain), str(dtype))
        filled = series.fillna(False if dtype.kind == "b" else 0)
        return _numpy_column(name, filled.to_numpy(dtype=plain), str(dtype), missing)
    if not isinstance(dtype, np.dtype) and dtype.kind in "Mm":
        return _coded(name, "other", series, _OTHER[dtype.kind])
    if dtype == "object":
        inferred = pd.api.types.infer_dtype(series, skipna=True)
        if inferred == "boolean":
            missing = series.isna().to_numpy()
            values = series.where(~missing, False).to_numpy(dtype=bool)
            return Column(name, "bool", values, "object", (), missing if missing.any() else None)
        if inferred not in ("string", "empty", "categorical"):
            types = sorted({type(v).__name__ for v in series[series.notna()]})
            return _coded(name, "other", series, f"object ({', '.join(types[:3])})")
    return _coded(name, "text", series, str(dtype))


def _coded(name: str, kind: str, series: Any, dtype: str) -> Column:
    """A column by its sorted distinct values."""
    import pandas as pd

    try:
        codes, categories = pd.factorize(series, sort=True)
    except TypeError:
        # Values of several types have no order of their own: use that of their labels.
        try:
            codes, categories = pd.factorize(series)
        except TypeError as error:
            raise DataError(
                f"column {name!r} holds {dtype} values, which can be neither numbers nor levels of "
                "a factor: compute a plain column from them"
            ) from error
        order = np.argsort([label(c) for c in categories], kind="stable")
        rank = np.empty(len(order) + 1, np.int64)
        rank[order] = np.arange(len(order))
        rank[-1] = -1
        codes, categories = rank[codes], [categories[i] for i in order]
    codes = codes.astype(np.int32)
    missing = codes < 0
    return Column(name, kind, codes, dtype, tuple(categories), missing if missing.any() else None)


def _narwhals():
    try:
        import narwhals as nw
    except ImportError:
        return None
    return nw


def _narwhals_frame(data: Any) -> Any:
    nw = _narwhals()
    kind = f"{type(data).__module__.split('.')[0]}.{type(data).__name__}"
    if nw is None:
        raise DataError(
            f"data of type {kind} are read through narwhals: install it (lmmjax[frames]), or give "
            "a pandas DataFrame or a dict of arrays"
        )
    try:
        frame = nw.from_native(data, eager_only=True)
    except TypeError:
        lazy = nw.dependencies.is_into_dataframe(data) is False and hasattr(data, "collect")
        hint = "collect() it first" if lazy else "give a data frame or a dict of arrays"
        raise DataError(f"data of type {kind} cannot be read: {hint}") from None
    return frame


def _narwhals_series(values: Any) -> Any:
    nw = _narwhals()
    if nw is None:
        raise DataError(
            f"columns of type {type(values).__name__} are read through narwhals: install it "
            "(lmmjax[frames]), or give numpy arrays"
        )
    return nw.from_native(values, series_only=True)


def column_from_narwhals(name: str, series: Any) -> Column:
    """A column from a narwhals Series.

    A declared order of categories (Enum, a pyarrow dictionary) is kept; polars' Categorical, which
    declares none, is sorted.
    """
    nw = _narwhals()
    assert nw is not None
    dtype = series.dtype
    shown = str(dtype)
    nulls = series.is_null().to_numpy()
    missing = np.asarray(nulls, bool) if nulls.any() else None
    if dtype.is_numeric() and dtype != nw.Decimal:
        if missing is None:
            return _numpy_column(name, series.to_numpy(), shown)
        values = series.fill_null(0).to_numpy()
        return _numpy_column(name, values, shown, missing)
    if dtype == nw.Decimal:
        return _numpy_column(name, series.cast(nw.Float64).to_numpy(), shown, missing)
    if dtype == nw.Boolean:
        filled = series if missing is None else series.fill_null(False)
        return Column(name, "bool", np.asarray(filled.to_numpy(), bool), shown, (), missing)
    if dtype == nw.Enum:
        # Older narwhals ask the series, newer ones the dtype.
        declared = getattr(dtype, "categories", None)
        categories = tuple(declared or series.cat.get_categories().to_list())
        place = {c: i for i, c in enumerate(categories)}
        codes = np.array([place.get(v, -1) for v in series.to_list()], np.int32)
        return Column(name, "factor", codes, shown, categories, missing)
    if dtype == nw.Categorical and not series.implementation.is_polars():
        # The library's own conversion keeps a dictionary's order; narwhals' makes it text.
        native = series.to_native()
        return column_from_pandas(
            name, native.to_pandas() if hasattr(native, "to_pandas") else native
        )
    if dtype in (nw.String, nw.Categorical):
        # Distinct values are sorted by Python, as pandas' are, whatever the library's collation.
        distinct = sorted(v for v in series.unique().to_list() if v is not None)
        place = {c: i for i, c in enumerate(distinct)}
        codes = np.array([place.get(v, -1) for v in series.to_list()], np.int32)
        return Column(name, "text", codes, shown, tuple(distinct), missing)
    values = series.to_list()
    distinct = sorted({v for v in values if v is not None}, key=label)
    place = {c: i for i, c in enumerate(distinct)}
    codes = np.array([place.get(v, -1) for v in values], np.int32)
    return Column(name, "other", codes, shown.lower(), tuple(distinct), missing)
