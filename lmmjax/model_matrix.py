"""Terms to columns by formulaic, on columns that are already in one form.

formulaic parses terms, decides which factors need full or reduced coding, and keeps the state of
transforms (polynomial bases, knots, centring). Here it gets its columns from
:class:`~lmmjax.coding.Columns`, codes factors by their stored levels, and names columns as R does.

This module imports formulaic and pandas (half a second), so it is itself imported only when a
formula holds more than plain columns.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
from formulaic import Formula, ModelMatrix, ModelSpec, SimpleFormula
from formulaic.errors import FormulaicError
from formulaic.materializers import FormulaMaterializer
from formulaic.materializers.types import FactorValues, ScopedFactor, ScopedTerm
from formulaic.parser.types import Factor, Term
from formulaic.transforms import TRANSFORMS
from formulaic.transforms.contrasts import (
    Contrasts,
    ContrastsRegistry,
    CustomContrasts,
    TreatmentContrasts,
)
from formulaic.utils.variables import Variable
from interface_meta import override

from .columns import Column, label, match_levels, unseen_levels
from .errors import DataError, FormulaError, LmmError
from .frames import column_from_values


class UnseenLevels(Exception):
    """Categories in new data that the fit did not have; caught and named one level up."""


class FactorProblem(Exception):
    """What is wrong with a factor, to be put after its name one level up."""


def contrast(spec: Any, where: str) -> Contrasts | None:
    """A contrast from its name (``"contr.sum"``, ``"sum"``), class, instance or matrix."""
    if spec is None or isinstance(spec, Contrasts):
        return spec
    if isinstance(spec, type) and issubclass(spec, Contrasts):
        return spec()
    if isinstance(spec, str):
        name = spec.removeprefix("contr.")
        known = [n for n in dir(ContrastsRegistry) if not n.startswith("_") and n != "mro"]
        if name not in known:
            raise DataError(
                f"there are no contrasts named {spec!r} ({where}): use one of "
                + ", ".join(f"contr.{n}" for n in known)
            )
        found = getattr(ContrastsRegistry, name)
        if name == "custom":
            raise DataError(f"give the matrix itself instead of {spec!r} ({where})")
        return found()
    try:
        return CustomContrasts(cast(Any, spec))
    except Exception as error:
        raise DataError(
            f"contrasts must be a name such as 'contr.sum' or a matrix, not {spec!r} ({where})"
        ) from error


def _code_levels(
    codes: np.ndarray, levels: tuple[str, ...], contrasts: Contrasts | None, reduced_rank: bool
) -> FactorValues:
    """Columns of a factor, shape (n,) each, named as R names them for treatment contrasts."""
    contrasts = contrasts or TreatmentContrasts()
    if len(levels) == 1 and reduced_rank:
        raise FactorProblem(
            f"has one level ({levels[0]!r}) in the rows used, so it has no effect to estimate: "
            "leave it out of the formula"
        )
    if isinstance(contrasts, TreatmentContrasts) and not reduced_rank:
        coding, fields = np.eye(len(levels)), levels
    else:
        try:
            coding = np.asarray(contrasts.get_coding_matrix(levels, reduced_rank), np.float64)
            fields = contrasts.get_coding_column_names(levels, reduced_rank)
        except (ValueError, KeyError, IndexError) as error:
            raise FactorProblem(
                f"has levels {list(levels)}, which its contrasts do not fit"
            ) from error
    plain = isinstance(contrasts, TreatmentContrasts) or not reduced_rank
    # formulaic writes x[T.b]; R writes xb.
    form = "{name}{field}" if plain else contrasts.get_factor_format(levels, reduced_rank)
    by_row = coding[codes]
    return FactorValues(
        {str(field): by_row[:, j] for j, field in enumerate(fields)},
        kind="categorical",
        spans_intercept=False,
        format=form,
        format_reduced=form,
        encoded=True,
    )


def _as_column(values: Any) -> Column:
    if isinstance(values, FactorValues):
        values = values.__wrapped__
    return column_from_values("", values)


def _encode_call(
    values: Any,
    reduced_rank: bool,
    drop_rows: Any,
    encoder_state: dict[str, Any],
    model_spec: Any,
    *,
    contrasts: Any,
    levels: Any,
    first: Any = None,
) -> FactorValues:
    """Columns of C(...), factor(...), relevel(...): levels are fixed when first seen."""
    codes, labels = _as_column(values).factor()
    if "levels" not in encoder_state:
        wanted = labels if levels is None else tuple(map(label, levels))
        if first is not None:
            if label(first) not in wanted:
                raise FactorProblem(f"has no level {label(first)!r} to be the reference")
            wanted = (label(first), *(lab for lab in wanted if lab != label(first)))
        encoder_state["levels"] = wanted
        encoder_state["contrasts"] = contrast(contrasts, "in the formula")
    codes, unseen = match_levels(codes, labels, encoder_state["levels"])
    if unseen:
        raise UnseenLevels(unseen, encoder_state["levels"])
    return _code_levels(codes, encoder_state["levels"], encoder_state["contrasts"], reduced_rank)


def _factor(
    data: Any, contrasts: Any = None, *, levels: Any = None, spans_intercept: bool = True
) -> FactorValues:
    """``C(x)``, ``factor(x)``: code a column by its levels, whatever it holds."""
    encoder = partial(_encode_call, contrasts=contrasts, levels=levels)
    return FactorValues(data, kind="categorical", spans_intercept=spans_intercept, encoder=encoder)


def _relevel(data: Any, ref: Any) -> FactorValues:
    """``relevel(x, "b")``: the level `ref` becomes the first, the reference."""
    encoder = partial(_encode_call, contrasts=None, levels=None, first=ref)
    return FactorValues(data, kind="categorical", spans_intercept=True, encoder=encoder)


def _dummy(data: Any, level: Any) -> np.ndarray:
    """``dummy(x, "b")``: 1 where x is b, 0 elsewhere, as lme4's."""
    codes, labels = _as_column(data).factor()
    # A level that new data happen to lack is a column of zeros.
    return (codes == labels.index(label(level))) * 1.0 if label(level) in labels else codes * 0.0


