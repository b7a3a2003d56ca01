"""No test of fixed effects depends on the unit or the origin of a predictor."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj

UNITS = (1e-12, 1e-5, 1e5, 1e12)
TYPES = ("I", "II", "III")


@pytest.fixture(scope="module")
def data(fits):
    frame = fits.data("sleepstudy").copy()
    k = np.arange(1, len(frame) + 1)
    frame["v1"] = 1e6 + 5e4 * (k * 11 % 180)
    frame["v2"] = 1e-7 + 5e-9 * (k * 37 % 181)
    frame["year"] = 2000.0 + k * 7 % 19
    frame["near"] = 1e4 + (k * 7 % 19 - 9.0)
    frame["small"] = k * 7 % 19 - 9.0
    frame["f"] = np.array(list("abc"))[k * 5 % 13 % 3]
    return frame


@pytest.fixture(scope="module")
def fitted(data):
    made = {}

    def get(formula, **columns):
        key = (formula, *((name, values.tobytes()) for name, values in columns.items()))
        if key not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", lj.LmmWarning)
                made[key] = lj.lmm(formula, data.assign(**columns))
        return made[key]

    return get


def tables(fit):
    """Every table that tests terms, by name."""
    return {kind: fit.anova(kind).frame for kind in TYPES} | {"drop1": fit.drop1().frame}


def check_alike(found, wanted, rtol=1e-6):
    for name, frame in wanted.items():
        assert len(found[name]) == len(frame)
        for column in ("NumDF", "DenDF", "F value", "Pr(>F)"):
            values = found[name][column].to_numpy()
            assert_allclose(values, frame[column].to_numpy(), rtol=rtol, err_msg=f"{name} {column}")


def test_type_three_does_not_depend_on_units(fitted):
    # lmerTest gives these where v1 is in millions and v2 in ten-millionths, and elsewhere not:
    #   s$a <- s$v1 / 1e6; s$b <- s$v2 * 1e7
    #   anova(lmer(Reaction ~ a + b + Days + (Days | Subject), s), type = 3)
    fit = fitted("Reaction ~ v1 + v2 + Days + (Days | Subject)")
    table = fit.anova("III").frame
    assert_allclose(table["F value"], [0.00314, 1.97436, 46.32903], rtol=1e-3)
    assert_allclose(table["DenDF"], [143.1685, 145.4870, 16.98271], rtol=1e-5)
    # Numbers that no other term contains: F = t² in every table that adjusts for all others
    t = fit.beta[1:] / fit.standard_errors[1:]
    for name in ("II", "III"):
        assert_allclose(fit.anova(name).frame["F value"], t**2, rtol=1e-9)
    assert_allclose(fit.drop1().frame["F value"], t**2, rtol=1e-9)


@pytest.mark.parametrize("unit", UNITS)
def test_no_table_of_terms_depends_on_units(fitted, data, unit):
    formula = "Reaction ~ v1 * f + Days + (1 | Subject)"
    wanted = tables(fitted(formula))
    check_alike(tables(fitted(formula, v1=data["v1"].to_numpy() * unit)), wanted)
    fit, other = fitted(formula), fitted(formula, v1=data["v1"].to_numpy() * unit)
    check_alike(
        {"KR": other.anova(ddf="kenward-roger").frame}, {"KR": fit.anova(ddf="kenward-roger").frame}
    )


def test_squares_of_years(fitted):
    # m <- lmer(Reaction ~ yr + I(yr^2) + (1 | Subject), s) with s$yr <- (s$year - 2009) / 10; the
    # square's t has no origin. (With the years as they are lmerTest has 6.8 df, and F is not t².)
    fit = fitted("Reaction ~ year + I(year**2) + (1 | Subject)")
    t = fit.beta / fit.standard_errors
    assert_allclose(t[2], -0.5277468430, rtol=1e-5)
    for name, frame in tables(fit).items():
        assert_allclose(frame["F value"].iloc[1], t[2] ** 2, rtol=1e-9, err_msg=name)
        assert_allclose(frame["DenDF"].iloc[1], 160.3803, rtol=1e-4, err_msg=name)
        if name != "I":
            assert_allclose(frame["F value"].iloc[0], t[1] ** 2, rtol=1e-9, err_msg=name)


def test_tables_of_a_number_far_from_zero(fitted, data):
    # Values that 1e6 leaves as they are, so that only the origin differs
    near = np.round(data["v2"].to_numpy() * 1e6 * 2.0**12) / 2.0**12
    formula = "Reaction ~ f * v2 + (1 | Subject)"
    one, other = fitted(formula, v2=near), fitted(formula, v2=near + 1e6)
    for kind in TYPES:
        # Beside their product, f and v2 are compared where the origin is; not so in type I, nor
        # the product.
        rows = ["v2:f", "f:v2", "f", "v2"] if kind == "I" else ["v2:f", "f:v2"]
        wanted, found = one.anova(kind).frame, other.anova(kind).frame
        rows = [row for row in rows if row in wanted.index]
        check_alike({kind: found.loc[rows]}, {kind: wanted.loc[rows]}, rtol=1e-5)
    # The same means, of the same precision
    a, b = (f.emmeans("f").frame for f in (one, other))
    for column in ("emmean", "SE", "df"):
        assert_allclose(a[column], b[column], rtol=1e-6)


@pytest.mark.parametrize("degree", [2, 3])
def test_powers_of_a_number_far_from_zero(fitted, data, degree):
    near = data["small"].to_numpy() + (1e4 if degree == 2 else 1e3)
    far = fitted(f"Reaction ~ poly(near, {degree}, raw=True) + (1 | Subject)", near=near)
    # The same span from a number near zero
    close = fitted(f"Reaction ~ poly(small, {degree}, raw=True) + (1 | Subject)")
    for name, frame in tables(far).items():
        other = tables(close)[name]
        assert frame["NumDF"].tolist() == [degree]
        assert_allclose(frame["F value"], other["F value"], rtol=1e-5)
        assert_allclose(frame["DenDF"], other["DenDF"], rtol=1e-3)


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger", "asymptotic"])
def test_joint_test_keeps_every_direction_in_any_units(fitted, data, ddf):
    formula = "Reaction ~ Days + v1 + (Days | Subject)"
    L = [[0, 1, 0], [0, 0, 1]]
    wanted = fitted(formula).contest(L, ddf=ddf)
    assert wanted["NumDF"].tolist() == [2]
    for unit in UNITS:
        fit = fitted(formula, Days=data["Days"].to_numpy() * unit)
        found = fit.contest(L, ddf=ddf)
        check_alike({"joint": found}, {"joint": wanted}, rtol=1e-5)


def test_joint_test_is_the_quadratic_form_of_its_estimates(fitted):
    fit = fitted("Reaction ~ Days + v1 + (Days | Subject)")
    V, b = fit.vcov.to_numpy()[1:, 1:], fit.beta[1:]
    se = fit.standard_errors[1:]
    F = (b / se) @ np.linalg.solve(V / np.outer(se, se), b / se) / 2
    # More rows than directions, of very different sizes
    rows = [[0, 1, 0], [0, 0, 1], [0, 1e6, 0], [0, 1, 1], [0, 1, -1e-3]]
    found = fit.contest(rows)
    assert found["NumDF"].tolist() == [2]
    assert_allclose(found["F value"], F, rtol=1e-8)


def test_lanes_keep_every_direction_in_any_units(fitted, data):
    formula = "Reaction ~ Days + v1 + (Days | Subject)"
    L = [[0, 1, 0], [0, 0, 1]]
    for unit in (1.0, 1e8):
        fit = fitted(formula, Days=data["Days"].to_numpy() * unit)
        y = fit.design.y
        many = lj.fit_many(fit, np.stack([y, y]))
        for ddf in ("satterthwaite", "kenward-roger"):
            check_alike(
                {"lane": many.contest(L, ddf=ddf).iloc[:1]}, {"lane": fit.contest(L, ddf=ddf)}
            )


def test_expected_df_of_a_joint_test_do_not_depend_on_units():
    found = []
    for unit in (1.0, 1e-9, 1e9):
        frame = lj.simulate_design(
            {"id": 10}, within={"time": range(5)}, between={"arm": 2}, seed=1
        )
        frame["time"] = frame["time"] * unit
        design = lj.Design.from_formula("y ~ time + arm + (1 + time | id)", frame)
        truth = lj.TrueParameters.for_design(
            design, {"time": 0.5 / unit, "armarm2": 1}, sd=[2, 1 / unit], sigma=2
        )
        test = lj.analytic_power(design, truth, ["time", "armarm2"])
        found.append((test.df, test.power, test.noncentrality))
    assert_allclose(found[1:], [found[0]] * 2, rtol=1e-7)


@pytest.mark.parametrize("unit", [1e-15, 1e-9, 1e15])
def test_slopes_do_not_depend_on_units(fitted, data, unit):
    wanted = fitted("Reaction ~ f * Days + I(Days**2) + (1 | Subject)").emtrends("f", "Days")
    fit = fitted(
        "Reaction ~ f * Days + I(Days**2) + (1 | Subject)", Days=data["Days"].to_numpy() * unit
    )
    found = fit.emtrends("f", "Days")
    for name in ("Days.trend", "SE", "lower.CL", "upper.CL"):
        assert_allclose(found.frame[name] * unit, wanted.frame[name], rtol=1e-7)
    assert_allclose(found.frame["df"], wanted.frame["df"], rtol=1e-7)
    pairs = found.pairs().frame
    for name in ("df", "t.ratio", "p.value"):
        assert_allclose(pairs[name], wanted.pairs().frame[name], rtol=1e-6)
    assert_allclose(found.test(joint=True).frame, wanted.test(joint=True).frame, rtol=1e-6)
    means = fit.emmeans("f", at={"Days": unit}).pairs().frame
    same = fitted("Reaction ~ f * Days + I(Days**2) + (1 | Subject)").emmeans("f", at={"Days": 1})
    assert_allclose(means["t.ratio"], same.pairs().frame["t.ratio"], rtol=1e-7)


def test_slopes_are_derivatives(fitted):
    fit = fitted("Reaction ~ Days + I(Days**2) + (1 | Subject)")
    at = np.array([0.0, 2.5, 9.0])
    found = fit.emtrends("Days", "Days", at={"Days": at})
    L = np.column_stack([np.zeros(3), np.ones(3), 2.0 * at])
    assert_allclose(found.frame["Days.trend"], L @ fit.beta, rtol=1e-9)
    assert_allclose(found.frame["SE"] ** 2, np.sum(L @ fit.vcov.to_numpy() * L, axis=1), rtol=1e-9)
    # A logarithm's slope, near zero too, where a thousandth of the range would be too far
    fit = fitted("Reaction ~ log(near - 9990) + (1 | Subject)")
    for at in (9990.001, 10000.0):
        found = fit.emtrends((), "near", at={"near": at}).frame["near.trend"].iloc[0]
        assert_allclose(found, fit.beta[1] / (at - 9990.0), rtol=1e-5)
