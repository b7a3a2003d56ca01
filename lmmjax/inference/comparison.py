"""Models against each other: information criteria and likelihood-ratio tests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import DataError, LmmError
from lmmjax.fitting import fit_response
from lmmjax.keywords import known_keywords

if TYPE_CHECKING:
    from lmmjax.inference.anova import AnovaTable
    from lmmjax.result import LinearMixedModelResult


def refit_ml(fit: LinearMixedModelResult) -> LinearMixedModelResult:
    """The same model by maximum likelihood; the fit itself if it is by ML.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> refit_ml(fit).method
    'ML'
    """
    if not fit.reml:
        return fit
    return replace(fit, raw=fit_response(fit.raw.prepared, fit.raw.y, reml=False))


@known_keywords
def anova(
    *fits: Any,
    refit: bool = True,
    type: str | int | None = None,
    ddf: str | None = None,
) -> AnovaTable:
    """Compare fitted models of the same response, or analyse the terms of one.

    Parameters
    ----------
    *fits : LinearMixedModelResult
        The models, in any order. Of a single one, the table is that of its
        :meth:`~lmmjax.LinearMixedModelResult.anova`.
    refit : bool, default True
        Whether REML fits are refitted by maximum likelihood, as they must be where fixed effects
        differ. The table says so.
    type, ddf : optional
        For a single model; see there.

    Returns
    -------
    AnovaTable
        One row a model, by number of parameters: ``npar``, ``AIC``, ``BIC``, ``logLik``,
        ``deviance``, and, against the row before, ``Chisq``, ``Df`` and ``Pr(>Chisq)``.

    Raises
    ------
    DataError
        The models are of different numbers of observations, or of different responses.
    LmmError
        Fits by REML and by ML, or by REML with different fixed effects, are compared as they are.

    Notes
    -----
    The test supposes that each model is a special case of the one below it in the table. Where
    variances are tested at zero, the null value lies on a boundary and the p value is too large
    (for one variance, about twice: Self & Liang 1987, J. Am. Statist. Assoc. 82, 605-610).

    Examples
    --------
    >>> import lmmjax as lj
    >>> df = lj.datasets.load("sleepstudy")
    >>> one = lj.lmm("Reaction ~ Days + (1 | Subject)", df)
    >>> two = lj.lmm("Reaction ~ Days + (Days | Subject)", df)
    >>> table = lj.anova(one, two)
    >>> table.frame[["npar", "deviance", "Chisq", "Df"]].round(3)
             npar  deviance   Chisq   Df
    model 1     4  1794.079     NaN  NaN
    model 2     6  1751.939  42.139  2.0
    """
    import pandas as pd

    from lmmjax.inference.anova import AnovaTable
    from lmmjax.result import LinearMixedModelResult

    for fit in fits:
        if not isinstance(fit, LinearMixedModelResult):
            raise LmmError(f"anova compares fits made by lmm(), not {fit.__class__.__name__}")
    if not fits:
        raise LmmError("anova needs at least one fit")
    if len(fits) == 1:
        return fits[0].anova(type="III" if type is None else type, ddf=ddf or "satterthwaite")
    if type is not None or ddf is not None:
        raise LmmError("type and ddf are for the terms of one model, not for several models")
    _check_comparable(fits)
    heading = ["Likelihood-ratio tests between models"]
    if refit and any(fit.reml for fit in fits):
        fits = tuple(refit_ml(fit) for fit in fits)
        heading.append("REML fits were refitted by maximum likelihood (ML)")
    elif not refit:
        _check_as_they_are(fits)
        if fits[0].reml:
            heading.append("Restricted likelihoods (REML): the fixed effects are the same")
    labels = [f"model {i + 1}" for i in range(len(fits))]
    heading += [f"{label}: {fit.formula}" for label, fit in zip(labels, fits, strict=True)]
    order = sorted(range(len(fits)), key=lambda i: fits[i].df_model)
    chosen = [fits[i] for i in order]
    deviance = np.array([fit.criterion for fit in chosen])
    npar = np.array([fit.df_model for fit in chosen])
    chisq = np.append(np.nan, np.maximum(0.0, deviance[:-1] - deviance[1:]))
    df = np.append(np.nan, np.diff(npar))
    frame = pd.DataFrame(
        {
            "npar": npar,
            "AIC": [fit.aic for fit in chosen],
            "BIC": [fit.bic for fit in chosen],
            "logLik": [fit.llf for fit in chosen],
            "deviance": deviance,
            "Chisq": chisq,
            "Df": df,
            "Pr(>Chisq)": _upper(chisq, df),
        },
        index=pd.Index([labels[i] for i in order]),
    )
    return AnovaTable(tuple(heading), frame, {})


def _upper(chisq: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Upper tail of chi^2; NaN where models do not differ in size, which is no test."""
    from scipy.special import chdtrc

    tested = df > 0
    return np.where(tested, chdtrc(np.where(tested, df, 1.0), chisq), np.nan)


def _check_comparable(fits: tuple[LinearMixedModelResult, ...]) -> None:
    counts = [fit.nobs for fit in fits]
    if len(set(counts)) > 1:
        raise DataError(
            f"the models were fitted to different numbers of observations ({counts}): rows with "
            "missing values are left out by the variables that a model uses; fit all to the same "
            "complete rows"
        )
    first = fits[0].raw.y
    for i, fit in enumerate(fits[1:], start=2):
        if not np.array_equal(first, fit.raw.y):
            raise DataError(
                f"models 1 and {i} are of different responses or rows: their likelihoods cannot be "
                "compared"
            )


def _check_as_they_are(fits: tuple[LinearMixedModelResult, ...]) -> None:
    if len({fit.reml for fit in fits}) > 1:
        raise LmmError("some fits are by REML and some by ML: leave refit=False out")
    if not fits[0].reml:
        return
    basis, _ = np.linalg.qr(fits[0].design.X)
    for i, fit in enumerate(fits[1:], start=2):
        X = fit.design.X
        same = X.shape[1] == basis.shape[1] and np.allclose(
            basis @ (basis.T @ X), X, atol=1e-8 * np.abs(X).max(initial=1.0)
        )
        if not same:
            raise LmmError(
                f"models 1 and {i} have different fixed effects: their REML criteria cannot be "
                "compared; leave refit=False out"
            )
