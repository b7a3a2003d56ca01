"""Power as a loop over lmerTest's fits finds it, on the same 200 data sets (make_power.R)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lmmjax as lj
from lmmjax.many.sources import response_source
from lmmjax.studies import likelihood_ratio, study
from lmmjax.studies.criteria import criterion
from lmmjax.studies.likelihood_ratio import nested_pair

HERE = Path(__file__).parent
Y = np.loadtxt(HERE.parent / "many" / "responses.csv", delimiter=",").T
R = pd.read_csv(HERE / "power.csv")


@pytest.fixture(scope="module")
def designs():
    """The model, and the one without a slope of time; 20 groups x 5 rows."""
    frame = pd.DataFrame({"id": np.repeat(np.arange(20), 5), "time": np.tile(np.arange(5.0), 20)})
    large, small = (
        lj.Design.from_formula(f"y ~ {fixed} + (1 + time | id)", frame) for fixed in ("time", "1")
    )
    # No truth enters the decisions; this is what make_many.R draws from.
    truth = lj.TrueParameters.for_design(large, [50, 0.8], [4, 0.89], 0.45, sigma=5)
    return large, small, truth


@pytest.fixture
def given(monkeypatch):
    """Power studies whose data sets are those of R."""
    monkeypatch.setattr(
        study,
        "simulated_source",
        lambda design, prepared, parameters, key: response_source(prepared, Y),
    )
    monkeypatch.setattr(
        likelihood_ratio,
        "simulate_rows",
        lambda rows, parameters, count, key, first: Y[first : first + count],
    )


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_t_tests_reject_the_data_sets_that_lmertest_rejects(designs, given, ddf):
    large, _, truth = designs
    ours = criterion("time", large.x_names, truth, ddf).run(lj.fit_many(large, Y)).pvalues
    theirs = R[ddf.replace("-", "_")].to_numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    np.testing.assert_array_equal(ours < 0.05, theirs < 0.05)
    found = lj.power(large, truth, "time", nsim=len(Y), ddf=ddf)
    assert 80 < found.tally.rejected == np.count_nonzero(theirs < 0.05) < 100


def test_likelihood_ratios_reject_the_data_sets_that_anova_rejects(designs, given):
    large, small, truth = designs
    batches = nested_pair(large, small).batches(truth, 0)
    ours = batches(0, len(Y))[1].pvalues
    theirs = R.likelihood_ratio.to_numpy()
    # No deviance is above lme4's; two of lme4's 400 fits stopped short of their minimum.
    below = [lj.fit_many(d, Y, method="ML").criterion - R[name].to_numpy()
             for name, d in (("large", large), ("small", small))]  # fmt: skip
    assert np.max(below) < 1e-8
    there = np.min(below, axis=0) > -1e-5
    assert np.count_nonzero(~there) == 2
    np.testing.assert_allclose(ours[there], theirs[there], atol=1e-5)
    np.testing.assert_array_equal(ours < 0.05, theirs < 0.05)
    found = lj.power(large, truth, lj.LikelihoodRatio(small), nsim=len(Y))
    assert 80 < found.tally.rejected == np.count_nonzero(theirs < 0.05) < 100
