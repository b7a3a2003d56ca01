"""Many fits: each lane is the single fit, and lme4's; nothing depends on how they are batched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lmmjax as lj
from lmmjax.errors import DataError, LmmError, RankWarning

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def stored():
    """200 responses of 20 groups x 5 rows, and lme4's fits of them."""
    Y = np.loadtxt(HERE / "responses.csv", delimiter=",").T
    frame = pd.DataFrame({"id": np.repeat(np.arange(20), 5), "time": np.tile(np.arange(5.0), 20)})
    design = lj.Design.from_formula("y ~ time + (1 + time | id)", frame)
    return lj.fit_many(design, Y), pd.read_csv(HERE / "lme4.csv"), frame, Y


def test_two_hundred_fits_agree_with_lme4(stored):
    many, lme4, _, _ = stored
    assert many.converged.all()
    difference = many.criterion - lme4.criterion.to_numpy()
    assert difference.max() < 1e-8  # never above lme4's
    assert difference.min() > -1e-6
    np.testing.assert_allclose(many.beta, lme4[["beta0", "beta1"]], rtol=1e-9)
    np.testing.assert_allclose(many.sigma, lme4.sigma, rtol=1e-4)
    np.testing.assert_allclose(many.se, lme4[["se0", "se1"]], rtol=2e-4)
    np.testing.assert_allclose(many.theta, lme4[["theta1", "theta2", "theta3"]], atol=1e-3)
    # lmerTest differentiates numerically, where lme4 stopped: near the boundary that shows.
    off = np.max(np.abs(many.df / lme4[["df0", "df1"]].to_numpy() - 1.0), axis=1)
    assert np.median(off) < 1e-4
    assert np.mean(off < 1e-3) > 0.97
    assert off.max() < 0.05
    off = np.max(np.abs(many.pvalues - lme4[["p0", "p1"]].to_numpy()), axis=1)
    assert np.mean(off < 1e-4) > 0.97
    assert off.max() < 1e-3
    # The power that a loop over lmerTest would have found.
    np.testing.assert_array_equal(
        np.count_nonzero(many.pvalues < 0.05, axis=0),
        np.count_nonzero(lme4[["p0", "p1"]].to_numpy() < 0.05, axis=0),
    )
    # A third of such data sets and more are singular: the boundary is the common case.
    assert np.mean(many.singular == (lme4.singular == 1)) > 0.95
    assert 0.3 < np.mean(many.singular) < 0.6


@pytest.mark.filterwarnings("ignore::lmmjax.errors.SingularFitWarning")
def test_singular_is_one_rule_for_fits_and_lanes_in_any_units(stored):
    many, _, frame, Y = stored
    assert 0 < many.singular.sum() < len(many)
    for unit in (1e-5, 1e5):
        scaled = frame.assign(time=frame.time * unit)
        design = lj.Design.from_formula("y ~ time + (1 + time | id)", scaled)
        again = lj.fit_many(design, Y)
        np.testing.assert_array_equal(again.singular, many.singular)
        fit = lj.lmm("y ~ time + (1 + time | id)", scaled.assign(y=Y[0]))
        alone = [fit.is_singular, *(fit.refit(y).is_singular for y in Y[1:40])]
        np.testing.assert_array_equal(alone, many.singular[:40])


def test_lanes_do_not_depend_on_the_batch(stored):
    many, _, frame, Y = stored
    design = lj.Design.from_formula("y ~ time + (1 + time | id)", frame)
    for lanes, workers in ((64, 1), (64, 2)):
        again = lj.fit_many(design, Y, lanes=lanes, workers=workers)
        np.testing.assert_allclose(again.criterion, many.criterion, rtol=1e-13)
        np.testing.assert_allclose(again.df, many.df, rtol=1e-6)
        np.testing.assert_array_equal(again.status, many.status)


def cases():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "id": np.repeat(np.arange(12), 6),
            "school": np.repeat(np.arange(4), 18),
            "item": np.tile(np.arange(6), 12),
            "x": rng.normal(size=72).round(2),
            "w": rng.uniform(0.5, 2.0, 72).round(2),
        }
    )
    frame["y"] = (
        rng.normal(size=12)[frame.id] + 0.7 * rng.normal(size=6)[frame.item] + rng.normal(size=72)
    )
    return {
        "balanced, ML": ("y ~ 1 + (1 | id)", frame, {"method": "ML"}),
        "unbalanced, weighted": ("y ~ x + (x || id)", frame.iloc[5:70], {"weights": "w"}),
        "no fixed effects": ("y ~ 0 + (1 | id)", frame, {}),
        "nested": ("y ~ x + (1 | school/id)", frame, {}),
        "crossed": ("y ~ x + (1 | id) + (1 | item)", frame, {}),
    }