def _log(x: Any, base: float | None = None) -> Any:
    return np.log(x) if base is None else np.log(x) / np.log(base)


# What a formula can call besides formulaic's own transforms.
FUNCTIONS: dict[str, Any] = {
    "C": _factor,
    "factor": _factor,
    "relevel": _relevel,
    "dummy": _dummy,
    "log": _log,
    "ifelse": np.where,
    **{
        name: getattr(np, name)
        for name in (
            *("sqrt", "log1p", "expm1", "sin", "cos", "tan", "tanh", "sinh", "cosh"),
            *("abs", "floor", "ceil", "round", "sign", "where", "minimum", "maximum"),
        )
    },
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "ceiling": np.ceil,
    "pmin": np.minimum,
    "pmax": np.maximum,
}


def is_function(name: str) -> bool:
    """Whether `name` means something in a formula without being a column."""
    return name in FUNCTIONS or name in TRANSFORMS


class _SeriesView(Mapping):
    """The columns as pandas Series, made when an expression asks for them."""

    def __init__(self, columns: Any) -> None:
        self.columns = columns
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self.columns[name].series()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


class ColumnMaterializer(FormulaMaterializer):
    """formulaic's engine, reading :class:`~lmmjax.coding.Columns` and writing numpy."""

    REGISTER_NAME = None
    REGISTER_OUTPUTS = ("numpy",)

    def __init__(self, columns: Any) -> None:
        super().__init__(_SeriesView(columns), context=FUNCTIONS)
        self.columns = columns

    @override
    @property
    def nrows(self) -> int:
        """Number of rows."""
        return self.columns.n

    @override
    def _lookup(self, name: str) -> tuple[Any, set[Variable]]:
        columns = self.columns
        if name not in columns:
            raise columns.unknown(name)
        used = {Variable(name, roles=("value",), source="data")}
        if not columns.is_factor(name):
            return FactorValues(columns[name].numbers(), kind="numerical"), used
        codes, levels = columns.factor(name)
        contrasts = contrast(columns.contrasts.get(name), f"for {name!r}")

        def encode(
            values: Any, reduced_rank: bool, drop_rows: Any, encoder_state: Any, model_spec: Any
        ) -> FactorValues:
            return _code_levels(values.__wrapped__, levels, contrasts, reduced_rank)

        return (
            FactorValues(codes, kind="categorical", spans_intercept=True, encoder=encode),
            used,
        )

    @override
    def _encode_evaled_factor(self, factor, spec, drop_rows, reduced_rank=False):
        try:
            return super()._encode_evaled_factor(factor, spec, drop_rows, reduced_rank)
        except UnseenLevels as error:
            unseen, levels = error.args
            raise unseen_levels(factor.expr, unseen, levels) from None
        except FactorProblem as error:
            raise DataError(f"{factor.expr!r} {error}") from None

    @override
    def _flatten_encoded_evaled_factor(self, name: str, values: Any) -> dict[str, Any]:
        metadata = getattr(values, "__formulaic_metadata__", None)
        numeric = metadata is not None and metadata.kind is Factor.Kind.NUMERICAL
        if not numeric or not isinstance(values, dict):
            return super()._flatten_encoded_evaled_factor(name, values)
        columns = {k: v for k, v in values.items() if not str(k).startswith("__")}
        # R writes poly(x, 2)1 for formulaic's poly(x, 2)[1], and counts from 1.
        shift = 1 if 0 in columns else 0
        return {f"{name}{k + shift if isinstance(k, int) else k}": v for k, v in columns.items()}

    @override
    def _get_scoped_terms(self, terms, ensure_full_rank=True):
        """Full or reduced coding of each factor in each term, by R's rule.

        A factor is reduced where the term without it is in the model too; and if there is no
        intercept, the first factor that is a term by itself is not. (Chambers & Hastie 1992,
        section 2.4.) formulaic's own rule spans the same space by other columns.
        """
        terms = list(terms)
        evaluated = [
            [
                found
                for found in (self.factor_cache[f.expr] for f in term.factors)
                if found.metadata.kind is not Factor.Kind.CONSTANT
            ]
            for term in terms
        ]
        present = {frozenset(f.expr for f in factors) for factors in evaluated}
        full_one_due = frozenset() not in present
        present.add(frozenset())
        for term, factors in zip(terms, evaluated, strict=True):
            exprs = frozenset(f.expr for f in factors)
            scoped = []
            for factor in factors:
                reduced = factor.metadata.spans_intercept and exprs - {factor.expr} in present
                if reduced and full_one_due and len(factors) == 1:
                    reduced = full_one_due = False
                scoped.append(ScopedFactor(factor, reduced=reduced))
            yield term, [ScopedTerm(scoped, scale=1)]

    @override
    def _is_categorical(self, values: Any) -> bool:
        dtype = getattr(values, "dtype", None)
        if dtype is not None and str(dtype) in ("category", "object", "str", "string"):
            return True
        return super()._is_categorical(values)

    @override
    def _encode_constant(self, value, metadata, encoder_state, spec, drop_rows):
        return np.full(self.nrows, float(value))

    @override
    def _encode_numerical(self, values, metadata, encoder_state, spec, drop_rows):
        column = np.asarray(values, np.float64)
        if column.shape != (self.nrows,):
            raise FactorProblem(f"gives {column.shape} values for {self.nrows} rows")
        return column

    @override
    def _encode_categorical(
        self, values, metadata, encoder_state, spec, drop_rows, reduced_rank=False
    ):
        return _encode_call(
            values, reduced_rank, drop_rows, encoder_state, spec, contrasts=None, levels=None
        )

    @override
    def _combine_columns(self, cols, spec, drop_rows):
        if not cols:
            return np.empty((self.nrows, 0))
        return np.stack([values for _, values in cols], axis=1)


