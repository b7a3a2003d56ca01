"""Tests of contrasts in many fits: each lane's are those of the single fit, by every method."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj

METHODS = ("satterthwaite", "kenward-roger", "asymptotic")
HYPOTHESES = ["time = 0.5", "armb = 0"]
STUDY = "y ~ time + arm + (1 + time | id)"
CROSSED = "y ~ arm + (1 | id) + (1 | item)"
MODELS = {
    "one factor": (STUDY, 0.0),
    "one factor, rows missing": (STUDY, 0.1),
    "crossed": (CROSSED, 0.0),
    "crossed, rows missing": (CROSSED, 0.1),
}


def many_fits(formula, missing, count=16, **kwargs):
    arm = {"arm": ["a", "b"]}
    if "item" in formula:
        frame = lj.simulate_design({"id": 10}, crossed={"item": 8}, between=arm, seed=1)
        truth = {"sd": {"id": 1.5, "item": 0.5}, "sigma": 2.0}
    else:
        frame = lj.simulate_design({"id": 10}, within={"time": range(5)}, between=arm, seed=1)
        truth = {"sd": [2.0, 1.0], "correlation": 0.2, "sigma": 2.0}
    design = lj.Design.from_formula(formula, frame)
    Y = np.array(lj.simulate(design, lj.TrueParameters.for_design(design, **truth), count, key=3))
    Y[np.random.default_rng(1).random(Y.shape) < missing] = np.nan
    return lj.fit_many(design, Y, **kwargs), Y, frame


@pytest.mark.parametrize("name", MODELS)
def test_lanes_are_the_single_fits(name):
    formula, missing = MODELS[name]
    many, Y, frame = many_fits(formula, missing)
    hypotheses = HYPOTHESES if "time" in formula else ["armb = 1"]
    joint = {ddf: many.contest(hypotheses, ddf=ddf) for ddf in METHODS}
    each = {ddf: many.contest(hypotheses, ddf=ddf, joint=False) for ddf in METHODS}
    # Singular ones among them, where derivatives are continued to the boundary.
    singular = np.flatnonzero(many.singular)[:2].tolist()
    assert singular
    for r in [*np.flatnonzero(~many.singular)[:2].tolist(), *singular]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lj.LmmWarning)
            fit = lj.lmm(formula, frame.assign(y=Y[r]))
        for ddf in METHODS:
            wanted = fit.contest(hypotheses, ddf=ddf).iloc[0]
            names = ["NumDF", "DenDF", "F value", "Pr(>F)"]
            assert_allclose(joint[ddf].loc[r, names], wanted[names], rtol=1e-5)
            wanted = fit.contest(hypotheses, ddf=ddf, joint=False)
            names = ["Estimate", "Std. Error", "df", "t value", "Pr(>|t|)"]
            assert_allclose(each[ddf].loc[r][names], wanted[names], rtol=1e-5)


def test_a_fit_without_estimates_does_not_stop_the_others():
    many, _, _ = many_fits(STUDY, 0.0)
    theta = np.array(many.estimate.solution.theta)
    beta, vcov = np.array(many.beta), np.array(many.vcov)
    theta[3], beta[3], vcov[3] = np.nan, np.nan, np.nan
    estimate = many.estimate._replace(
        solution=many.estimate.solution._replace(theta=theta),
        fixed=many.estimate.fixed._replace(beta=beta, vcov=vcov),
    )
    broken = replace(many, estimate=estimate)
    for ddf in METHODS:
        p = broken.contest(HYPOTHESES, ddf=ddf)["Pr(>F)"].to_numpy()
        assert np.isnan(p[3])
        assert_allclose(
            np.delete(p, 3),
            np.delete(many.contest(HYPOTHESES, ddf=ddf)["Pr(>F)"].to_numpy(), 3),
            rtol=1e-9,
        )


def test_what_cannot_be_tested_is_said():
    many, _, _ = many_fits(STUDY, 0.0)
    with pytest.raises(lj.LmmError, match="only 1"):
        many.contest(["time = 0", "2 * time = 0"])
    with pytest.raises(lj.LmmError, match="ddf must be one of"):
        many.contest("time = 0", ddf="welch")
    by_ml, _, _ = many_fits(STUDY, 0.0, method="ML")
    with pytest.raises(lj.LmmError, match="defined for REML fits"):
        by_ml.contest("time = 0", ddf="kenward-roger")


def test_power_by_kenward_roger():
    """With one mean a group and groups of one size, the t test is exact, and so is its level."""
    frame = lj.simulate_design({"id": 6}, 4, between={"arm": ["a", "b"]})
    design = lj.Design.from_formula("y ~ arm + (1 | id)", frame)
    truth = lj.TrueParameters.for_design(design, sd=3.0, sigma=1.0)
    found = lj.power(design, truth, "armb", nsim=4000, ddf="kenward-roger", key=2)
    low, high = found.tally.interval(0.999)
    assert low < 0.05 < high
    with pytest.raises(lj.LmmError, match="defined for REML fits"):
        lj.power(design, truth, "armb", method="ML", ddf="kenward-roger")
