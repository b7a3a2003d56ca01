"""Which terms contain which, where lmerTest decides otherwise: each by what the type is to mean."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj


@pytest.fixture(scope="module")
def data(fits):
    frame = fits.data("sleepstudy").copy()
    k = np.arange(1, len(frame) + 1)
    frame["f"] = np.array(list("abc"))[k * 5 % 13 % 3]
    frame["k"] = np.array(list("uv"))[k * 7 % 5 % 2]
    frame["x"] = (k * 11.0) % 17
    frame["z"] = frame["x"] - frame["x"].mean()
    return frame


@pytest.fixture(scope="module")
def tables(data):
    made = {}

    def get(formula):
        if formula not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", lj.LmmWarning)
                made[formula] = lj.lmm(f"Reaction ~ {formula} + (1 | Subject)", data)
        fit = made[formula]
        return fit, {kind: fit.anova(kind).frame for kind in ("I", "II", "III")}

    return get


def test_a_number_is_contained_in_its_products_with_factors(tables):
    fit, table = tables("x + x:f")
    # Type II adjusts for the terms that do not contain x: there are none, as in type I. lmerTest
    # adjusts for x:f all the same, and tests the reference level's slope.
    for column in ("F value", "DenDF"):
        assert_allclose(table["II"].loc["x", column], table["I"].loc["x", column], rtol=1e-9)
    # Type III: the mean of the levels' slopes, whatever the reference level
    mean_slope = fit.contest([0, 1, 1 / 3, 1 / 3], joint=False).iloc[0]
    assert_allclose(table["III"].loc["x", "F value"], mean_slope["t value"] ** 2, rtol=1e-7)
    assert_allclose(table["III"].loc["x", "DenDF"], mean_slope["df"], rtol=1e-7)
    slopes = fit.emtrends((), "x").test().frame
    assert_allclose(slopes["t.ratio"] ** 2, table["III"].loc["x", "F value"], rtol=1e-6)


def test_a_factor_is_contained_in_those_nested_in_it(tables):
    fit, table = tables("f / k")
    # Type II as above; type III: equal means over the levels of k, where lmerTest compares the
    # means at k's reference level.
    for column in ("F value", "DenDF"):
        assert_allclose(table["II"].loc["f", column], table["I"].loc["f", column], rtol=1e-9)
    means = fit.emmeans("f").pairs().test(joint=True).frame.iloc[0]
    assert_allclose(table["III"].loc["f", "F value"], means["F.ratio"], rtol=1e-8)
    # Nested or crossed, the means are the same.
    crossed = tables("f * k")[1]["III"]
    assert_allclose(table["III"].loc["f", "F value"], crossed.loc["f", "F value"], rtol=1e-8)


def test_a_polynomial_is_a_number(tables):
    # poly(x, 1) is z in other units. lmerTest takes a factor to be contained in its product with
    # a polynomial, but not in that with the number itself: F 1.31 in place of 1.35 for
    # f of poly(Days, 2) * f.
    basis, number = tables("poly(x, 1) * f")[1], tables("z * f")[1]
    for kind, table in basis.items():
        assert_allclose(table, number[kind], rtol=1e-7, err_msg=kind)
    fit, table = tables("poly(Days, 2) * f")
    # f at the polynomial's zero, adjusted for all else: its own coefficients
    own = [name in ("fb", "fc") for name in fit.design.x_names]
    test = fit.contest(np.eye(len(own))[own]).iloc[0]
    for kind in ("II", "III"):
        assert_allclose(table[kind].loc["f", "F value"], test["F value"], rtol=1e-8)
        assert_allclose(table[kind].loc["f", "DenDF"], test["DenDF"], rtol=1e-6)


def test_refit_takes_the_response_as_the_model_has_it(data, tables):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        fit = lj.lmm("log(Reaction) ~ Days + (1 | Subject)", data)
    k = np.arange(1, len(data) + 1)
    y = np.log(data["Reaction"].to_numpy()) * 1.1 + (k % 7) / 10
    # REMLcrit(lmer(y2 ~ Days + (1 | Subject), sleepstudy)); lme4's refit of the model of
    # log(Reaction) to the same y2 has 17.84, which is not a fit of y2.
    assert_allclose(fit.refit(y).criterion, 18.92107360, rtol=1e-7)
