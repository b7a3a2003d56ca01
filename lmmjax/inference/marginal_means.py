"""Estimated marginal means and trends: averages over the reference grid.

Source: Searle, Speed & Milliken (1980), Am. Stat. 34, 216-221; definitions are those of R's emmeans
(Lenth).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import reduce
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.expressions import names_in
from lmmjax.inference.contrasts import check_method
from lmmjax.inference.joint_tests import (
    CONFOUNDED,
    JointTests,
    confounded_test,
    joint_table,
    joint_test,
)
from lmmjax.inference.marginal_contrasts import weighted_sums
from lmmjax.inference.marginal_estimates import MarginalEstimates
from lmmjax.inference.reference_grid import Predictors, ReferenceGrid, Variable
from lmmjax.inference.response_scale import scale_of
from lmmjax.parser import value_of_factor
from lmmjax.reading.coefficients import check_level

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult

#: How many steps of differences are tried, each a tenth of the one before.
SHORTER = 8
#: A change of a derivative, relative to it, that is not worth a shorter step.
SAME = 1e-9
INTERACTION = "NOTE: Results may be misleading due to involvement in interactions"


def read_specs(specs: Any, by: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of factors, and of those by whose levels they stand apart.

    Examples
    --------
    >>> read_specs("~ recipe * temp | kind", None)
    (('recipe', 'temp'), ('kind',))
    """
    apart = [by] if isinstance(by, str) else list(by or ())
    if isinstance(specs, str):
        text = specs.strip()
        left, tilde, right = text.partition("~")
        if tilde:
            if left.strip():
                raise LmmError(
                    f"{specs!r} has a left side: take contrasts of the means by "
                    f".contrast({left.strip()!r})"
                )
            text = right
        main, _, behind = text.partition("|")
        names = _names(main, specs)
        apart = _names(behind, specs) + apart
    else:
        try:
            names = list(specs)
        except TypeError:
            names = [specs]
        if not all(isinstance(n, str) for n in names):
            raise LmmError(f"specs must be names of predictors, not {specs!r}")
    names, apart = list(dict.fromkeys(names)), list(dict.fromkeys(apart))
    return tuple(n for n in names if n not in apart), tuple(apart)


def _names(text: str, whole: str) -> list[str]:
    names = [part.strip().strip("`") for part in re.split(r"[*:+]", text)]
    if names in ([""], ["1"]):
        return []
    if not all(names):
        raise LmmError(f"specs {whole!r} cannot be read: write it as 'a', 'a * b' or 'a * b | c'")
    return names


def _variables_of_terms(fit: LinearMixedModelResult) -> list[set[str]]:
    """For each term the variables in it, as columns or inside calls."""
    coding = fit.design.coding
    names = coding.spec.names
    return [
        {
            name
            for factor in factors
            for name in names_in(value_of_factor(factor, names))
            if name in names
        }
        for factors in coding.term_factors
    ]


def _estimates(
    grid: ReferenceGrid,
    names: tuple[str, ...],
    by: tuple[str, ...],
    weights: Any,
    estimate_name: str,
    ddf: str,
    level: float,
    trend: tuple[str, ...] = (),
) -> MarginalEstimates:
    import pandas as pd

    facs = (*names, *by)
    functions = grid.means(facs, weights)
    if trend:
        functions[:, -1] = 0.0
    chosen = [grid.variables[grid.axis(name)] for name in facs]
    shape = tuple(len(v) for v in chosen)
    # The first runs fastest.
    codes = np.indices(shape[::-1]).reshape(len(shape), len(functions))[::-1]
    labels = pd.DataFrame({v.name: v.levels[c] for v, c in zip(chosen, codes, strict=True)})
    if not facs:
        labels = pd.DataFrame({"1": ["overall"]})
    concerned = facs + tuple(v for v in trend if v not in facs)
    misleading = bool(concerned) and any(
        set(concerned) < term for term in _variables_of_terms(grid.fit)
    )
    return MarginalEstimates(
        fit=grid.fit,
        functions=functions,
        labels=labels,
        by=by,
        estimate_name=estimate_name,
        ddf=ddf,
        averaged_over=grid.averaged_over(facs),
        notes=(INTERACTION,) if misleading else (),
        level=level,
        scale=None if trend else scale_of(grid.fit.design.y_name),
    )


def emmeans(
    fit: LinearMixedModelResult,
    specs: Any,
    *,
    by: Any,
    at: Mapping[str, Any] | None,
    weights: Any,
    ddf: str,
    level: float,
) -> MarginalEstimates:
    """Estimated marginal means; :meth:`LinearMixedModelResult.emmeans` documents them."""
    ddf, level = check_method(ddf), check_level(level)
    names, apart = read_specs(specs, by)
    predictors = Predictors(fit)
    grid = predictors.grid(predictors.variables(at))
    return _estimates(grid, names, apart, weights, "emmean", ddf, level)


def slopes(predictors: Predictors, variables: tuple[Variable, ...], var: str) -> ReferenceGrid:
    """The grid of derivatives of all functions by a number.

    Central differences of fourth order, with a step of a thousandth of the number's range: exact
    for polynomials up to the fourth degree. The step is shortened until a shorter one changes
    nothing but rounding; a column need not be defined further away (a logarithm near zero).
    """
    base = predictors.grid(variables)
    where = base.axis(var)
    step = predictors.step(var)
    best, least = None, np.inf
    last: ReferenceGrid | None = None
    for shorter in range(SHORTER):
        try:
            found = _differences(predictors, variables, base, where, step * 0.1**shorter)
        except LmmError:
            if last is None and shorter + 1 < SHORTER:
                continue
            raise
        if last is not None:
            change = _relative_change(last.functions, found.functions)
            if change < least:
                best, least = last if change < SAME else found, change
            if least < SAME or change > least:
                break
        last = found
    assert best is not None
    return best


