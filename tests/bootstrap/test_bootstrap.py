"""Bootstrap: intervals as R's boot, residuals as Carpenter's, spreads as theory has them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lmmjax as lj
from lmmjax.bootstrap.intervals import interval
from lmmjax.bootstrap.schemes import reflated, residual_responses, wild_responses

R = json.loads((Path(__file__).parent / "bootstrap.json").read_text())
#: Replicates where few do: a batch of the size that 4,000 come in, so that nothing is compiled.
N = 300


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
    np.testing.assert_allclose(boot.original[["(Intercept)", "Days"]], fit.beta, rtol=1e-14)
    assert boot.original["sigma"] == pytest.approx(fit.sigma, rel=1e-14)
    sd = np.sqrt(np.diagonal(fit.varcorr["Subject"]))
    names = ["sd_(Intercept)|Subject", "sd_Days|Subject"]
    np.testing.assert_allclose(boot.original[names], sd, rtol=1e-12)
    text = str(boot)
    assert "4000 replicates" in text
    assert "singular" in text


@pytest.mark.parametrize("type", ["percentile", "basic", "normal"])
def test_intervals_of_fixed_effects_are_near_the_exact_ones(boot, type):
    exact = boot.fit.conf_int(method="wald-z")
    found = boot.conf_int(type=type).loc[exact.index]
    np.testing.assert_allclose(found, exact, atol=0.12 * boot.fit.bse.max())


def test_without_a_value_for_every_group_there_is_no_bca_interval():
    ci = R["ci"]
    gap = np.append(np.array(ci["x"])[:-1], np.nan)
    replicates = np.array(ci["replicates"])
    assert np.isnan(interval(ci["original"], replicates, 0.9, "bca", gap)).all()
    # Nor where all replicates are on one side of the estimate, as at a boundary.
    whole = np.array(ci["x"])
    assert np.isnan(interval(0.0, np.abs(replicates), 0.9, "bca", whole)).all()
    tied = np.where(replicates > ci["original"], replicates, 0.0)
    assert np.isnan(interval(1e-12, tied, 0.9, "bca", whole)).all()


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


def test_reflated_effects_are_carpenters():
    """``U (L_R L_S^-1)'`` with the Cholesky roots of both covariances, as the paper has it."""
    rng = np.random.default_rng(1)
    mixing = np.array([[0.3, 0.0, 0.0], [0.1, 0.1, 0.2], [0.0, 0.4, 0.3]])
    effects = rng.normal(size=(30, 3)) @ mixing + 2.0
    factor = np.array([[2.0, 0.0, 0.0], [0.5, 1.5, 0.0], [-0.4, 0.2, 0.1]])
    found = reflated(effects, factor)
    centred = effects - effects.mean(axis=0)
    own = np.linalg.cholesky(centred.T @ centred / 30)
    np.testing.assert_allclose(found, centred @ (factor @ np.linalg.inv(own)).T, atol=1e-12)
    np.testing.assert_allclose(found.T @ found / 30, factor @ factor.T, atol=1e-13)
    # Effects that have the covariance already stay as they are, and units do not matter.
    np.testing.assert_allclose(reflated(found, factor), found, atol=1e-12)
    units = np.array([1.0, 1e4, 1e-5])
    scaled = reflated(effects * units, units[:, None] * factor)
    np.testing.assert_allclose(scaled, found * units, rtol=1e-9)


def assert_reflated(fit):
    for modes, factor in zip(fit.raw.modes, fit.raw.factors, strict=True):
        effects = reflated(modes, fit.sigma * factor)
        wanted = fit.sigma**2 * factor @ factor.T
        size = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
        gap = np.abs(effects.T @ effects / len(effects) - wanted)
        assert (gap <= 1e-6 * np.maximum(size, 1e-12)).all()


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"),
        ("Dyestuff2", "Yield ~ 1 + (1 | Batch)"),
    ],
)
def test_reflated_modes_have_the_estimated_covariance(fits, name, formula):
    assert_reflated(fits(name, formula))


