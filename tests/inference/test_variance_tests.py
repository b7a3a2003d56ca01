"""Exact tests of one variance, and the report of what collapsed.

Simulated null distributions are compared with exact ones where the design is balanced, with RLRsim
(make_terms.R made terms.json), and with fits of simulated data.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy.stats import binom, f

import lmmjax as lj
from lmmjax.inference.restricted_lrt import spectrum

R = json.loads((Path(__file__).parent / "terms.json").read_text())
DRAWS = 100_000


def within_error(count, n, share, other=np.inf):
    """Whether a count of n draws goes with a share, itself of `other` draws (4.5 sigma)."""
    sd = np.sqrt(n * share * (1 - share) * (1 + n / other))
    return abs(count - n * share) < 4.5 * sd + 1


def test_balanced_one_way_is_the_f_test(fits):
    """One eigenvalue: the statistic grows with F, and is zero where F is below one."""
    fit = fits("Dyestuff", "Yield ~ 1 + (1 | Batch)")
    groups = fits.data("Dyestuff").groupby("Batch", observed=True)["Yield"]
    between = 5 * groups.mean().var(ddof=1)
    F = between / groups.var(ddof=1).mean()
    test = fit.exact_rlrt(n=DRAWS, seed=1)
    assert within_error(test.p_value * DRAWS, DRAWS, f.sf(F, 5, 24))
    assert within_error(test.mass_at_zero * DRAWS, DRAWS, f.cdf(1.0, 5, 24))
    # By full likelihood the estimate is zero below (a - 1) / a.
    by_ml = fit.exact_lrt(n=DRAWS, seed=2)
    assert within_error(by_ml.p_value * DRAWS, DRAWS, f.sf(F, 5, 24))
    assert within_error(by_ml.mass_at_zero * DRAWS, DRAWS, f.cdf(6 / 5, 5, 24))
    assert_allclose(test.standard_error, np.sqrt(test.p_value * (1 - test.p_value) / DRAWS))


def test_many_groups_approach_the_mixture():
    from lmmjax.inference.restricted_lrt import simulate

    index = np.repeat(np.arange(3000), 3)
    mu, counts, _ = spectrum(np.ones((9000, 1)), np.ones(9000), index, 3000)
    assert_allclose([mu, counts], [[3.0], [2999]])
    rng = np.random.default_rng(0)
    sample = simulate(
        mu, counts, np.repeat(mu, counts), size=8999, rest=6000, dropped=0, n=DRAWS, rng=rng
    )
    # 2.706 is the 95% quantile of the 50:50 mixture of zero and chi-squared with one df.
    assert within_error(np.sum(sample > 2.7055), DRAWS, 0.05, other=DRAWS)
    assert abs(np.mean(sample == 0) - 0.5) < 0.012


@pytest.mark.parametrize(
    ("name", "data", "formula", "call"),
    [
        ("rlrt_slope", "sleepstudy", "Reaction ~ Days + (0 + Days | Subject)", {}),
        ("rlrt_pastes", "Pastes", "strength ~ 1 + (1 | batch)", {}),
        ("rlrt_several", "Pastes", "strength ~ 1 + (1 | batch/cask)", {"term": "batch"}),
        ("lrt_pastes", "Pastes", "strength ~ 1 + (1 | batch)", {"drop": ()}),
        ("lrt_recipe", "uneven", "angle ~ recipe + temp + (1 | replicate)", {"drop": "recipe"}),
    ],
)
def test_against_rlrsim(name, data, formula, call, fits):
    ref = R[name]
    if data == "uneven":
        cake = fits.data("cake")
        at = np.arange(1, len(cake) + 1)
        replicate = cake["replicate"].astype(str).isin([str(i) for i in range(1, 7)])
        lost = (cake["recipe"] == "B") & (cake["temp"] > 200) & replicate
        fit = lj.lmm(formula, cake[(at % 7 != 3) & ~lost])
    else:
        fit = fits(data, formula)
    test = (fit.exact_lrt if "drop" in call else fit.exact_rlrt)(**call, n=DRAWS, seed=3)
    assert_allclose(test.statistic, ref["statistic"], rtol=1e-5)
    theirs = 1_000_000
    assert within_error(test.p_value * DRAWS, DRAWS, max(ref["p"], 1 / theirs), other=theirs)
    assert within_error(test.mass_at_zero * DRAWS, DRAWS, ref["zero"], other=theirs)
    for at, quantile in zip(ref["at"], ref["quantiles"], strict=True):
        if quantile > 0:
            # RLRsim looks at grid points only, and finds a little less than the maximum.
            above = np.sum(test.sample > quantile + 1e-4)
            assert within_error(above, DRAWS, 1 - at, other=theirs)


def test_spectrum_is_that_of_the_matrices():
    """Unbalanced, weighted, with a slope: by plain linear algebra."""
    rng = np.random.default_rng(3)
    index = np.sort(rng.integers(0, 7, 40))
    for z, root in [
        (np.ones(40), np.ones(40)),
        (rng.normal(size=40), np.sqrt(rng.uniform(0.5, 2, 40))),
    ]:
        X = np.column_stack([np.ones(40), rng.normal(size=40)]) * root[:, None]
        Z = np.eye(7)[index] * (z * root)[:, None]
        mu, counts, xi = spectrum(X, z * root, index, 7)
        q, _ = np.linalg.qr(X)
        theirs = np.linalg.eigvalsh(Z.T @ Z - (Z.T @ q) @ (q.T @ Z))
        assert_allclose(np.repeat(mu, counts), theirs[theirs > 1e-9], rtol=1e-8)
        assert_allclose(np.sort(xi), np.linalg.eigvalsh(Z.T @ Z))


def test_without_fixed_effects_every_tool_has_an_answer(fits):
    fit = fits("sleepstudy", "Reaction ~ 0 + (1 | Subject)")
    # No column to adjust for: Z'Z itself, 10 rows in each of 18 groups
    mu, counts, xi = spectrum(np.zeros((180, 0)), np.ones(180), np.arange(180) // 10, 18)
    assert (mu.tolist(), counts.tolist(), xi.tolist()) == ([10.0], [18], [10.0] * 18)
    test = fit.exact_rlrt(n=1000)
    n, y = fit.design.n, fit.design.y
    null = n * (1 + np.log(2 * np.pi * (y @ y) / n))
    assert_allclose(test.statistic, null - fit.criterion, rtol=1e-10)
    assert test.p_value == 1 / 1001
    assert_allclose(fit.exact_lrt(n=1000).statistic, test.statistic, rtol=1e-8)
    for table in (fit.anova("I"), fit.anova(), fit.anova(ddf="kenward-roger"), fit.drop1()):
        assert len(table.frame) == 0
        assert "no terms to test" in str(table)


def test_draws_are_statistics_of_fits(fits):
    """The statistic of fits to data of the null, against the sample that no fit was made for."""
    fit = fits("sleepstudy", "Reaction ~ Days + (0 + Days | Subject)")
    sample = fit.exact_rlrt(n=DRAWS).sample
    rng = np.random.default_rng(8)
    X = np.linalg.qr(fit.design.X)[0]
    n, m = fit.design.n, fit.design.n - 2
    log_det = 2 * np.sum(np.log(np.abs(np.diagonal(np.linalg.qr(fit.design.X)[1]))))
    found = []
    for _ in range(300):
        y = rng.normal(size=n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lj.LmmWarning)
            full = fit.refit(y).criterion
        rss = y @ y - np.sum((X.T @ y) ** 2)
        found.append(m * (1 + np.log(2 * np.pi * rss / m)) + log_det - full)
    for quantile in np.quantile(sample, [0.6, 0.8, 0.9]):
        above = int(np.sum(np.array(found) > quantile))
        share = np.mean(sample > quantile)
        low, high = binom.ppf([1e-4, 1 - 1e-4], 300, share)
        assert low <= above <= high
    assert abs(np.mean(np.array(found) < 1e-6) - np.mean(sample == 0)) < 0.12


def test_seeds_and_words(fits):
    fit = fits("Dyestuff", "Yield ~ 1 + (1 | Batch)")
    assert np.array_equal(fit.exact_rlrt(seed=4).sample, fit.exact_rlrt(seed=4).sample)
    assert "(1 | Batch)" in str(fit.exact_rlrt(n=100))
    nothing = fits("Dyestuff2", "Yield ~ 1 + (1 | Batch)").exact_rlrt(n=100)
    assert (nothing.statistic, nothing.p_value) == (0.0, 1.0)
    several = fits("Pastes", "strength ~ 1 + (1 | batch/cask)")
    assert "approximate" in str(several.exact_rlrt("(1|batch)", n=100))


@pytest.mark.parametrize(
    ("formula", "call", "says"),
    [
        ("strength ~ 1 + (1 | batch/cask)", lambda m: m.exact_rlrt(), "say which"),
        ("strength ~ 1 + (1 | batch/cask)", lambda m: m.exact_lrt(), "say which"),
        ("strength ~ 1 + (1 | batch/cask)", lambda m: m.exact_rlrt("cask"), "none of the random"),
        ("strength ~ 1 + (1 | batch)", lambda m: m.exact_rlrt(n=0), "at least 1"),
        ("strength ~ 1 + (1 | batch)", lambda m: m.exact_lrt("x"), "no term"),
    ],
)
def test_what_cannot_be_tested(fits, formula, call, says):
    with pytest.raises(lj.LmmError, match=says):
        call(fits("Pastes", formula))


def test_a_covariance_is_not_one_variance(sleep):
    with pytest.raises(lj.LmmError, match="2 columns"):
        sleep.exact_rlrt()


# --- what collapsed ------------------------------------------------------------------------------


def collapsing(slope, seed=1):
    """Data of sleepstudy's shape; slopes are so many times the intercepts."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": np.repeat(np.arange(18), 10).astype(str)})
    frame["x"] = np.tile(np.arange(10.0), 18)
    effect = rng.normal(size=18)[np.repeat(np.arange(18), 10)]
    frame["y"] = effect + slope * effect * frame["x"] + 0.5 * rng.normal(size=180)
    return frame


