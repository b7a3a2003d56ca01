"""Tests of the fixed-effects terms that may go: those that no other term contains.

Source: Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13), and the `drop1` methods
of lmerTest (F tests of one fit) and lme4 (likelihood ratios between ML fits).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.anova import METHOD_NAMES, AnovaTable
from lmmjax.inference.comparison import refit_ml
from lmmjax.inference.contrasts import check_method, f_table, f_test, f_upper
from lmmjax.inference.reduction import Model, marginal_terms, rebuild, without_fixed_term

if TYPE_CHECKING:
    from lmmjax.inference.linear_model import LinearModel
    from lmmjax.result import LinearMixedModelResult


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


def drop_contrasts(fit: LinearMixedModelResult, name: str) -> np.ndarray:
    """Rows L, shape (q, p), so that ``L beta = 0`` is the model without a term.

    Where columns are aliased, or no intercept takes up what a factor leaves, the model without the
    term is coded anew; else these are the rows of the term's coefficients.
    """
    coding, design = fit.design.coding, fit.design
    own = np.array(coding.assign) == coding.term_names.index(name) + 1
    if coding.has_intercept and not design.dropped_columns:
        return np.eye(design.p)[own]
    smaller = _columns_without(fit, name)
    basis, _ = np.linalg.qr(smaller)
    rest = design.X - basis @ (basis.T @ design.X)
    size = np.linalg.norm(design.X, axis=0)
    rest = rest[:, np.linalg.norm(rest, axis=0) > 1e-8 * size]
    directions, values, _ = np.linalg.svd(design.X.T @ rest, full_matrices=False)
    return directions[:, values > 1e-8 * values.max(initial=0.0)].T


def _columns_without(fit: LinearMixedModelResult, name: str) -> np.ndarray:
    """Independent fixed-effects columns of the model without a term, at the fit's rows."""
    from lmmjax.checks import independent_columns
    from lmmjax.inference.term_hypotheses import coder_of_rows

    part, X = coder_of_rows(fit, contrasts=True).code(without_fixed_term(fit, name).fixed)
    return X[:, independent_columns(X, 0 if part.names[:1] == ("(Intercept)",) else None)]


def f_deletions(fit: LinearMixedModelResult, names: Sequence[str], ddf: str) -> AnovaTable:
    """F test of each of these terms in one fit."""
    hypotheses = {name: drop_contrasts(fit, name) for name in names}
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
