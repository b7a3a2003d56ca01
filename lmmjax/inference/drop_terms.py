"""Tests of the fixed-effects terms that may go: those that no other term contains.

Source: Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13), and the `drop1` methods
of lmerTest (F tests of one fit) and lme4 (likelihood ratios between ML fits).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.checks import independent_columns
from lmmjax.errors import LmmError
from lmmjax.inference.anova import METHOD_NAMES, AnovaTable
from lmmjax.inference.comparison import refit_ml
from lmmjax.inference.contrasts import check_method, f_table, f_test, f_upper
from lmmjax.inference.reduction import Model, marginal_terms, rebuild, without_fixed_term
from lmmjax.inference.term_hypotheses import coder_of_rows, hypotheses_of_terms, unit_columns

if TYPE_CHECKING:
    from lmmjax.inference.linear_model import LinearModel
    from lmmjax.result import LinearMixedModelResult


#: A part of a column of length 1 that is zero but for rounding.
RANK_TOL = 1e-8


def droppable(fit: Model, scope: str | Sequence[str] | None = None) -> list[str]:
    """Names of the terms that may be dropped; those of `scope` if they all are such terms."""
    coding = fit.design.coding
    names = coding.term_names
    allowed = [names[t] for t in marginal_terms(coding.term_factors)]
    if scope is None:
        return allowed
    asked = [scope] if isinstance(scope, str) else list(scope)
    for name in asked:
        if name not in names:
            raise LmmError(
                f"scope names {name!r}, which is no term of the fixed part: they are "
                + ", ".join(map(repr, names))
            )
        if name not in allowed:
            raise LmmError(
                f"scope names {name!r}, which another term contains: only "
                f"{', '.join(map(repr, allowed))} may be dropped"
            )
    return asked


def drop_contrasts(fit: LinearMixedModelResult, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Rows L, shape (q, p), for each term so that ``L beta = 0`` is the model without it.

    They are those of the fit's own type II table, which asks the same of a term that no other
    contains, wherever that is the model without the term. Where columns are aliased, or no
    intercept takes up what a factor leaves, that model is coded anew to find out.
    """
    coding, design = fit.design.coding, fit.design
    marginal = hypotheses_of_terms(fit, "II")
    if coding.has_intercept and not design.dropped_columns:
        return {name: marginal[name] for name in names}
    X, size = unit_columns(design.X, coding.has_intercept)
    return {name: _without(fit, name, marginal[name], X, size) for name in names}


def _without(
    fit: LinearMixedModelResult, name: str, own: np.ndarray, X: np.ndarray, size: np.ndarray
) -> np.ndarray:
    """Rows of the model without a term, given those of its own test and X at length 1."""
    smaller = unit_columns(_columns_without(fit, name), fit.design.coding.has_intercept)[0]
    basis, _ = np.linalg.qr(smaller[:, smaller.any(axis=0)])
    rest = X
    for _ in range(2):  # twice is enough
        rest = rest - basis @ (basis.T @ rest)
    # X gamma lies in the smaller model where rest gamma = 0.
    _, values, directions = np.linalg.svd(rest, full_matrices=False)
    directions = directions[values > RANK_TOL]
    scaled = own / size
    inside = (scaled @ directions.T) @ directions
    if len(own) == len(directions) and np.allclose(inside, scaled, rtol=0.0, atol=RANK_TOL):
        return own
    return directions * size


def _columns_without(fit: LinearMixedModelResult, name: str) -> np.ndarray:
    """Independent fixed-effects columns of the model without a term, at the fit's rows."""
    part, X = coder_of_rows(fit, contrasts=True).code(without_fixed_term(fit, name).fixed)
    return X[:, independent_columns(X, 0 if part.names[:1] == ("(Intercept)",) else None)]


def f_deletions(fit: LinearMixedModelResult, names: Sequence[str], ddf: str) -> AnovaTable:
    """F test of each of these terms in one fit."""
    hypotheses = drop_contrasts(fit, names)
    # A term of which all columns are aliased is not there to be tested.
    hypotheses = {name: L for name, L in hypotheses.items() if len(L)}
    tests = [f_test(fit, L, np.zeros(len(L)), ddf) for L in hypotheses.values()]
    heading = (
        f"Single term deletions using {METHOD_NAMES[ddf]}:",
        "",
        "Model:",
        str(fit.design.formula),
    )
    return AnovaTable(heading, f_table(tests, list(hypotheses)), hypotheses)


def least_squares_deletions(model: LinearModel, names: Sequence[str]) -> AnovaTable:
    """F test of each of these terms where no random effects are left; R's drop1 of an `lm`."""
    import pandas as pd

    n, scale = model.nobs, model.rss / model.df_resid
    rows = {}
    for name in names:
        smaller = rebuild(model, without_fixed_term(model, name))
        df, lost = model.design.p - smaller.design.p, smaller.rss - model.rss
        F = lost / df / scale if df else np.nan
        rows[name] = {
            "Df": df,
            "Sum of Sq": lost,
            "RSS": smaller.rss,
            "AIC": n * np.log(smaller.rss / n) + 2.0 * smaller.design.p,
            "F value": F,
            "Pr(>F)": f_upper(F, df, model.df_resid) if df else np.nan,
        }
    columns = ["Df", "Sum of Sq", "RSS", "AIC", "F value", "Pr(>F)"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    heading = ("Single term deletions (least squares)", "", "Model:", str(model.design.formula))
    return AnovaTable(heading, frame, {})


def likelihood_deletions(fit: LinearMixedModelResult, names: Sequence[str]) -> AnovaTable:
    """Likelihood-ratio test of each of these terms, all models by ML."""
    import pandas as pd
    from scipy.special import chdtrc

    full = refit_ml(fit)
    rows = [{"npar": np.nan, "AIC": full.aic, "LRT": np.nan, "Pr(>Chisq)": np.nan}]
    notes = []
    for name in names:
        smaller = rebuild(full, without_fixed_term(full, name))
        df = full.df_model - smaller.df_model
        lrt = max(0.0, smaller.criterion - full.criterion)
        p = float(chdtrc(df, lrt)) if df else np.nan
        rows.append({"npar": df, "AIC": smaller.aic, "LRT": lrt, "Pr(>Chisq)": p})
        if not smaller.converged:
            notes.append(f"The model without {name} did not converge: do not trust its row")
    heading = ["Single term deletions", "", "Model:", str(fit.design.formula)]
    if fit.reml:
        heading += ["", "The REML fit was refitted by maximum likelihood (ML)"]
    frame = pd.DataFrame(rows, index=pd.Index(["<none>", *names]))
    return AnovaTable(tuple(heading), frame, {}, tuple(notes))


def drop1(
    fit: LinearMixedModelResult,
    scope: str | Sequence[str] | None = None,
    test: str = "F",
    ddf: str = "satterthwaite",
) -> AnovaTable:
    """Table of single term deletions; :meth:`LinearMixedModelResult.drop1` documents it."""
    names = droppable(fit, scope)
    ddf = check_method(ddf)
    if test == "F":
        return f_deletions(fit, names, ddf)
    if test == "Chisq":
        return likelihood_deletions(fit, names)
    raise LmmError(f"test must be 'F' or 'Chisq', not {test!r}")
