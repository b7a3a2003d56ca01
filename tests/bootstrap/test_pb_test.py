"""The bootstrapped likelihood-ratio test: pbkrtest's table and distribution, and its level."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, ks_2samp
from scipy.stats import f as f_distribution

import lmmjax as lj
from lmmjax.bootstrap.pb_test import BootstrapTest, lr_statistic
from lmmjax.optimize.solution import Status

R = json.loads((Path(__file__).parent / "bootstrap.json").read_text())
MODELS = {
    "fixed": (
        "cake",
        "angle ~ recipe + temp + (1 | recipe:replicate)",
        "angle ~ temp + (1 | recipe:replicate)",
    ),
    "random": (
        "Pastes",
        "strength ~ 1 + (1 | sample) + (1 | batch)",
        "strength ~ 1 + (1 | sample)",
    ),
}


def of_pbkrtest(name):
    """The test that pbkrtest's own replicates make, and its table."""
    r = R[name]
    reference = np.maximum(r["ref"], 0.0)
    table = pd.DataFrame(r["table"]).set_index("row").drop(columns="_row").astype(float)
    return BootstrapTest(r["stat"], r["df"], reference, ("", "")), table


def test_the_table_is_pbkrtests_for_fixed_effects():
    test, table = of_pbkrtest("fixed")
    assert test.extreme == R["fixed"]["extreme"]
    # pbkrtest's F has the replicates' mean itself, where the F of Halekoh & Højsgaard (2014) has
    # that mean over the number of parameters (2 here): its denominator df are 3.7 in place of 28.
    ours = test.frame.drop(index="F")
    pd.testing.assert_frame_equal(ours, table.drop(index="F"), rtol=1e-8, check_names=False)
    assert test.frame.loc["F", "stat"] == pytest.approx(table.loc["F", "stat"])
    # So that one replicate in twenty is beyond the F of 5 %
    edge = replace(test, statistic=float(np.quantile(test.used, 0.95)))
    assert edge.frame.loc["F", "p.value"] == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("q", [1, 3])
def test_the_f_row_finds_the_f_distribution_of_its_replicates(q):
    # All quantiles of a known F: its df, and its tail, are to come back.
    quantiles = f_distribution.ppf((np.arange(20_000) + 0.5) / 20_000, q, 30.0)
    row = BootstrapTest(8.0, q, q * quantiles, ("", "")).frame.loc["F"]
    assert row["ddf"] == pytest.approx(30.0, rel=0.01)
    assert row["p.value"] == pytest.approx(f_distribution.sf(8.0 / q, q, 30.0), rel=0.01)
    # Replicates that are shorter in the tail than any F
    row = BootstrapTest(8.0, q, 0.9 * q * quantiles / quantiles.mean(), ("", "")).frame.loc["F"]
    assert row["ddf"] == np.inf
    assert row["p.value"] == pytest.approx(chi2.sf(8.0, q), rel=1e-9)


def test_zeros_are_kept_where_a_variance_is_tested():
    """Pbkrtest leaves them out; its distributions here have the rest of their mass at zero."""
    r = R["random"]
    test, table = of_pbkrtest("random")
    share = r["positive"] / len(r["ref"])
    assert 0.4 < share < 0.6
    assert test.pvalue == pytest.approx((1 + r["extreme"]) / (1 + len(r["ref"])))
    for row in ("Gamma", "Bartlett"):
        theirs = table.loc[row, "p.value"]
        assert test.frame.loc[row, "p.value"] == pytest.approx(share * theirs, rel=1e-8)
    assert "statistic 0" in str(test)


