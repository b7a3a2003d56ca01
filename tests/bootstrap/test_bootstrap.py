"""Bootstrap: intervals as R's boot, the test as pbkrtest's, spreads as theory has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lmmjax as lj
from lmmjax.bootstrap.intervals import interval
from lmmjax.bootstrap.schemes import reflated, residual_responses, wild_responses

R = json.loads((Path(__file__).parent / "bootstrap.json").read_text())


@pytest.mark.parametrize("type", ["normal", "basic", "percentile", "bca"])
def test_intervals_are_those_of_boot_ci(type):
    ci = R["ci"]
    x = np.array(ci["x"])
    jackknife = (x.sum() - x) / (x.size - 1)
    found = interval(ci["original"], np.array(ci["replicates"]), 0.9, type, jackknife)
    np.testing.assert_allclose(found, ci[type], rtol=1e-6)


@pytest.fixture(scope="module")
def boot(fits):
    fit = fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)")
    return fit.bootstrap(4000, key=1)


def test_parametric_replicates_vary_as_theory_has_it(boot):
    fit = boot.fit
    sd = boot.frame["std_error"]
    error = 1 / np.sqrt(2 * 4000)
    # A balanced design: generalised least squares does not depend on the variances.
    np.testing.assert_allclose(sd[["(Intercept)", "Days"]], fit.bse, rtol=4 * error)
    # Residual variance: sigma² chi²(n - groups x 2) / df, but for the few singular fits.
    ratio = boot.replicates["sigma"] ** 2 / fit.sigma**2
    assert ratio.mean() == pytest.approx(1.0, abs=0.01)
    assert ratio.var() == pytest.approx(2 / 144, rel=0.1)
    assert list(boot.replicates) == list(fit.conf_int(which="all").index)


def test_the_original_is_the_fit(boot):
    fit = boot.fit
    np.testing.assert_allclose(boot.original[["(Intercept)", "Days"]], fit.beta, rtol=1e-10)
    assert boot.original["sigma"] == pytest.approx(fit.sigma, rel=1e-10)
    text = str(boot)
    assert "4000 replicates" in text
    assert "singular" in text


@pytest.mark.parametrize("type", ["percentile", "basic", "normal"])
def test_intervals_of_fixed_effects_are_near_the_exact_ones(boot, type):
    exact = boot.fit.conf_int(method="wald-z")
    found = boot.conf_int(type=type).loc[exact.index]
    np.testing.assert_allclose(found, exact, atol=0.12 * boot.fit.bse.max())


def test_bca_leaves_a_symmetric_statistic_almost_alone(boot):
    days = boot.conf_int(type="bca").loc["Days"] - boot.conf_int().loc["Days"]
    assert np.abs(days).max() < 0.25 * boot.fit.bse["Days"]


def test_residual_and_wild_responses_have_the_models_mean_and_variance(boot):
    fit = boot.fit
    rng = np.random.default_rng(0)
    Z = np.column_stack([np.ones(180), fit.design.X[:, 1]])
    covariance = fit.raw.factors[0] @ fit.raw.factors[0].T * fit.sigma**2
    expected = np.sum((Z @ covariance) * Z, axis=1) + fit.sigma**2
    Y = residual_responses(fit, 4000, rng)
    np.testing.assert_allclose(Y.mean(axis=0), fit.marginal_mean, atol=4 * 75 / np.sqrt(4000))
    np.testing.assert_allclose(Y.var(axis=0), expected, rtol=0.15)
    wild = wild_responses(fit, 4000, rng)
    np.testing.assert_allclose(wild.mean(axis=0), fit.marginal_mean, atol=10)


def test_reflated_effects_have_the_estimated_covariance():
    rng = np.random.default_rng(1)
    factor = np.array([[2.0, 0.0], [0.5, 1.5]])
    effects = reflated(rng.normal(size=(30, 2)) @ np.diag([0.3, 0.1]), factor)
    np.testing.assert_allclose(effects.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(effects.T @ effects / 30, factor @ factor.T, rtol=1e-10)


@pytest.mark.parametrize("kind", ["residual", "wild", "cases"])
def test_other_kinds_agree_on_the_standard_error(boot, kind):
    n = 150 if kind == "cases" else 2000
    other = boot.fit.bootstrap(n, kind, key=2).frame["std_error"]
    # They resample 18 subjects: of the same order, not the same.
    ratio = other["Days"] / boot.fit.bse["Days"]
    assert 0.75 < ratio < 1.3


def test_a_users_statistic(boot):
    fit = boot.fit
    own = fit.bootstrap(50, statistic=lambda many: {"ratio": many.beta[:, 1] / many.sigma}, key=1)
    drawn = boot.replicates.iloc[:50]
    np.testing.assert_allclose(own.replicates["ratio"], drawn["Days"] / drawn["sigma"], rtol=1e-9)
    with pytest.raises(lj.LmmError, match="shape"):
        fit.bootstrap(10, statistic=lambda many: many.beta[:3])
    with pytest.raises(lj.LmmError, match="kind"):
        fit.bootstrap(10, kind="jackknife")
    with pytest.raises(lj.LmmError, match="replicates"):
        fit.bootstrap(1)
    with pytest.raises(lj.LmmError, match="type"):
        own.conf_int(type="exact")


def test_whole_groups_need_a_nested_design(fits):
    fit = fits("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)")
    with pytest.raises(lj.LmmError, match="not nested"):
        fit.bootstrap(5, "wild")


def test_pb_test_as_pbkrtest(fits):
    pb = R["pb"]
    large = fits("cake", "angle ~ recipe + temp + (1 | recipe:replicate)")
    small = fits("cake", "angle ~ temp + (1 | recipe:replicate)")
    test = lj.pb_test(large, small, 4000, key=1)
    assert test.statistic == pytest.approx(pb["stat"], rel=1e-4)
    assert test.df == pb["df"]
    # Both are simulations: 1,000 there, 4,000 here.
    error = np.sqrt(pb["p"] * (1 - pb["p"]) * (1 / 1000 + 1 / 4000))
    assert abs(test.pvalue - pb["p"]) < 4 * error
    mean_error = np.sqrt(pb["var"] * (1 / 1000 + 1 / 4000))
    assert abs(np.mean(test.used) - pb["mean"]) < 4 * mean_error
    frame = test.frame["p.value"]
    assert frame["LRT"] == pytest.approx(pb["lrt"], rel=1e-4)
    for row, name in (("Gamma", "gamma"), ("Bartlett", "bartlett"), ("F", "f")):
        assert frame[row] == pytest.approx(pb[name], abs=0.03)
    with pytest.raises(lj.LmmError, match="larger one first"):
        lj.pb_test(small, large)
