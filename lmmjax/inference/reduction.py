"""Smaller models of a fit: its formula with a term less, fitted to the same rows.

A formula is never cut as text. Its terms are those that were coded at the fit; a smaller formula is
written from them and read by the parser.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.design import build_design
from lmmjax.errors import LmmWarning
from lmmjax.fitting import fit_response, prepare_design
from lmmjax.formula import Bar, FormulaSpec, parse, write_factor
from lmmjax.inference.linear_model import LinearModel
from lmmjax.likelihood.preparation import default_structures
from lmmjax.parser import read_terms

if TYPE_CHECKING:
    from lmmjax.covariance import Covariance
    from lmmjax.design import Design, RandomTerm
    from lmmjax.result import LinearMixedModelResult

Model = Any  # a LinearMixedModelResult or a LinearModel

#: A term: the variables (or calls) that it multiplies.
Factors = tuple[str, ...]


def write_terms(intercept: bool, terms: Sequence[Factors], columns: Collection[str]) -> str:
    """Terms as text for the parser, the intercept written out.

    Examples
    --------
    >>> write_terms(True, [("x",), ("a b", "x"), ("x + 1",)], {"x", "a b"})
    '1 + x + `a b`:x + {x + 1}'
    """
    written = [":".join(write_factor(f, columns) for f in factors) for factors in terms]
    return " + ".join(["1" if intercept else "0", *written])


def marginal_terms(terms: Sequence[Factors]) -> list[int]:
    """Positions of the terms that no other term contains: those that may go.

    Examples
    --------
    >>> marginal_terms([("a",), ("b",), ("c",), ("a", "b")])
    [2, 3]
    """
    sets = [frozenset(factors) for factors in terms]
    return [at for at, own in enumerate(sets) if not any(own < other for other in sets)]


@dataclass(frozen=True)
class RandomPart:
    """Random effects that are independent of the others: a bar, or a column of a ``||``.

    Attributes
    ----------
    group : tuple of str
        Grouping columns.
    intercept : bool
    terms : tuple of tuple of str
        Terms beside the intercept.
    correlated : bool
    owner : int
        Position of the grouping factor in ``Design.terms``.
    columns : tuple of int
        Positions of its columns in that factor's.
    assign : tuple of int
        For each column its term; 0 the intercept, t the t-th of `terms`.
    variables : frozenset of str
        Names that are columns of the data.
    """

    group: tuple[str, ...]
    intercept: bool
    terms: tuple[Factors, ...]
    correlated: bool
    owner: int
    columns: tuple[int, ...]
    assign: tuple[int, ...]
    variables: frozenset[str]

    @property
    def label(self) -> str:
        """As a formula has it: ``"(1 + Days | Subject)"``."""
        lhs = write_terms(self.intercept, self.terms, self.variables)
        return str(Bar(lhs, self.group, self.correlated))

    def label_of(self, term: int) -> str:
        """A term of it, as tables name it: ``"Days in (1 + Days | Subject)"``."""
        return f"{':'.join(self.terms[term])} in {self.label}"

    def as_intercept(self) -> RandomPart:
        """``(1 | g)``, for the same groups."""
        return replace(
            self, intercept=True, terms=(), correlated=True, columns=self.columns[:1], assign=(0,)
        )

    def keep(self, terms: Collection[int], intercept: bool | None = None) -> RandomPart | None:
        """Only the terms at these positions (and the intercept); None if nothing is left."""
        intercept = self.intercept if intercept is None else intercept
        kept = sorted(terms)
        if not kept and not intercept:
            return None
        numbers = {t + 1: new for new, t in enumerate(kept, start=1)} | (
            {0: 0} if intercept else {}
        )
        own = [at for at, t in enumerate(self.assign) if t in numbers]
        return replace(
            self,
            intercept=intercept,
            terms=tuple(self.terms[t] for t in kept),
            columns=tuple(self.columns[at] for at in own),
            assign=tuple(numbers[self.assign[at]] for at in own),
            # One column has nothing to be correlated with.
            correlated=self.correlated or len(own) == 1,
        )


def random_parts(fit: LinearMixedModelResult) -> list[RandomPart]:
    """The independent parts of a fit's random effects, in the order of its formula.

    ``(1 + x || g)`` is two parts where its columns are numbers; a factor's columns cannot be
    written apart, so that they stay together.
    """
    spec, coding = fit.design.formula, fit.design.coding
    by_group = {group.name: t for t, (group, _) in enumerate(coding.random)}
    variables = frozenset(spec.variables)
    used = dict.fromkeys(by_group, 0)
    at = dict.fromkeys(by_group, 0)
    out: list[RandomPart] = []
    for bar in spec.bars:
        name = bar.group_name
        owner = by_group[name]
        part = coding.random[owner][1][used[name]]
        start, size = at[name], len(part.names)
        used[name] += 1
        at[name] += size
        intercept = 0 in part.assign
        whole = RandomPart(
            bar.group,
            intercept,
            part.term_factors,
            bar.correlated or size == 1,
            owner,
            tuple(range(start, start + size)),
            part.assign,
            variables,
        )
        numbers = part.names == ("(Intercept)",) * intercept + part.term_names
        if bar.correlated or not numbers or size == 1:
            out.append(whole)
            continue
        apart = [whole.keep((), True)] if intercept else []
        apart += [whole.keep((t,), False) for t in range(len(part.term_names))]
        out += [part for part in apart if part is not None]
    return out


def has_default_covariance(fit: LinearMixedModelResult, owner: int) -> bool:
    """Whether a grouping factor's effects have the structures that lme4 fits."""
    return fit.raw.prepared.structures[owner] == default_structures(fit.design.terms[owner].blocks)