@pytest.mark.filterwarnings("ignore::lmmjax.errors.LmmWarning")
def test_perfectly_correlated_modes_too(boot):
    correlation = boot.replicates["cor_Days.(Intercept)|Subject"]
    singular = np.flatnonzero(correlation.abs() > 1 - 1e-9)[:3]
    assert singular.size
    for y in boot.fit.simulate(4000, key=1)[singular]:
        assert_reflated(boot.fit.refit(y))


@pytest.mark.parametrize("kind", ["residual", "wild", "cases"])
def test_other_kinds_agree_on_the_standard_error(boot, kind):
    n = 150 if kind == "cases" else 2000
    other = boot.fit.bootstrap(n, kind, key=2).frame["std_error"]
    # They resample 18 subjects: of the same order, not the same.
    ratio = other["Days"] / boot.fit.bse["Days"]
    assert 0.75 < ratio < 1.3


def test_the_wild_bootstrap_has_no_interval_of_variances(boot):
    fit = boot.fit
    wild = fit.bootstrap(2000, "wild", key=2)
    fixed = ["(Intercept)", "Days"]
    # Why: what theory has for sigma (a chi-square with 144 df), replicates of it exceed by far.
    assert wild.replicates["sigma"].std() > 1.8 * fit.sigma / np.sqrt(2 * 144)
    assert boot.replicates["sigma"].std() == pytest.approx(fit.sigma / np.sqrt(2 * 144), rel=0.1)
    with pytest.warns(lj.LmmWarning, match=r"no interval of sd_.*sigma: .*'parametric'") as said:
        found = wild.conf_int()
    assert len(said) == 1
    assert found.loc[fixed].notna().all(axis=None)
    assert found.drop(fixed).isna().all(axis=None)
    assert wild.frame["std_error"].drop(fixed).isna().all()
    # Found out by what a statistic does, not by its name.
    with pytest.raises(lj.LmmError, match=r"no interval of statistic1: .*'parametric'"):
        replace(wild, statistic=lambda many: many.beta[:, 1] / many.sigma).conf_int()
    t = replace(wild, statistic=lambda many: many.tvalues)
    assert t.refused == ()
    assert boot.refused == ()


def test_a_users_statistic(boot):
    fit = boot.fit
    own = fit.bootstrap(N, statistic=lambda many: {"ratio": many.beta[:, 1] / many.sigma}, key=1)
    drawn = boot.replicates.iloc[:N]
    np.testing.assert_allclose(own.replicates["ratio"], drawn["Days"] / drawn["sigma"], rtol=1e-9)
    with pytest.raises(lj.LmmError, match="shape"):
        fit.bootstrap(N, statistic=lambda many: many.beta[:3])
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


def test_a_fits_bootstrap_intervals_are_those_of_its_bootstrap(boot):
    fit = boot.fit
    found = fit.conf_int(0.9, method="bootstrap", type="basic", n=N, key=3)
    pd.testing.assert_frame_equal(found, fit.bootstrap(N, key=3).conf_int(0.9, "basic"))
    fixed = fit.conf_int(0.9, "bootstrap", "fixed", type="basic", n=N, key=3)
    pd.testing.assert_frame_equal(fixed, found.loc[["(Intercept)", "Days"]])
    with pytest.raises(lj.LmmError, match="'percentile', 'basic', 'normal', 'bca', not 'exact'"):
        fit.conf_int(method="bootstrap", type="exact")
    with pytest.raises(lj.LmmError, match="n, key: for method='bootstrap' alone, not 'profile'"):
        fit.conf_int(method="profile", n=10, key=1)


@pytest.mark.parametrize("kind", ["parametric", "cases"])
def test_progress_counts_every_replicate(boot, kind, capfd):
    boot.fit.bootstrap(N, kind)
    assert capfd.readouterr().err == ""
    boot.fit.bootstrap(N, kind, progress=True)
    said = capfd.readouterr().err
    assert f"{kind} bootstrap" in said
    assert f"{N}/{N}" in said or f"{N} of {N}" in said
