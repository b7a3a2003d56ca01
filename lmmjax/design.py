"""A formula and a data frame to the arrays that a model is made of.

Everything here is host-side numpy in float64; what follows a Design in the flow knows no data
frames.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from . import checks
from .coding import Coding, Columns, Part, PartCoder
from .columns import Column
from .drawn import drawn_parts
from .errors import DataError, DesignWarning, FormulaError, warn
from .expressions import Name
from .factor_coding import fixed_contrasts
from .formula import FormulaSpec, parse
from .frames import Frame, column_from_values, unknown_column
from .functions import check_env
from .grouping import GroupCoding, code_group
from .hints import warn_of_oddities
from .new_data import read_columns, used_columns
from .parser import read_value


@dataclass(frozen=True, eq=False)
class RandomTerm:
    """The random effects of one grouping factor; its bars are put together.

    Attributes
    ----------
    group : str
        Name of the grouping factor: ``"Subject"``, ``"cask:batch"``.
    columns : tuple of str
        Names of Z's k columns: ``("(Intercept)", "Days")``.
    blocks : tuple of int
        Sizes of the diagonal blocks of Lambda: ``(2,)`` for correlated columns, ``(1, 1)`` from
        ``||`` or from two bars.
    Z : np.ndarray, shape (n, k)
        The columns, float64.
    index : np.ndarray of int32, shape (n,)
        Level of each row.
    levels : tuple of str
        Labels of the L levels, in order.
    """

    group: str
    columns: tuple[str, ...]
    blocks: tuple[int, ...]
    Z: np.ndarray
    index: np.ndarray
    levels: tuple[str, ...]

    def __repr__(self) -> str:
        return (
            f"RandomTerm({self.group!r}, columns={self.columns}, blocks={self.blocks}, "
            f"levels={len(self.levels)})"
        )


@dataclass(frozen=True, eq=False)
class Design:
    """What a model is made of, for the n complete rows.

    Attributes
    ----------
    y : np.ndarray, shape (n,)
        Response; NaN in a design made without one (:meth:`from_formula`).
    X : np.ndarray, shape (n, p)
        Fixed-effects columns, of full rank.
    x_names : tuple of str
        Their names, as R has them: ``"(Intercept)"``, ``"recipeB"``.
    terms : tuple of RandomTerm
        Random effects, the factor with the most levels first.
    weights, offset : np.ndarray, shape (n,)
        Prior weights (ones if none were given) and offset (zeros if none).
    y_name : str
        The response as the formula has it.
    row_index : np.ndarray of int64, shape (n,)
        Positions of these rows in the given frame.
    n_dropped : int
        Rows left out because a value was missing.
    dropped_columns : tuple of str
        Fixed-effects columns left out as combinations of earlier ones.
    coding : Coding
        How the columns were made: codes new data, and knows X's terms.
    drawn : tuple of str
        What of the design :func:`lmmjax.simulate_design` drew at random.

    Examples
    --------
    >>> import lmmjax as lj
    >>> design = lj.build_design("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> design.n, design.p, design.x_names
    (30, 1, ('(Intercept)',))
    >>> design.terms[0]
    RandomTerm('Batch', columns=('(Intercept)',), blocks=(1,), levels=6)
    """

    y: np.ndarray
    X: np.ndarray
    x_names: tuple[str, ...]
    terms: tuple[RandomTerm, ...]
    weights: np.ndarray
    offset: np.ndarray
    y_name: str
    row_index: np.ndarray
    n_dropped: int
    dropped_columns: tuple[str, ...]
    coding: Coding
    drawn: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y)

    @property
    def p(self) -> int:
        """Number of fixed-effects coefficients."""
        return self.X.shape[1]

    @property
    def formula(self) -> FormulaSpec:
        """The parsed formula."""
        return self.coding.spec

    @classmethod
    def from_formula(
        cls,
        formula: str,
        data: Any,
        weights: Any = None,
        offset: Any = None,
        contrasts: Mapping[str, Any] | None = None,
        *,
        env: Mapping[str, Any] | None = None,
    ) -> "Design":
        """Make a design without a response, to simulate from.

        Parameters
        ----------
        formula : str
            As in :func:`build_design`. Its left side may be left out; one that is there names the
            response to come and is not looked up in the data.
        data, weights, offset, contrasts, env
            As in :func:`build_design`.

        Returns
        -------
        Design
            ``y`` is NaN throughout.

        Raises
        ------
        FormulaError, DataError
            As in :func:`build_design`.

        Examples
        --------
        >>> import lmmjax as lj
        >>> frame = lj.simulate_design(groups=4, within={"time": [0, 1, 2]})
        >>> lj.Design.from_formula("~ time + (1 | group)", frame)
        Design('y ~ 1 + time + (1 | group)', n=12, p=2, terms=[RandomTerm('group',
        columns=('(Intercept)',), blocks=(1,), levels=4)], n_dropped=0)
        """
        if isinstance(formula, str) and formula.lstrip().startswith("~"):
            formula = f"y {formula.lstrip()}"
        return build_design(formula, data, weights, offset, contrasts, env=env, response=False)

    def with_response(self, y: np.ndarray) -> "Design":
        """The same design with another response, shape (n,)."""
        # In place of dataclasses.replace, which takes as long as all else in a loop of refits.
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__, y=y)
        return new

    def __repr__(self) -> str:
        return (
            f"Design({str(self.formula)!r}, n={self.n}, p={self.p}, "
            f"terms={list(self.terms)}, n_dropped={self.n_dropped})"
        )


def build_design(
    formula: str | FormulaSpec,
    data: Any,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    na_action: Literal["drop", "error"] = "drop",
    *,
    env: Mapping[str, Any] | None = None,
    response: bool = True,
    structured: Collection[str] = (),
) -> Design:
    """Make the arrays of a linear mixed model.

    Parameters
    ----------
    formula : str or FormulaSpec
        lme4's syntax; see :func:`lmmjax.formula.parse`.
    data : pandas.DataFrame, mapping of arrays, or polars, pyarrow and other eager frames
        The last ones need narwhals.
    weights : array, shape (number of rows,), or str, optional
        Prior weights: the residual variance of a row is sigma² / weight. An array, or the name of a
        column.
    offset : array, shape (number of rows,), or str, optional
        Known part of the mean, added to any ``offset(...)`` of the formula.
    contrasts : mapping of str to str, contrast or matrix, optional
        Contrasts of factors in the fixed effects, where not treatment contrasts:
        ``{"dose": "contr.sum"}``. Random slopes keep treatment contrasts, as in lme4; to recode
        those too, write ``C(dose, contr.sum)`` in their terms.
    na_action : {"drop", "error"}, default "drop"
        What to do with rows in which a value that the model uses is missing.
    env : mapping of str to function or constant, optional
        What the formula may use besides columns and :mod:`lmmjax.functions`:
        ``{"half": lambda x: x / 2}``. A column wins over a constant of its name; a function wins
        over the formula's own. It is called with arrays of one value for each row. Nothing is
        looked up anywhere else, not among the caller's variables either.
    response : bool, default True
        Whether to read the response; without it ``y`` is NaN.
    structured : collection of str
        Grouping factors whose random effects will have a covariance structure with fewer
        parameters than lme4's: they may have as many effects as there are rows.

    Returns
    -------
    Design
        The arrays, and the coding for new data.

    Raises
    ------
    FormulaError
        If the formula cannot be read.
    DataError
        If the data cannot be used; it says which column, which row, and what to do.

    Warns
    -----
    RankWarning
        Fixed-effects columns were dropped as combinations of earlier ones.
    DesignWarning
        A random slope varies within no group, or a transform lost rows.
    ScaleWarning
        Predictors are on very different scales.

    Notes
    -----
    Factors (text, booleans and categoricals) have treatment contrasts with their first level as the
    reference, ordered categoricals too (R would give those polynomial contrasts). Categories keep
    their order, text is sorted, and levels without rows are dropped. Rows with missing values are
    left out first; transforms such as ``scale(x)`` then see the rows that are analysed (R lets
    them see every row).

    Examples
    --------
    >>> data = {
    ...     "y": [1.0, 2.5, 2.0, 4.0, 3.5, 5.0],
    ...     "x": [0.0, 1.0, 2.0, 0.0, 1.0, 2.0],
    ...     "g": ["a", "a", "a", "b", "b", "b"],
    ... }
    >>> design = build_design("y ~ x + (1 | g)", data)
    >>> design.x_names, design.X.shape
    (('(Intercept)', 'x'), (6, 2))
    >>> design.terms[0].levels, design.terms[0].index.tolist()
    (('a', 'b'), [0, 0, 0, 1, 1, 1])
    """
    spec = parse(formula) if isinstance(formula, str) else formula
    if not isinstance(spec, FormulaSpec):
        raise FormulaError(f"a formula is a string, not {type(formula).__name__}")
    if na_action not in ("drop", "error"):
        raise DataError(f"na_action must be 'drop' or 'error', not {na_action!r}")
    if not response:
        spec = replace(spec, response_names=())
    frame = Frame(data)
    env = check_env(env)
    spec = used_columns(spec, frame, env)
    named = read_columns(frame, spec.variables)
    n_given = frame.n if frame.n is not None else frame.length()
    if n_given == 0:
        raise DataError("the data have no rows")
    bare = read_value(spec.response)
    if response and isinstance(bare, Name):
        if bare.name not in named:
            raise unknown_column(bare.name, frame.names)
        checks.check_response_column(named[bare.name])
    extra = {
        "weights": _extra_column("weights", weights, frame, n_given),
        "offset": _extra_column("offset", offset, frame, n_given),
    }
    named, extra, rows = _complete_rows(named, extra, n_given, na_action)
    checks.finite_columns(named, rows)
    w = extra["weights"]
    if w is not None:
        checks.check_weights(w.numbers(), rows)
    if extra["offset"] is not None:
        checks.finite_columns({"offset": extra["offset"]}, rows)

    levels: dict[str, tuple[str, ...]] = {}
    columns = Columns(named, len(rows), levels, {}, frame.names, rows=rows)
    if contrasts:
        columns.contrasts = fixed_contrasts(contrasts, spec.fixed, columns)
    state: tuple[dict, dict] = ({}, {})
    coder = PartCoder(columns, state, env)
    y = coder.values(spec.response) if response else np.full(len(rows), np.nan)
    fixed, X = coder.code(spec.fixed)
    random_coder = coder.with_default_contrasts()
    parts: dict[str, tuple[Part, np.ndarray]] = {}
    if random_coder is coder:
        parts[spec.fixed] = fixed, X
    for bar in spec.bars:
        if bar.lhs not in parts:
            parts[bar.lhs] = random_coder.code(bar.lhs)
    shift = np.zeros(len(rows)) if extra["offset"] is None else extra["offset"].numbers()
    for text in spec.offsets:
        shift = shift + coder.values(text)

    arrays = {"the offset": shift, spec.fixed: X, **{t: Z for t, (_, Z) in parts.items()}}
    if response:
        arrays = {spec.response: y, **arrays}
    kept = _rows_with_values(arrays, rows, na_action)
    if kept is not None:
        rows, y, X, shift = rows[kept], y[kept], X[kept], shift[kept]
        parts = {text: (part, Z[kept]) for text, (part, Z) in parts.items()}
        named = {name: column.take(kept) for name, column in named.items()}
        w = None if w is None else w.take(kept)
    for part, Z in ((fixed, X), *parts.values()):
        checks.check_finite(Z, part.names, rows)
    checks.check_finite(shift[:, None], ["the offset"], rows)
    if response:
        checks.check_finite(y[:, None], [spec.response], rows)
        checks.check_response(y, spec.response)

    terms, random = _random_terms(spec, parts, named)
    keep = checks.independent_columns(X, 0 if fixed.names[:1] == ("(Intercept)",) else None)
    dropped = tuple(name for j, name in enumerate(fixed.names) if j not in set(keep.tolist()))
    if dropped:
        X = X[:, keep]
    x_names = tuple(fixed.names[j] for j in keep)
    checks.check_size(len(y), X.shape[1])
    weight = np.ones(len(y)) if w is None else w.numbers()
    equal = w is None or bool(weight.min() == weight.max())
    for term in terms:
        checks.check_term(term, len(y), equal, term.group in structured)
    if dropped:
        checks.warn_dropped(dropped)
    flat = [(c, term.group) for term in terms for c in checks.flat_slopes(term)]
    if flat:
        checks.warn_flat(flat)
    checks.warn_scales(X, x_names)
    warn_of_oddities(spec, named, rows, response)

    # Variables of the response, the fixed part and the bars' left sides
    used = {*spec.response_names, *spec.names, *(name for bar in spec.bars for name in bar.names)}
    coding = Coding(
        spec=spec,
        fixed=fixed,
        keep=keep,
        assign=tuple(fixed.assign[j] for j in keep),
        term_names=fixed.term_names,
        term_factors=fixed.term_factors,
        random=random,
        levels=levels,
        numeric=frozenset(
            name
            for name in used
            if name in named and named[name].kind == "number" and name not in levels
        ),
        contrasts=dict(columns.contrasts),
        offset_source=offset if isinstance(offset, str) or offset is None else "<array>",
        env=env,
        state=state,
    )
    return Design(
        y=y,
        X=np.ascontiguousarray(X),
        x_names=x_names,
        terms=terms,
        weights=weight,
        offset=shift,
        y_name=spec.response,
        row_index=rows,
        n_dropped=n_given - len(rows),
        dropped_columns=dropped,
        coding=coding,
        drawn=drawn_parts(data, spec.variables),
    )


def _extra_column(what: str, given: Any, frame: Frame, n: int) -> Column | None:
    """Weights or offset as a numeric column of n rows."""
    if given is None:
        return None
    if isinstance(given, str):
        column = frame.column(given)
        what = f"{what} {given!r}"
    else:
        column = column_from_values(what, given)
    if column.kind != "number":
        raise DataError(f"{what} must be numeric, not {column.dtype}")
    if len(column.values) != n:
        raise DataError(f"{what} has {len(column.values)} values for {n} rows: give one for each")
    return column


def _complete_rows(
    named: dict[str, Column], extra: dict[str, Column | None], n: int, na_action: str
) -> tuple[dict[str, Column], dict[str, Column | None], np.ndarray]:
    """The columns at the rows without missing values, and the positions of those rows."""
    lost = np.zeros(n, bool)
    counts: dict[str, int] = {}
    for name, column in [*named.items(), *extra.items()]:
        if column is not None and column.missing is not None:
            lost |= column.missing
            counts[name] = int(column.missing.sum())
    rows = np.arange(n, dtype=np.int64)
    if not counts:
        return named, extra, rows
    shown = ", ".join(f"{name!r} ({count})" for name, count in counts.items())
    if na_action == "error":
        raise DataError(
            f"{int(lost.sum())} of {n} rows have missing values, in {shown}; na_action='drop' "
            "leaves them out"
        )
    rows = np.flatnonzero(~lost)
    if not len(rows):
        raise DataError(f"no row is complete: all {n} have a missing value, in {shown}")
    taken = {name: column.take(rows) for name, column in named.items()}
    other = {k: None if c is None else c.take(rows) for k, c in extra.items()}
    return taken, other, rows


def _rows_with_values(
    arrays: dict[str, np.ndarray],
    rows: np.ndarray,
    na_action: str,
) -> np.ndarray | None:
    """Rows, as positions in the arrays, where every transform gave a number; None if all did."""
    lost = np.zeros(len(rows), bool)
    culprits = []
    for what, array in arrays.items():
        # A sum is NaN if anything in it is (or infinities of both signs meet, sorted out below).
        if np.isnan(array.sum()):
            bad = np.isnan(array.reshape(len(rows), -1)).any(axis=1)
            if bad.any():
                lost |= bad
                culprits.append(what)
    if not culprits:
        return None
    shown = ", ".join(map(repr, culprits))
    first = int(rows[np.argmax(lost)])
    if na_action == "error" or lost.all():
        raise DataError(
            f"{shown} gives no number in {int(lost.sum())} of {len(rows)} rows, the first at row "
            f"{first}"
        )
    warn(
        f"{int(lost.sum())} rows were dropped where {shown} gives no number, the first row {first}",
        DesignWarning,
    )
    return np.flatnonzero(~lost)


def _random_terms(
    spec: FormulaSpec, parts: dict[str, tuple[Part, np.ndarray]], columns: dict[str, Column]
) -> tuple[tuple[RandomTerm, ...], tuple[tuple[GroupCoding, tuple[Part, ...]], ...]]:
    """One term for each grouping factor, the one with the most levels first."""
    by_group: dict[tuple[str, ...], list] = {}
    for bar in spec.bars:
        by_group.setdefault(bar.group, []).append(bar)
    made = []
    for group, bars in by_group.items():
        coding, index = code_group(group, columns)
        names: list[str] = []
        blocks: list[int] = []
        for bar in bars:
            part = parts[bar.lhs][0]
            k = len(part.names)
            if k == 0:
                raise FormulaError(f"the random-effects term {bar} has no columns")
            twice = set(names).intersection(part.names)
            if twice:
                raise FormulaError(
                    f"the grouping factor {coding.name!r} has the column {min(twice)!r} in two "
                    "random-effects terms, whose variances cannot be told apart: write it once "
                    f"(in (x | {coding.name}) the intercept is included; (0 + x | {coding.name}) "
                    "is without)"
                )
            names += part.names
            blocks += [k] if bar.correlated else [1] * k
        matrices = [parts[bar.lhs][1] for bar in bars]
        Z = matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=1)
        term = RandomTerm(coding.name, tuple(names), tuple(blocks), Z, index, coding.levels)
        made.append((term, (coding, tuple(parts[bar.lhs][0] for bar in bars))))
    made.sort(key=lambda pair: -len(pair[0].levels))
    return tuple(term for term, _ in made), tuple(coding for _, coding in made)