def _relative_change(one: np.ndarray, other: np.ndarray) -> float:
    """Largest change of a function's weights, relative to the largest weight of its column."""
    axes = tuple(range(one.ndim - 1))
    size = np.abs(other).max(axis=axes, initial=0.0)
    change = np.abs(one - other).max(axis=axes, initial=0.0)
    return float((change / np.where(size > 0.0, size, 1.0)).max(initial=0.0))


def _differences(
    predictors: Predictors,
    variables: tuple[Variable, ...],
    base: ReferenceGrid,
    where: int,
    step: float,
) -> ReferenceGrid:
    total, largest = np.zeros((2, *base.functions.shape))
    for shift, weight in ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0)):
        moved = replace(variables[where], levels=variables[where].levels + shift * step)
        shifted = predictors.grid((*variables[:where], moved, *variables[where + 1 :])).functions
        total += weight * shifted
        largest = np.maximum(largest, np.abs(shifted))
    # What does not depend on the number differs by rounding only.
    total[np.abs(total) < 64.0 * np.finfo(float).eps * largest] = 0.0
    total /= 12.0 * step
    # The gap is told from zero in the units of its column, whatever those of the number.
    total[..., base.fit.design.p : -1] *= predictors.step(base.variables[where].name)
    return replace(base, functions=total)


def emtrends(
    fit: LinearMixedModelResult,
    specs: Any,
    var: str,
    *,
    by: Any,
    at: Mapping[str, Any] | None,
    weights: Any,
    ddf: str,
    level: float,
) -> MarginalEstimates:
    """Estimated marginal slopes; :meth:`LinearMixedModelResult.emtrends` documents them."""
    ddf, level = check_method(ddf), check_level(level)
    names, apart = read_specs(specs, by)
    predictors = Predictors(fit)
    if var not in predictors.columns or predictors.is_factor(var):
        numbers = [n for n in predictors.columns if not predictors.is_factor(n)]
        what = "a factor" if var in predictors.columns else "no predictor of the fixed effects"
        raise LmmError(
            f"{var!r} is {what}: slopes are by a number, "
            + (f"one of {', '.join(map(repr, numbers))}" if numbers else "and the model has none")
        )
    grid = slopes(predictors, predictors.variables(at), var)
    return _estimates(grid, names, apart, weights, f"{var}.trend", ddf, level, trend=(var,))


def joint_tests(
    fit: LinearMixedModelResult, by: Any, *, at: Mapping[str, Any] | None, ddf: str
) -> JointTests:
    """Tests of all terms; :meth:`LinearMixedModelResult.joint_tests` documents them."""
    ddf = check_method(ddf)
    _, apart = read_specs((), by)
    predictors = Predictors(fit)
    # A number's effect is seen between two values near its mean.
    variables = tuple(
        replace(v, levels=v.levels[0] + predictors.step(v.name) * np.array([-1.0, 1.0]))
        if v.source is None and len(v) == 1
        else v
        for v in predictors.variables(at)
    )
    grid = predictors.grid(variables)
    for name in apart:
        grid.axis(name)
    factors = tuple(v.name for v in variables if v.name not in apart and len(v) > 1)
    rows, notes = [], []
    tested: dict[tuple[Any, ...], list[np.ndarray]] = {}
    for order in range(1, len(factors) + 1):
        for names in combinations(factors, order):
            if not any(set(names) <= term for term in _variables_of_terms(fit)):
                continue
            steps = [_from_mean(len(variables[grid.axis(name)])) for name in names[::-1]]
            count = int(np.prod([len(step) - 1 for step in steps]))
            for where, cells in _groups(grid, names, apart, ddf):
                # Differences from means of differences: the last variable's levels run slowest.
                made = replace(
                    cells, functions=weighted_sums(reduce(np.kron, steps), cells.functions)
                )
                test = joint_test(made, np.arange(len(made.functions)), count=count)
                tested.setdefault(tuple(where.values()), []).append(test.rows)
                if test.numbers["df1"]:
                    rows.append({"model term": ":".join(names), **where, **test.numbers})
                    notes.append(test.notes)
    if predictors.estimability.size.size:
        for where, cells in _groups(grid, factors, apart, ddf):
            whole = replace(
                cells, functions=weighted_sums(_from_mean(len(cells.functions)), cells.functions)
            )
            numbers = confounded_test(whole, tested.get(tuple(where.values()), []))
            if numbers["df1"]:
                rows.append({"model term": CONFOUNDED, **where, **numbers})
    if not rows:
        raise LmmError(f"the model {fit.formula!r} has no terms to test" + " within" * bool(apart))
    return joint_table(rows, notes, apart)


def _from_mean(count: int) -> np.ndarray:
    """Differences of levels from their mean: the same for any order of the levels."""
    return np.eye(count) - 1.0 / count


def _groups(
    grid: ReferenceGrid, names: tuple[str, ...], apart: tuple[str, ...], ddf: str
) -> Iterator[tuple[dict[str, Any], MarginalEstimates]]:
    """For each combination of the levels of `apart`, these levels, and the means within them."""
    means = _estimates(grid, names, apart, "equal", "emmean", ddf, 0.95)
    sizes = [len(grid.variables[grid.axis(name)]) for name in names]
    cells = int(np.prod(sizes, dtype=int))
    for start in range(0, len(means.functions), cells):
        where = means.labels[list(apart)].iloc[start].to_dict()
        yield where, replace(means, functions=means.functions[start : start + cells])
