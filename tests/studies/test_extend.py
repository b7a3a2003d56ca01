"""Designs made larger or smaller: predictors of groups keep their shares, labels stay apart."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from scipy.stats import nct, t

import lmmjax as lj
from lmmjax.simulation.shares import copies

TAU, SIGMA, ROWS = 2.0, 3.0, 5


def arms(groups=20, order="sorted"):
    """Two arms of the same size, one after the other or in turn."""
    frame = lj.simulate_design({"id": groups}, within={"time": range(ROWS)})
    code = frame["id"].cat.codes.to_numpy()
    frame["arm"] = np.where(code < groups // 2 if order == "sorted" else code % 2 == 0, "a", "b")
    return frame


def group_means(design, factor=0):
    index = design.terms[factor].index
    return np.stack([np.bincount(index, x) / np.bincount(index) for x in design.X.T], axis=1)


@pytest.mark.parametrize("order", ["sorted", "in turn"])
@pytest.mark.parametrize(("n", "found"), [(12, 6), (30, 15), (40, 20), (44, 22)])
def test_arms_keep_their_shares_in_any_order(order, n, found):
    design = lj.Design.from_formula("y ~ arm + time + (1 | id)", arms(order=order))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        larger = lj.extend(design, along="id", n=n)
    assert group_means(larger)[:, 1].sum() == found
    assert len(set(larger.terms[0].levels)) == len(larger.terms[0].levels) == n
    assert larger.X.shape == (n * ROWS, 3)


def test_every_recipe_of_the_cake_data_grows_alike(fits):
    cake = lj.build_design("angle ~ recipe * temp + (1 | recipe:replicate)", fits.data("cake"))
    for n, each in ((60, 20), (9, 3)):
        larger = lj.extend(cake, along="recipe:replicate", n=n)
        assert group_means(larger)[:, 1:3].sum(axis=0).tolist() == [each, each]


@pytest.mark.filterwarnings("ignore:12 levels")
def test_sites_of_each_arm_keep_their_shares_too():
    # One group for each of 20 cells: the ten that come twice are one of each site, five an arm.
    frame = arms()
    frame["site"] = [f"s{code % 10}" for code in frame["id"].cat.codes]
    frame["dose"] = frame["id"].cat.codes.to_numpy() % 10 * 1.0
    design = lj.Design.from_formula("y ~ arm + site + (1 | id)", frame)
    means = group_means(lj.extend(design, along="id", n=30))
    assert means[:, 1].sum() == 15
    assert means[:, 2:].sum(axis=0).tolist() == [3] * 9
    # An interaction with time is a predictor of groups as well, with or without its main effect.
    design = lj.Design.from_formula("y ~ time + arm:time + dose + (1 | id)", frame)
    names = list(design.x_names)
    means = group_means(lj.extend(design, along="id", n=12))
    column = means[:, next(j for j, name in enumerate(names) if "arm" in name)]
    assert sorted(np.unique(column, return_counts=True)[1].tolist()) == [6, 6]
    assert abs(means[:, names.index("dose")].mean() - 4.5) < 1


def test_odd_sizes_say_what_was_done():
    design = lj.Design.from_formula("y ~ arm + (1 | id)", arms())
    with pytest.warns(lj.LmmWarning, match=r"13 levels of 'id'.*arm \(7:6 for 10:10\)"):
        lj.extend(design, along="id", n=13)
    truth = lj.TrueParameters.for_design(design, {"armb": 2}, sd=TAU, sigma=SIGMA)
    with pytest.warns(lj.LmmWarning, match=r"13 levels.*; 15 levels") as said:
        lj.power_curve(design, truth, "armb", along={"groups": [12, 13, 15]}, nsim=16)
    assert len(said) == 1
    frame = arms().assign(arm=lambda f: f["id"].cat.codes.to_numpy() // 5)
    four = lj.Design.from_formula("y ~ factor(arm) + (1 | id)", frame)
    with pytest.raises(lj.LmmError, match="not all coefficients"):
        lj.extend(four, along="id", n=3)


def test_power_of_a_design_sorted_by_arm_is_the_exact_one():
    # Between balanced groups: a noncentral t with G - 2 df, by simulation and by information.
    groups, effect = 12, 3.0
    design = lj.Design.from_formula("y ~ arm + (1 | id)", arms())
    truth = lj.TrueParameters.for_design(design, {"armb": effect}, sd=TAU, sigma=SIGMA)
    se = 2 * np.sqrt((TAU**2 + SIGMA**2 / ROWS) / groups)
    edge = t.isf(0.025, groups - 2)
    shift = effect / se
    exact = nct.sf(edge, groups - 2, shift) + nct.cdf(-edge, groups - 2, shift)
    analytic = lj.analytic_power(design, truth, "armb", groups=groups)
    assert analytic.power == pytest.approx(exact, rel=1e-6)
    along = {"groups": [groups], "effect": [effect]}
    # Boundary fits pool the two variances, and have a little more power: 0.01 here.
    (row,) = lj.power_curve(design, truth, "armb", along=along, nsim=4096, key=1).frame.itertuples()
    assert row.power == pytest.approx(exact, abs=0.01 + 4 * np.sqrt(exact * (1 - exact) / 4096))


def test_the_best_division_of_a_budget_keeps_the_arms_of_its_pilot():
    design = lj.Design.from_formula("y ~ arm + (1 | id)", arms())
    truth = lj.TrueParameters.for_design(design, {"armb": 2}, sd=TAU, sigma=SIGMA)
    best = lj.optimize_design(
        design, truth, "armb", budget=3000, cost_per_group=100, cost_per_row=5, group_step=2
    )
    assert group_means(best.design)[:, 1].mean() == 0.5


def test_conditions_keep_their_shares_among_the_rows_of_a_group():
    # Eight trials of each of two conditions, in blocks: six rows are three of each.
    frame = lj.simulate_design({"id": 6}, within={"kind": ["x", "y"], "trial": range(8)})
    design = lj.Design.from_formula("y ~ kind + (1 + kind | id)", frame)
    for n in (6, 24):
        assert lj.extend(design, within="id", n=n).X.mean(axis=0).tolist() == [1.0, 0.5]
    with pytest.warns(lj.LmmWarning, match=r"5 rows in each 'id'.*kind \(3:2 for 8:8\)"):
        lj.extend(design, within="id", n=5)
    # Occasions are not conditions: fewer of them are the first ones.
    slopes = lj.Design.from_formula("y ~ time + (1 | id)", arms())
    assert lj.extend(slopes, within="id", n=3).X[:3, 1].tolist() == [0, 1, 2]


def test_labels_stay_apart_however_often_a_design_grows():
    design = lj.Design.from_formula("y ~ arm + (1 | id)", arms(4))
    for n in (8, 14, 15, 40):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lj.LmmWarning)
            design = lj.extend(design, along="id", n=n)
        levels = design.terms[0].levels
        assert len(set(levels)) == n
    assert levels[:5] == ("id1", "id2", "id3", "id4", "id1*2")
    # What is nested in the factor that grows is copied with it.
    frame = lj.simulate_design({"school": 3}, 2, nested={"class": 2})
    nested = lj.Design.from_formula("y ~ 1 + (1 | school) + (1 | class)", frame)
    for n in (6, 12):
        nested = lj.extend(nested, along="school", n=n)
    assert [len(set(term.levels)) for term in nested.terms] == [24, 12]


def test_shares_are_the_nearest_of_all():
    rng = np.random.default_rng(1)
    for _ in range(30):
        code = rng.integers(0, rng.integers(2, 5), 9)
        n = int(rng.integers(1, 30))
        found = np.bincount(code, copies([code], n), minlength=code.max() + 1)
        assert found.sum() == n
        quota = np.bincount(code) * n / 9
        rest = itertools.product(*(range(int(q), int(q) + 2) for q in quota))
        best = min(sum((np.array(r) - quota) ** 2) for r in rest if sum(r) == n)
        assert sum((found - quota) ** 2) == pytest.approx(best, abs=1e-9)


def test_of_crossed_factors_the_one_that_grows_is_asked_for():
    frame = lj.simulate_design({"subject": 6}, crossed={"item": 4})
    design = lj.Design.from_formula("y ~ 1 + (1 | subject) + (1 | item)", frame)
    truth = lj.TrueParameters.for_design(
        design, {"(Intercept)": 1.0}, sd={"subject": 1.0, "item": 1.0}, sigma=1.0
    )
    with pytest.raises(lj.LmmError, match=r"'subject' \(6\) and 'item' \(4\).*group="):
        lj.power_curve(design, truth, along={"groups": [8]}, nsim=16)