def fitted(formula, frame, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        return lj.lmm(formula, frame, **kwargs)


def check_directions(fit, report):
    """Each combination has no variance: c'Gc is zero beside its parts."""
    for direction in report.directions:
        owner = [term.group for term in fit.design.terms].index(direction.group)
        columns = fit.design.terms[owner].columns
        c = np.array([direction.weights.get(name, 0.0) for name in columns])
        factor = fit.raw.factors[owner]
        assert np.linalg.norm(c @ factor) < 2e-3 * max(1.0, np.linalg.norm(factor))


def test_a_correlation_of_one():
    fit = fitted("y ~ x + (1 + x | g)", collapsing(0.5))
    report = fit.singularity()
    assert report
    assert report.singular
    check_directions(fit, report)
    (direction,) = report.directions
    # The slope is the intercept times the ratio of their standard deviations, about a half.
    sd = fit.varcorr["g"].diagonal() ** 0.5
    assert_allclose(direction.weights["(Intercept)"], -sd[1] / sd[0], rtol=1e-3)
    assert direction.weights["x"] == 1.0
    assert "correlation of +1" in str(report)
    assert report.simpler == "y ~ 1 + x + (1 + x || g)"


def test_a_variance_of_zero_takes_its_term_out():
    for seed in range(20):
        frame = collapsing(0.0, seed)
        fit = fitted("y ~ x + (1 + x || g)", frame)
        report = fit.singularity()
        if {"x": 1.0} in [d.weights for d in report.directions]:
            break
    assert [d.weights for d in report.directions] == [{"x": 1.0}]
    assert "the variance of x is zero" in str(report)
    assert report.simpler == "y ~ 1 + x + (1 | g)"
    again = fitted(report.simpler, frame)
    assert not again.is_singular
    assert_allclose(again.criterion, fit.criterion, rtol=1e-9)


def test_all_columns_collapse():
    """Groups that are all alike in mean and in slope."""
    frame = collapsing(0.0)
    by_group = frame["y"].to_numpy().reshape(18, 10)
    basis, _ = np.linalg.qr(np.column_stack([np.ones(10), np.arange(10.0)]))
    frame["y"] = (by_group - by_group @ basis @ basis.T).ravel() + frame["x"]
    report = fitted("y ~ x + (1 + x | g)", frame).singularity()
    assert [d.weights for d in report.directions] == [{"(Intercept)": 1.0}, {"x": 1.0}]
    assert report.simpler is None


def test_nothing_remains(fits):
    fit = fits("Dyestuff2", "Yield ~ 1 + (1 | Batch)")
    report = fit.singularity()
    assert report.simpler is None
    assert "least squares is the same fit, Yield ~ 1." in str(report)
    assert_allclose(fit.repca()["Batch"]["sd"], 0.0)


@pytest.mark.slow
def test_one_direction_of_three(fits):
    fit = fits("cake", "angle ~ recipe + temp + (1 + recipe | replicate)")
    report = fit.singularity()
    check_directions(fit, report)
    assert [len(d.weights) for d in report.directions] == [3]
    assert report.simpler == "angle ~ 1 + recipe + temp + (1 + recipe || replicate)"


def test_plain_where_nothing_is_singular(sleep):
    report = sleep.singularity()
    assert not report
    assert report.simpler is None
    assert str(report).startswith("Not singular")


@pytest.mark.slow
def test_a_structure_of_its_own_is_left_to_its_user(fits):
    kwargs = {"covariance": {"Batch": lj.covariance.Identity}}
    fit = fits("Dyestuff2", "Yield ~ 1 + (1 | Batch)", **kwargs)
    assert fit.is_singular
    report = fit.singularity()
    assert report.simpler is None
    assert "least squares" in str(report)