@pytest.mark.parametrize("name", cases())
@pytest.mark.filterwarnings("ignore::lmmjax.errors.SingularFitWarning")
def test_each_lane_is_the_single_fit(name):
    formula, frame, options = cases()[name]
    fit = lj.lmm(formula, frame, **options)
    Y = fit.simulate(6, key=4)
    rng = np.random.default_rng(5)
    Y = np.concatenate([Y, rng.normal(size=(4, Y.shape[1]))])  # no groups: the boundary
    many = lj.fit_many(fit, Y)
    assert many.converged.all()
    seen = []
    for r, y in enumerate(Y):
        single = fit.refit(y)
        assert abs(single.criterion - many.criterion[r]) < 1e-8
        np.testing.assert_allclose(many.theta[r], single.theta, atol=1e-6)
        np.testing.assert_allclose(many.beta[r], single.beta, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(many.df[r], single.df, rtol=1e-5)
        np.testing.assert_allclose(many.pvalues[r], single.pvalues, rtol=1e-5)
        np.testing.assert_allclose(many.se[r], single.bse, rtol=1e-6)
        assert many.singular[r] == single.is_singular
        seen.append(single.is_singular)
    assert any(seen)


def test_frame_and_intervals(stored):
    many, *_ = stored
    frame = many.frame()
    assert list(frame.term[:2]) == ["(Intercept)", "time"]
    assert len(frame) == 400
    np.testing.assert_array_equal(frame.p_value.to_numpy().reshape(200, 2), many.pvalues)
    low, high = np.moveaxis(many.conf_int(), -1, 0)
    # An interval that leaves out 0 is a p value below 5 %.
    np.testing.assert_array_equal((low > 0) | (high < 0), many.pvalues < 0.05)


def test_bad_responses_are_refused_before_any_computing(stored):
    *_, frame, Y = stored
    design = lj.Design.from_formula("y ~ time + (1 | id)", frame)
    with pytest.raises(DataError, match=r"shape \(200, 99\)"):
        lj.fit_many(design, Y[:, 1:])
    bad = Y[:3].copy()
    bad[1, 4] = np.inf
    with pytest.raises(DataError, match="1 of 3 responses hold infinite"):
        lj.fit_many(design, bad)
    with pytest.raises(DataError, match="no variance"):
        lj.fit_many(design, np.ones((2, 100)))
    with pytest.raises(DataError, match="no values"):
        lj.fit_many(design, np.full((2, 100), np.nan))
    with pytest.raises(DataError, match="numeric"):
        lj.fit_many(design, Y.astype(str))
    with pytest.raises(LmmError, match="method"):
        lj.fit_many(design, Y, method="loglik")  # type: ignore[arg-type]
    with pytest.raises(LmmError, match="Design"):
        lj.fit_many(frame, Y)  # type: ignore[arg-type]
    with pytest.raises(LmmError, match="level"):
        stored[0].conf_int(95)


@pytest.mark.filterwarnings("ignore::lmmjax.errors.SingularFitWarning")
@pytest.mark.parametrize("name", ["slope", "crossed"])
def test_missing_responses_leave_their_rows_out_of_that_fit(name):
    frame = cases()["crossed"][1]
    formula = {"slope": "y ~ x + (x || id)", "crossed": cases()["crossed"][0]}[name]
    rng = np.random.default_rng(8)
    Y = rng.normal(size=(5, 72)) + 1.5 * rng.normal(size=(5, 12))[:, frame.id]
    Y[rng.random(Y.shape) < 0.2] = np.nan
    Y[1, :6] = np.nan  # a group that is gone
    many = lj.fit_many(lj.build_design(formula, frame), Y)
    assert many.converged.all()
    for r, y in enumerate(Y):
        single = lj.lmm(formula, frame.assign(y=y))
        assert single.nobs == np.count_nonzero(~np.isnan(y))
        assert abs(single.criterion - many.criterion[r]) < 1e-8
        np.testing.assert_allclose(many.theta[r], single.theta, atol=1e-6)
        np.testing.assert_allclose(many.beta[r], single.beta, atol=1e-8)
        np.testing.assert_allclose(many.se[r], single.bse, rtol=1e-7)
        np.testing.assert_allclose(many.df[r], single.df, rtol=1e-5)


def test_a_missing_response_in_a_model_without_fixed_effects() -> None:
    frame = lj.datasets.load("Dyestuff").assign(Yield=lambda d: d["Yield"] - 1500.0)
    design = lj.build_design("Yield ~ 0 + (1 | Batch)", frame)
    Y = np.tile(frame["Yield"].to_numpy(float), (2, 1))
    Y[1, 3] = np.nan
    many = lj.fit_many(design, Y)
    singles = [lj.lmm("Yield ~ 0 + (1 | Batch)", d) for d in (frame, frame.drop(index=3))]
    np.testing.assert_allclose(many.criterion, [s.criterion for s in singles], rtol=1e-10)
    np.testing.assert_allclose(many.theta[:, 0], [s.theta[0] for s in singles], rtol=1e-6)
    assert many.beta.shape == (2, 0)


@pytest.mark.filterwarnings("ignore::lmmjax.errors.SingularFitWarning")
@pytest.mark.parametrize("others", ["(1 | id)", "(1 | id) + (1 | item)"])
def test_an_arm_that_is_all_missing_has_no_coefficient(others) -> None:
    arms = {"arm": ["a", "b", "c"]}
    if "item" in others:
        frame = lj.simulate_design({"id": 9}, crossed={"item": 6}, between=arms)
    else:
        frame = lj.simulate_design({"id": 9}, per_group=6, between=arms)
    frame["time"] = np.tile(np.arange(6.0), 9)
    formula = f"y ~ time + arm + {others}"
    rng = np.random.default_rng(4)
    Y = rng.normal(size=(5, 54)) + np.repeat(rng.normal(size=(5, 9)), 6, axis=1)
    if "item" in others:
        Y += 0.7 * rng.normal(size=(5, 6))[:, frame["item"].cat.codes]
    Y[:4, 3] = np.nan
    Y[1, frame["arm"] == "c"] = np.nan
    Y[2, frame["arm"] == "a"] = np.nan  # what the other arms are compared with
    Y[4, frame["arm"] == "c"] = np.nan
    design = lj.Design.from_formula(formula, frame)
    with pytest.warns(RankWarning, match=r"3 of 5 .* 'armb' in 1, 'armc' in 3"):
        many = lj.fit_many(design, Y)
    assert many.converged.all()
    assert "3 without all coefficients" in repr(many)
    known = np.ones((5, 4), bool)
    known[[1, 4], 3] = False
    known[2, [0, 2, 3]] = False  # the mean of arm a, and both differences from it
    np.testing.assert_array_equal(many.undetermined, ~known)
    for values in (many.beta, many.se, many.df, many.pvalues):
        np.testing.assert_array_equal(np.isfinite(values), known)
    # By Kenward and Roger's method with one factor only: there is much to compile.
    kr = [] if "item" in others else ["kenward-roger"]
    for ddf in ("satterthwaite", "asymptotic", *kr):
        each = many.contest(np.eye(4), joint=False, ddf=ddf)["Pr(>|t|)"].to_numpy().reshape(5, 4)
        np.testing.assert_array_equal(np.isfinite(each), known)
        joint = many.contest(["time = 0", "armb = 0"], ddf=ddf)["Pr(>F)"].to_numpy()
        np.testing.assert_array_equal(np.isfinite(joint), known[:, [1, 2]].all(axis=1))
    # What is left is the model of the arms that are there, whichever of them comes first.
    for r in (1, 2):
        data = frame.assign(y=Y[r]).dropna()
        data["arm"] = data["arm"].cat.remove_unused_categories()
        single = lj.lmm(formula, data)
        np.testing.assert_allclose(many.sigma[r], single.sigma, rtol=1e-6)
        np.testing.assert_allclose(many.theta[r], single.theta, atol=1e-5)
        mine = np.flatnonzero(known[r])
        same = [single.design.x_names.index(many.names[j]) for j in mine]
        np.testing.assert_allclose(many.beta[r, mine], np.array(single.beta)[same], atol=1e-8)
        np.testing.assert_allclose(many.se[r, mine], np.array(single.bse)[same], rtol=1e-6)
        np.testing.assert_allclose(many.df[r, mine], np.array(single.df)[same], rtol=1e-4)
        for ddf in kr:
            wanted = single.contest("time = 0", ddf=ddf, joint=False)["df"].iloc[0]
            found = many.contest("time = 0", ddf=ddf, joint=False)["df"].iloc[r]
            np.testing.assert_allclose(found, wanted, rtol=1e-4)