@lru_cache(maxsize=512)
def _formula(text: str) -> SimpleFormula:
    """The parsed terms, their factors in the order in which the formula first names them.

    R orders the factors of an interaction so (``x + a:x`` has the term ``x:a``), and with them the
    columns.
    """
    try:
        terms = list(cast(SimpleFormula, Formula(text)))  # type: ignore[abstract]
    except FormulaicError as error:
        raise FormulaError(f"formulaic cannot read the terms {text!r}: {error}") from error
    first: dict[str, int] = {}
    for term in terms:
        for factor in term.factors:
            token = factor.token
            at = token.source_start if token is not None and token.source_start is not None else 0
            first[factor.expr] = min(first.get(factor.expr, at), at)
    ordered: list[str | Term] = [
        Term(sorted(term.factors, key=lambda f: first[f.expr])) if len(term.factors) > 1 else term
        for term in terms
    ]
    return cast(SimpleFormula, SimpleFormula(ordered, _ordering="none"))


class Evaluator:
    """Model matrices and expressions over one set of columns.

    Parameters
    ----------
    columns : lmmjax.coding.Columns
        The columns.
    state : tuple of two dict
        State of transforms and of factor coding: filled by a fit, obeyed afterwards.
    """

    def __init__(self, columns: Any, state: tuple[dict, dict]) -> None:
        self.materializer = ColumnMaterializer(columns)
        self.transform_state, self.encoder_state = state

    def _spec(self, formula: Any, structure: Any = None) -> ModelSpec:
        return ModelSpec(
            formula=formula,
            na_action="ignore",  # type: ignore[arg-type]
            output="numpy",
            structure=structure,
            transform_state=self.transform_state,
            encoder_state=self.encoder_state,
        )

    def matrix(self, text: str, structure: Any = None) -> tuple[np.ndarray, Any]:
        """The model matrix, shape (n, k), of the terms `text`, and its structure."""
        with np.errstate(all="ignore"):
            try:
                spec = self._spec(_formula(text), structure)
                made = cast(ModelMatrix, self.materializer.get_model_matrix(spec))
            except (LmmError, FormulaicError, ArithmeticError, ValueError, TypeError) as error:
                raise _explain(error, text) from error
        # A fit's model spec shares its state dictionaries with ours; only transforms are copied.
        coded = cast(ModelSpec, made.model_spec)
        self.transform_state.update(coded.transform_state)
        return np.asarray(made, np.float64), coded.structure

    def values(self, text: str) -> np.ndarray:
        """The values, float64, shape (n,), of the expression `text`."""
        spec = self._spec(SimpleFormula([]))
        factor = Factor(text, eval_method="python")
        with np.errstate(all="ignore"):
            try:
                found = self.materializer._evaluate_factor(factor, spec, set()).values
                raw = np.asarray(found.__wrapped__)
                if raw.dtype.kind == "b":
                    raise DataError(f"{text!r} is true or false in each row; a number is needed")
                values = raw.astype(np.float64)
            except (LmmError, FormulaicError, ArithmeticError, ValueError, TypeError) as error:
                raise _explain(error, text) from error
        if values.ndim == 0:
            values = np.full(self.materializer.nrows, float(values))
        if values.shape != (self.materializer.nrows,):
            raise DataError(f"{text!r} has shape {values.shape}; one number for each row is needed")
        return values


def _explain(error: Exception, text: str) -> LmmError:
    """Turn formulaic's error for the terms `text` into ours."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LmmError):
            return cause
        if isinstance(cause, NameError):
            return FormulaError(f"{cause}: in {text!r}; compute it as a column first")
        cause = cause.__cause__
    return DataError(f"cannot compute {text!r}: {error}")