def rewrite(
    spec: FormulaSpec, fixed: str | None = None, bars: Sequence[str] | None = None
) -> FormulaSpec:
    """A formula with another fixed part, or other random-effects terms (none, for an empty list).

    Examples
    --------
    >>> spec = parse("y ~ x + offset(z) + (1 + x | g)")
    >>> print(rewrite(spec, bars=["(1 | g)"]))
    y ~ 1 + x + offset(z) + (1 | g)
    >>> print(rewrite(spec, fixed="1", bars=[]))
    y ~ 1 + offset(z)
    """
    fixed = spec.fixed if fixed is None else fixed
    if bars is None:
        written = list(dict.fromkeys(bar.original or str(bar) for bar in spec.bars))
    else:
        written = list(dict.fromkeys(bars))
    # The grammar asks for a random-effects term: a stand-in is read and left out again.
    random = written or ["(1 | nothing)"]
    terms = [fixed, *(f"offset({o})" for o in spec.offsets), *random]
    made = parse(f"{spec.response} ~ {' + '.join(terms)}")
    return made if written else replace(made, bars=())


def without_fixed_term(fit: Model, name: str) -> FormulaSpec:
    """A model's formula without one term of its fixed part."""
    coding = fit.design.coding
    terms = [
        factors
        for term, factors in zip(coding.term_names, coding.term_factors, strict=True)
        if term != name
    ]
    intercept = 0 in coding.fixed.assign
    return rewrite(coding.spec, fixed=write_terms(intercept, terms, coding.spec.variables))


def rebuild(fit: Model, spec: FormulaSpec, *, reml: bool | None = None) -> Model:
    """Fit another formula to a fit's rows, with its weights, offset, contrasts and structures.

    Parameters
    ----------
    fit : LinearMixedModelResult or LinearModel
    spec : FormulaSpec
        Of the same response, and of no variables that `fit` does not have.
    reml : bool, optional
        By default as `fit`.

    Returns
    -------
    LinearMixedModelResult or LinearModel
        The latter where the formula has no random effects.
    """
    from lmmjax.result import LinearMixedModelResult

    old = fit.design
    restricted = fit.reml if reml is None else reml
    fixed = {factor.name for term in read_terms(spec.fixed).terms for factor in term}
    contrasts = {k: v for k, v in old.coding.contrasts.items() if k in fixed}
    with warnings.catch_warnings():
        # What there is to say of the data was said at the fit.
        warnings.simplefilter("ignore", LmmWarning)
        design = build_design(
            spec,
            fit.data,
            _weights(old),
            _offset(fit),
            contrasts,
            env=old.coding.env,
            structured=_structured(fit),
        )
    # A refitted response is not that of the data.
    design = replace(design, y=old.y)
    if not spec.bars:
        return LinearModel(design, str(spec), fit.data, restricted)
    prepared = prepare_design(design, _structures(fit, design))
    raw = fit_response(prepared, design.y, reml=restricted)
    return LinearMixedModelResult(design, raw, str(spec), fit.data)


def _weights(old: Design) -> np.ndarray | None:
    """Weights of all rows given; rows that the fit left out have none, and are left out again."""
    if not old.n_dropped and np.all(old.weights == 1.0):
        return None
    weights = np.full(old.n + old.n_dropped, np.nan)
    weights[old.row_index] = old.weights
    return weights


def _offset(fit: Model) -> Any:
    """The offset argument of the fit; offsets of the formula come with the formula."""
    from lmmjax.inference.term_hypotheses import coder_of_rows

    old = fit.design
    if old.coding.offset_source != "<array>":
        return old.coding.offset_source
    own = old.offset.copy()
    if old.formula.offsets:
        coder = coder_of_rows(fit, contrasts=True)
        for text in old.formula.offsets:
            own -= coder.values(text)
    offset = np.zeros(old.n + old.n_dropped)
    offset[old.row_index] = own
    return offset


def _structured(fit: Model) -> list[str]:
    """The grouping factors whose covariance has fewer parameters than a free one."""
    if isinstance(fit, LinearModel):
        return []
    return [
        term.group
        for term, bars in zip(fit.design.terms, fit.raw.prepared.structures, strict=True)
        if any(bar.n_theta < bar.size * (bar.size + 1) // 2 for bar in bars)
    ]


def _structures(fit: LinearMixedModelResult, design: Design) -> list[tuple[Covariance, ...]]:
    """Structures of the new design's terms: those that a factor had, where its columns are."""
    old: dict[str, tuple[RandomTerm, tuple[Covariance, ...]]] = {
        term.group: (term, bars)
        for term, bars in zip(fit.design.terms, fit.raw.prepared.structures, strict=True)
    }
    out = []
    for term in design.terms:
        was, bars = old[term.group]
        same = was.columns == term.columns and was.blocks == term.blocks
        out.append(bars if same else default_structures(term.blocks))
    return out
