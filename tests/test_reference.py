"""The twenty reference fits: what lme4 and lmerTest say of ten models, by REML and by ML."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj

REFERENCE = json.loads((Path(__file__).parent / "reference" / "lme4.json").read_text())
ALL = [
    pytest.param(name, marks=pytest.mark.slow) if name.startswith("insteval") else name
    for name in REFERENCE
]
SMALL = [name for name in REFERENCE if not name.startswith("insteval")]


@pytest.fixture(scope="session")
def case(fits):
    """A reference fit and ours, by name."""

    def get(name):
        ref = REFERENCE[name]
        return ref, fits(ref["data"], ref["formula"], "REML" if ref["REML"] else "ML")

    return get


@pytest.mark.parametrize("name", ALL)
def test_criterion_is_never_above_lme4s(name, case):
    ref, fit = case(name)
    assert fit.converged
    assert fit.criterion <= ref["criterion"] + 1e-6
    # lme4's optimiser stops within this of the optimum.
    assert_allclose(fit.criterion, ref["criterion"], rtol=0, atol=1e-4)
    assert fit.llf == -0.5 * fit.criterion
    assert fit.deviance == fit.criterion
    assert_allclose([fit.aic, fit.bic], [ref["AIC"], ref["BIC"]], rtol=0, atol=1e-4)
    assert (fit.df_model, fit.nobs) == (ref["df_model"], ref["nobs"])
    assert fit.is_singular == ref["singular"]


@pytest.mark.parametrize("name", ALL)
def test_fixed_effects(name, case):
    ref, fit = case(name)
    assert list(fit.fixef.index) == list(ref["fixef"])
    se = np.sqrt(np.diag(ref["vcov"]))
    # An estimate may be zero: its error is the scale.
    assert_allclose(fit.fixef.to_numpy() / se, np.array([*ref["fixef"].values()]) / se, rtol=1e-5)
    assert_allclose(fit.standard_errors, se, rtol=1e-5)
    assert_allclose(fit.vcov / np.outer(se, se), ref["vcov"] / np.outer(se, se), atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_variance_components(name, case):
    ref, fit = case(name)
    theirs = pd.DataFrame(ref["varcorr"])
    ours = fit.varcorr.to_frame()
    assert ours["grp"].tolist() == [g.replace("recipe.", "recipe:") for g in theirs["grp"]]
    var2 = theirs["var2"] if "var2" in theirs else pd.Series([None] * len(theirs))
    assert ours["var2"].tolist() == [None if pd.isna(v) else v for v in var2]
    scale = ref["sigma"]
    sd = var2.isna().to_numpy()
    assert_allclose(ours["sdcor"][sd], theirs["sdcor"][sd], rtol=1e-4, atol=1e-6 * scale)
    assert_allclose(ours["sdcor"][~sd], theirs["sdcor"][~sd], atol=1e-4)
    assert_allclose(fit.sigma, ref["sigma"], rtol=1e-4)
    assert_allclose(fit.theta, np.atleast_1d(ref["theta"]), rtol=1e-4, atol=1e-6)
    names = ref["theta_names"]
    assert list(fit.theta_names) == ([names] if isinstance(names, str) else names)


@pytest.mark.parametrize("name", SMALL)
def test_satterthwaite(name, case):
    ref, fit = case(name)
    table = pd.DataFrame(ref["coef_table"])
    assert_allclose(fit.df, table["df"], rtol=1e-3)
    assert_allclose(fit.tvalues, table["t value"], rtol=1e-4, atol=1e-6)
    # A p value's relative error is that of t times t, and of df.
    p = table["Pr(>|t|)"].to_numpy()
    assert_allclose(np.log(fit.pvalues), np.log(p), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_random_effects(name, case):
    ref, fit = case(name)
    ranef = fit.ranef(condvar=True)
    for group, rows in ref["ranef"].items():
        theirs = pd.DataFrame(rows).set_index("level").drop(columns="_row", errors="ignore")
        ours = ranef[group]
        assert ours.columns.tolist() == theirs.columns.tolist()
        assert ours.index.tolist() == theirs.index.tolist()
        scale = max(np.abs(theirs.to_numpy()).max(), 1e-3 * ref["sigma"])
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * scale)
        first = ref["condvar_first"][group]
        got = ranef.condvar[group][0]
        if isinstance(first, dict):
            # Independent bars: lme4 gives their variances, not the covariance between them.
            got, first = np.diag(np.diag(got)), np.diag([*first.values()])
        expected = np.atleast_2d(first)
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        scale = np.maximum(scale, 1e-6 * ref["sigma"] ** 2)
        assert_allclose(got / scale, expected / scale, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_rows(name, case):
    ref, fit = case(name)
    scale = ref["sigma"]
    for ours, theirs in (
        (fit.fittedvalues, ref["fitted_head"]),
        (fit.predict(include_re=False), ref["fixed_pred_head"]),
        (fit.resid(), ref["resid_head"]),
        (fit.augment()[".resid"], ref["resid_head"]),
    ):
        assert_allclose(ours.to_numpy()[:10] / scale, np.array(theirs) / scale, atol=1e-5)
    assert_allclose(fit.augment()[".hat"][:10], ref["hat_head"], rtol=1e-4)
    assert_allclose(fit.augment()[".cooksd"][:10], ref["cooks_head"], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_insteval_reads_like_the_small_ones(case):
    """What the reference file does not hold for the largest fit: identities instead."""
    _, fit = case("insteval_reml")
    assert isinstance(fit, lj.LinearMixedModelResult)
    effects = fit.ranef()
    assert {g: len(f) for g, f in effects.items()} == fit.ngroups
    # Each random effect's mode is Lambda Lambda' Z'(y - fitted): the mixed model equations' rows.
    residual = fit.resid().to_numpy()
    for term, theta in zip(fit.design.terms, fit.theta, strict=True):
        sums = np.bincount(term.index, term.Z[:, 0] * residual, len(term.levels))
        assert_allclose(effects[term.group].iloc[:, 0], theta**2 * sums, atol=1e-8)
    assert_allclose(fit.design.X.T @ residual, 0.0, atol=1e-6)