@pytest.mark.parametrize("name", list(MODELS))
def test_replicates_are_distributed_as_pbkrtests(fits, name):
    data, large, small = MODELS[name]
    test = lj.pb_test(fits(data, large), fits(data, small), 2000, key=1)
    theirs, _ = of_pbkrtest(name)
    # Some of its zeros are positive by rounding.
    theirs = replace(theirs, reference=lr_statistic(theirs.reference, 0.0))
    assert test.statistic == pytest.approx(theirs.statistic, rel=1e-3)
    assert test.df == theirs.df
    assert np.isfinite(test.reference).all()
    # Both are simulations: 1,000 there, 2,000 here.
    error = np.sqrt(0.25 * (1 / 1000 + 1 / 2000))
    assert abs(test.pvalue - theirs.pvalue) < 3.5 * error
    assert abs(np.mean(test.used > 0) - np.mean(theirs.used > 0)) < 3.5 * error
    assert ks_2samp(test.used[test.used > 0], theirs.used[theirs.used > 0]).pvalue > 1e-3


@pytest.mark.filterwarnings("ignore::lmmjax.errors.LmmWarning")
def test_a_variance_is_rejected_at_the_level():
    """Under a variance of zero ``P(p <= a) = a``: 1 + n divides by 1/a, so without rounding."""
    rng = np.random.default_rng(5)
    df = pd.DataFrame({"g": np.repeat(np.arange(10), 4), "x": np.tile([-3.0, -1.0, 1.0, 3.0], 10)})
    trials = 300
    Y = rng.normal(size=(trials, 40)) + np.repeat(rng.normal(size=(trials, 10)), 4, axis=1)
    large = lj.lmm("y ~ x + (1 + x || g)", df.assign(y=Y[0]), method="ML")
    small = lj.lmm("y ~ x + (1 | g)", df.assign(y=Y[0]), method="ML")
    p = np.array(
        [lj.pb_test(large.refit(y), small.refit(y), 39, key=i).pvalue for i, y in enumerate(Y)]
    )
    for level in (0.05, 0.1, 0.3):
        error = np.sqrt(level * (1 - level) / trials)
        assert abs(np.mean(p <= level) - level) < 3 * error


@pytest.fixture(scope="module")
def pair(fits):
    made = [fits("cake", formula, method="ML") for formula in MODELS["fixed"][1:]]
    return made[0], made[1]


def changed(fit, **fields):
    """The fit with another end of its search."""
    return replace(fit, raw=replace(fit.raw, estimate=fit.raw.estimate._replace(**fields)))


def test_what_cannot_be_tested(pair):
    large, small = pair
    with pytest.raises(lj.LmmError, match="larger one first"):
        lj.pb_test(small, large)
    with pytest.raises(lj.LmmError, match=r"made by lmm\(\), not str"):
        lj.pb_test(large, small.formula)
    with pytest.raises(lj.LmmError, match=r"int of at least 2, not 1\.5"):
        lj.pb_test(large, small, 1.5)
    worse = changed(large, criterion=large.raw.estimate.criterion + 5.0)
    with pytest.raises(lj.LmmError, match="large model fits worse"):
        lj.pb_test(worse, small)
    solution = small.raw.estimate.solution
    stopped = changed(small, solution=solution._replace(status=np.int32(Status.NOT_FINITE)))
    with pytest.raises(lj.LmmError, match="the small model did not converge"):
        lj.pb_test(large, stopped)


def test_statistics_below_zero():
    found = lr_statistic(np.array([5.0, 5.0, 5.0, np.nan]), np.array([3.0, 5.0 + 1e-9, 5.5, 1.0]))
    np.testing.assert_array_equal(found, [2.0, 0.0, np.nan, np.nan])


def test_replicates_that_did_not_converge_are_left_out():
    test = BootstrapTest(1.0, 1, np.array([2.0, np.nan, 0.0, 0.5, 1.0]), ("a", "b"))
    assert test.pvalue == 3 / 5
    assert "4 replicates, 2 at least as extreme, 1 with the statistic 0" in str(test)
    assert "1 did not converge and is left out" in str(test)


def test_progress(pair, capfd):
    lj.pb_test(*pair, 300, progress=True)
    said = capfd.readouterr().err
    assert "bootstrap test" in said
    assert "600/600" in said or "600 of 600" in said
