"""Tests of random-effects terms: each dropped, or made smaller by one of its terms.

Source: Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13), and lmerTest's `ranova`
for which models are compared; Self & Liang (1987), J. Am. Statist. Assoc. 82, 605-610, and Stram &
Lee (1994), Biometrics 50, 1171-1177, for the distribution where a variance is zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.inference.anova import AnovaTable
from lmmjax.inference.boundary import ratio_pvalue
from lmmjax.inference.reduction import (
    Model,
    RandomPart,
    has_default_covariance,
    marginal_terms,
    random_parts,
    rebuild,
    rewrite,
)

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.formula import FormulaSpec
    from lmmjax.result import LinearMixedModelResult

BOUNDARY_NOTES = (
    "A variance that is zero lies on the boundary of what it can be: Pr(>Chisq) is conservative",
    "there (for one variance about twice too large). Pr(>mixture), where it is known, is from the",
    "50:50 mixture of two chi-squares that holds for many groups; exact_rlrt() simulates.",
)
NO_TEST_NOTE = (
    "Df 0: with the term an intercept takes its place, so neither model contains the other; no test"
)


@dataclass(frozen=True)
class Reduction:
    """A smaller (or, where `nested` is False, another) set of random effects.

    Attributes
    ----------
    label : str
        What is dropped: ``"Days in (1 + Days | Subject)"``.
    spec : FormulaSpec
    nested : bool
    one_direction : bool
        Whether what is dropped is one variance (and its covariances).
    """

    label: str
    spec: FormulaSpec
    nested: bool = True
    one_direction: bool = False


@dataclass(frozen=True, eq=False)
class Deletions:
    """A fit's random terms deleted one at a time.

    Attributes
    ----------
    frame : pandas.DataFrame
        ranova's table; the fit itself is the first row.
    reductions : tuple of Reduction
        One for each further row.
    models : tuple of LinearMixedModelResult or LinearModel
        Their fits.
    """

    frame: pd.DataFrame
    reductions: tuple[Reduction, ...]
    models: tuple[Model, ...]


def reductions(fit: LinearMixedModelResult, reduce_terms: bool) -> list[Reduction]:
    """The models that `ranova` compares a fit with, in the order of its formula."""
    spec = fit.design.formula
    parts = random_parts(fit)
    labels = [part.label for part in parts]
    out: list[Reduction] = []
    seen: set[int] = set()
    for at, part in enumerate(parts):
        if not has_default_covariance(fit, part.owner):
            # A structure of its own spans the factor: it goes as a whole.
            if part.owner in seen:
                continue
            seen.add(part.owner)
            mine = [i for i, other in enumerate(parts) if other.owner == part.owner]
            rest = [label for i, label in enumerate(labels) if i not in mine]
            one = len(fit.design.terms[part.owner].columns) == 1
            name = " + ".join(labels[i] for i in mine)
            out.append(Reduction(name, rewrite(spec, bars=rest), True, one))
            continue
        rest = [label for i, label in enumerate(labels) if i != at]
        if not (reduce_terms and part.terms):
            one = len(part.columns) == 1
            out.append(Reduction(labels[at], rewrite(spec, bars=rest), True, one))
            continue
        for t in marginal_terms(part.terms):
            smaller = part.keep([i for i in range(len(part.terms)) if i != t])
            out.append(_reduced(spec, parts, at, t, smaller, labels))
    return out


def _reduced(
    spec: FormulaSpec,
    parts: list[RandomPart],
    at: int,
    t: int,
    smaller: RandomPart | None,
    labels: list[str],
) -> Reduction:
    part = parts[at]
    name = part.label_of(t)
    if smaller is not None:
        bars = [smaller.label if i == at else label for i, label in enumerate(labels)]
        one = len(part.columns) - len(smaller.columns) == 1
        # Without an intercept the first factor stands in for it: it may keep its columns.
        return Reduction(name, rewrite(spec, bars=bars), True, one)
    rest = [label for i, label in enumerate(labels) if i != at]
    others = [p for i, p in enumerate(parts) if i != at and p.group == part.group]
    if any(p.intercept for p in others):
        return Reduction(name, rewrite(spec, bars=rest), True, len(part.columns) == 1)
    # As lmerTest does: of (0 + x | g) the intercept alone remains.
    alone = part.as_intercept().label
    bars = [alone if i == at else label for i, label in enumerate(labels)]
    return Reduction(name, rewrite(spec, bars=bars), False)


def delete_random_terms(fit: LinearMixedModelResult, reduce_terms: bool = True) -> Deletions:
    """Fit all models that `ranova` compares, by the fit's own criterion."""
    import pandas as pd

    smaller = reductions(fit, reduce_terms)
    made: dict[FormulaSpec, Model] = {}
    for reduction in smaller:
        if reduction.spec not in made:
            made[reduction.spec] = rebuild(fit, reduction.spec)
    models = [made[reduction.spec] for reduction in smaller]
    rows = [_row(fit, model, reduction) for model, reduction in zip(models, smaller, strict=True)]
    frame = pd.DataFrame(
        [_first_row(fit), *rows], index=pd.Index(["<none>", *(r.label for r in smaller)])
    )
    return Deletions(frame, tuple(smaller), tuple(models))


def _first_row(model: Model) -> dict[str, float]:
    return {
        "npar": model.df_model,
        "logLik": model.llf,
        "AIC": model.aic,
        "LRT": np.nan,
        "Df": np.nan,
        "Pr(>Chisq)": np.nan,
        "Pr(>mixture)": np.nan,
    }


def _row(fit: LinearMixedModelResult, model: Model, reduction: Reduction) -> dict[str, float]:
    lrt = model.criterion - fit.criterion
    if reduction.nested and lrt < 1e-9 * (1.0 + abs(fit.criterion)):
        # A difference of two equal optima is rounding.
        lrt = 0.0
    df = fit.df_model - model.df_model
    p = float(ratio_pvalue(lrt, df, mixture=False)) if df > 0 else np.nan
    mixture = np.nan
    if reduction.nested and df > 0 and (df == 1 or reduction.one_direction):
        mixture = float(ratio_pvalue(lrt, df, mixture=True))
    return _first_row(model) | {
        "LRT": lrt,
        "Df": df,
        "Pr(>Chisq)": p,
        "Pr(>mixture)": mixture,
    }


def ranova(fit: LinearMixedModelResult, reduce_terms: bool = True) -> AnovaTable:
    """Table of deleted random terms; :meth:`LinearMixedModelResult.ranova` documents it."""
    found = delete_random_terms(fit, reduce_terms)
    heading = (
        "ANOVA-like table for random-effects: Single term deletions",
        "",
        "Model:",
        str(fit.design.formula),
        "",
        f"{'Restricted likelihoods (REML)' if fit.reml else 'Likelihoods (ML)'}, not refitted",
    )
    return AnovaTable(heading, found.frame, {}, notes_on(found))


def notes_on(found: Deletions) -> tuple[str, ...]:
    """What must be said below a table of deleted random terms."""
    notes = []
    df = found.frame["Df"].to_numpy(float)
    if np.any(df > 0):
        notes += BOUNDARY_NOTES
    if np.any(df == 0):
        notes.append(NO_TEST_NOTE)
    notes += [
        f"The model without {reduction.label} did not converge: its row is not to be trusted"
        for reduction, model in zip(found.reductions, found.models, strict=True)
        if not getattr(model, "converged", True)
    ]
    return tuple(notes)
