"""Profiles against lme4's, against refits in R, and against the likelihood they are profiles of.

What R says of the models that are not among the reference fits is made by make_profile.R.
"""

import json
import warnings
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq, minimize
from scipy.stats import chi2

import lmmjax as lj
from lmmjax.inference.profile import damped_step
from lmmjax.likelihood import plan

R = json.loads((Path(__file__).parent / "profile.json").read_text())
REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "lme4.json").read_text())
SLEEP = "Reaction ~ Days + (1 + Days | Subject)"
CROSSED = "diameter ~ 1 + (1 | plate) + (1 | sample)"
MODELS = {
    "sleepstudy_slope": ("sleepstudy", SLEEP),
    "sleepstudy_intercept": ("sleepstudy", "Reaction ~ Days + (1 | Subject)"),
    "sleepstudy_zerocorr": ("sleepstudy", "Reaction ~ Days + (1 + Days || Subject)"),
    "sleepstudy_slope_only": ("sleepstudy", "Reaction ~ Days + (0 + Days | Subject)"),
    "dyestuff": ("Dyestuff", "Yield ~ 1 + (1 | Batch)"),
    "dyestuff2_singular": ("Dyestuff2", "Yield ~ 1 + (1 | Batch)"),
    "pastes_nested": ("Pastes", "strength ~ 1 + (1 | batch / cask)"),
    "penicillin_crossed": ("Penicillin", CROSSED),
    "cake_interaction": ("cake", "angle ~ recipe * temperature + (1 | recipe:replicate)"),
}
#: Others compile lanes of their own.
FAST = ("sleepstudy_slope", "dyestuff", "dyestuff2_singular", "pastes_nested", "few")


def some_slow(names):
    return [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("name", some_slow(MODELS))
def test_intervals_are_those_of_lme4(fits, name):
    intervals = fits(*MODELS[name]).conf_int(method="profile")
    rows = REFERENCE[f"{name}_ml"]["confint_profile"]
    assert list(intervals.index) == [row["term"] for row in rows]
    truth = np.array([[row["2.5 %"], row["97.5 %"]] for row in rows])
    assert_allclose(intervals, truth, rtol=1e-3)
    # lme4 interpolates; a limit between two of its points is good to 1e-3 of the interval.
    width = np.diff(truth, axis=1)
    assert_allclose(intervals / width, truth / width, atol=4e-4)


@pytest.fixture(scope="module")
def own(fits):
    """Models of make_profile.R, made once."""
    made = {}

    def get(name):
        if name not in made:
            sleep, cake = fits.data("sleepstudy"), fits.data("cake").copy()
            at = np.arange(1, len(sleep) + 1)
            early = sleep["Subject"].astype(str).isin(["308", "330"]) & (sleep["Days"] > 5)
            short = sleep[(at % 5 != 2) & ~early]
            subjects = short["Subject"].astype(str)
            at = np.arange(1, len(cake) + 1)
            cake["w"] = 1 + at % 3
            penicillin = fits.data("Penicillin")
            models = {
                "slope": (SLEEP, short, {}),
                "few": (SLEEP, short[subjects.isin(sorted(subjects.unique())[:6])], {}),
                "crossed": (CROSSED, penicillin[np.arange(1, len(penicillin) + 1) % 9 != 4], {}),
                "weighted": (
                    "angle ~ temp + (1 | recipe:replicate)",
                    cake[at % 7 != 3],
                    {"weights": "w"},
                ),
            }
            formula, data, kwargs = models[name]
            # Few crossed effects would be dense columns: ask for a crossed elimination.
            with warnings.catch_warnings(), mock.patch.object(plan, "DENSE_REST", 0):
                warnings.simplefilter("ignore", lj.LmmWarning)
                made[name] = lj.lmm(formula, data, **kwargs)
        return made[name]

    return get


@pytest.mark.parametrize("name", some_slow(R))
def test_intervals_of_other_models(own, name):
    fit = own(name)
    assert (type(fit.raw.data.elimination).__name__ == "Crossed") == (name == "crossed")
    intervals = fit.conf_int(method="profile")
    truth = R[name]["interval_95"]
    assert list(intervals.index) == truth["names"]
    for i, row in enumerate(truth["names"]):
        exact = np.array(R[name]["refits"][row])
        width = exact[1] - exact[0]
        assert_allclose(intervals.iloc[i] / width, exact / width, atol=2e-5)
        # lme4's own intervals rest on a spline; with weights, those of coefficients are wrong.
        if name != "weighted" or row.startswith("s"):
            spline = np.array([truth["lower"][i], truth["upper"][i]])
            assert_allclose(spline / width, exact / width, atol=4e-3)


@pytest.mark.parametrize("name", some_slow(["slope", "few", "crossed"]))
def test_points_of_the_profile(own, name):
    """Lme4's points lie on our curves, with all other parameters along."""
    profile = own(name).profile(0.99)
    points = R[name]["points"]
    every = np.array(points["all"])
    spread = profile.conf_int(0.95).to_numpy()
    names = list(profile.conf_int().index)
    seen = 0
    for parameter, zeta, row in zip(points["parameter"], points["zeta"], every, strict=True):
        curve = profile[parameter]
        if not curve.zeta[1] < zeta < curve.zeta[-2]:
            continue
        value = row[points["names"].index(parameter)]
        for j, other in enumerate(names):
            if not np.all(np.isfinite(curve.others[:, j])):
                continue  # a correlation where a standard deviation is zero
            at = CubicSpline(curve.value, curve.others[:, j])(value)
            width = spread[j, 1] - spread[j, 0]
            assert_allclose(at, row[points["names"].index(other)], atol=5e-3 * width)
        found = CubicSpline(curve.value, curve.zeta)(value)
        assert_allclose(found, zeta, atol=6e-3)
        seen += 1
    assert seen >= 8


def test_each_point_is_a_constrained_optimum(sleep):
    """Deviance and its gradient by the likelihood's own code, from the parameters reported."""
    profile = sleep.profile(0.95)
    names = list(profile)
    data = sleep.raw.data

    def deviance(at):
        sd0, rho, sd1, sigma = at[:4]
        theta = jnp.stack([sd0, rho * sd1, jnp.sqrt(1.0 - rho**2) * sd1]) / sigma
        return -2.0 * lj.marginal_loglik(lj.Parameters(at[4:], theta, sigma), data)

    with lj.double_precision():
        both = jax.jit(jax.value_and_grad(deviance))
        frame = profile.frame
        best = both(jnp.array(frame.loc[frame["zeta"] == 0.0, names].to_numpy()[0]))[0]
        scale = np.array([(c.value[-1] - c.value[0]) / 4.0 for c in profile.curves])
        for row in frame.itertuples(index=False):
            value, gradient = both(jnp.array(row[3:]))
            assert_allclose(value - best, row.zeta**2, atol=1e-7)
            free = np.arange(6) != names.index(row.parameter)
            assert np.max(np.abs(np.asarray(gradient) * scale)[free]) < 1e-3
            # The slope that interpolation rests on is the envelope theorem's.
            curve = profile[row.parameter]
            if row.zeta:
                slope = curve.slope[curve.value == row.value][0]
                expected = 2.0 * row.zeta / gradient[names.index(row.parameter)]
                assert_allclose(slope, expected, rtol=1e-5)


def test_limits_between_points_and_at_them_agree(sleep):
    wide, narrow = sleep.profile(0.99), sleep.profile(0.8)
    assert_allclose(wide.conf_int(0.8), narrow.conf_int(), rtol=1e-4)
    with pytest.raises(lj.LmmError, match=r"profile\(level=0.999\)"):
        wide.conf_int(0.999)


def test_ranges_end_where_parameters_do(fits, own):
    found = fits(*MODELS["dyestuff2_singular"]).profile(0.95)
    assert found["sd_(Intercept)|Batch"].value[0] == 0.0
    assert found.conf_int().loc["sd_(Intercept)|Batch", "lower"] == 0.0
    # A fit whose correlation is at its bound, and one whose correlation nothing is known of.
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(12), 6)
    x = np.tile(np.arange(6) - 2.5, 12)
    effects = rng.normal(size=12)[group] * (1.0 + 0.4 * x)
    noise = 0.5 * rng.normal(size=72)
    noise -= (np.bincount(group, noise * x) / (x[:6] @ x[:6]))[group] * x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        steep, flat = (
            lj.lmm("y ~ x + (x | g)", {"y": y, "x": x, "g": group})
            for y in (x + effects + noise, x + noise)
        )
    rho = steep.profile(0.95)["cor_x.(Intercept)|g"]
    assert rho.estimate == 1.0
    assert -1.0 < steep.profile(0.95).conf_int().loc["cor_x.(Intercept)|g", "lower"] < 1.0
    assert steep.profile(0.95).conf_int().loc["cor_x.(Intercept)|g", "upper"] == 1.0
    nothing = flat.profile(0.95)
    assert np.isnan(nothing["cor_x.(Intercept)|g"].estimate)
    assert nothing.conf_int().loc["cor_x.(Intercept)|g"].tolist() == [-1.0, 1.0]
    assert nothing.conf_int().loc["sd_x|g", "lower"] == 0.0
    correlation = own("few").conf_int(method="profile").loc["cor_Days.(Intercept)|Subject"]
    assert correlation["upper"] == 1.0
    assert correlation["lower"] > -1.0


def test_reml_and_ml_fits_have_one_profile(fits, sleep):
    ml = fits("sleepstudy", SLEEP, method="ML").profile(0.95)
    reml = sleep.profile(0.95)
    assert_allclose(ml.conf_int(), reml.conf_int(), rtol=1e-7)
    assert "Refitted by maximum likelihood" in repr(reml)
    assert "Refitted" not in repr(ml)


@pytest.mark.parametrize(("of_y", "of_days"), [(1.0, 1e-12), (1e12, 1e12), (1e-140, 1e5)])
def test_intervals_do_not_depend_on_units(fits, sleep, of_y, of_days):
    data = fits.data("sleepstudy")
    data = data.assign(Reaction=data["Reaction"] * of_y, Days=data["Days"] * of_days)
    slope = of_y / of_days
    units = np.array([of_y, 1.0, slope, of_y, of_y, slope])
    found = lj.lmm("Reaction ~ Days + (1 + Days | Subject)", data).conf_int(method="profile")
    expected = sleep.conf_int(method="profile")
    np.testing.assert_allclose(found / units[:, None], expected, rtol=1e-9)


def test_which_parameters(sleep):
    every = sleep.conf_int(method="profile")
    fixed = sleep.conf_int(method="profile", which="fixed")
    random = sleep.conf_int(method="profile", which="random")
    assert list(fixed.index) == ["(Intercept)", "Days"]
    assert_allclose(np.vstack([random, fixed]), every, rtol=1e-7)
    only = sleep.profile(0.95, "sigma")
    assert list(only) == ["sigma"]
    assert only.frame.columns[3:].tolist() == list(every.index)
    wald = sleep.conf_int(which="all")
    assert list(wald.index) == list(every.index)
    assert_allclose(wald.loc[["(Intercept)", "Days"]], sleep.conf_int())
    components = sleep.variance_components()
    correlation = components[components["var2"].notna()][["lower", "upper"]].iloc[0]
    assert_allclose(wald.loc["cor_Days.(Intercept)|Subject"], correlation)


def test_arguments(fits, sleep):
    with pytest.raises(lj.LmmError, match="'dayz' is no parameter"):
        sleep.profile(0.95, "dayz")
    with pytest.raises(lj.LmmError, match="which must be"):
        sleep.conf_int(which="both")
    with pytest.raises(lj.LmmError, match="between 0 and 1"):
        sleep.profile(95)
    with pytest.raises(lj.LmmError, match="kind must be"):
        sleep.profile(0.95).plot("bar")
    common = {"Subject": lj.covariance.Identity(2)}
    fit = fits("sleepstudy", SLEEP, covariance=common)
    with pytest.raises(lj.LmmError, match="Identity of 'Subject'"):
        fit.profile()


def test_pictures(sleep):
    profile = sleep.profile(0.95)
    figure = profile.plot()
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(profile)
    line = max(figure.axes[3].lines, key=lambda e: (len(e.get_xdata()), e.get_linestyle() == "-"))
    low, high = profile.conf_int().loc["sigma"]
    assert_allclose([line.get_xdata()[0], line.get_xdata()[-1]], [low, high], rtol=1e-6)
    ax = profile.plot("density").axes[5]
    x, density = (np.asarray(v) for v in max(ax.lines, key=lambda e: len(e.get_xdata())).get_data())
    # The interval's share of a density.
    assert_allclose(np.trapezoid(density, x), 0.95, atol=2e-3)


def test_damped_step():
    matrix = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    gradient = np.array([1.0, -2.0, 0.5])
    with lj.double_precision():
        step, decrement = damped_step(jnp.array(matrix), jnp.array(gradient), jnp.array(0.0))
        newton = -np.linalg.solve(matrix, gradient)
        assert_allclose(step, newton, rtol=1e-12)
        assert_allclose(decrement, -0.5 * gradient @ newton, rtol=1e-12)
        saddle = matrix - 5.0 * np.outer([1, 0, 0], [1, 0, 0])
        step, decrement = damped_step(jnp.array(saddle), jnp.array(gradient), jnp.array(0.0))
        assert gradient @ np.asarray(step) < 0.0 < decrement


def test_limits_of_a_singular_fit_are_those_of_its_closed_form(fits):
    """One balanced factor of which the variance is estimated as zero.

    lme4's limits of the intercept are 4.3121 and 7.0192: interpolated, 1e-4 too wide.
    """
    fit = fits("Dyestuff2", "Yield ~ 1 + (1 | Batch)")
    y = fit.design.y.reshape(6, 5)
    within = np.sum((y - y.mean(axis=1, keepdims=True)) ** 2)

    def deviance(at):
        log_sigma, sd, mean = at
        own = np.exp(2.0 * log_sigma) + 5.0 * sd**2
        between = 5.0 * np.sum((y.mean(axis=1) - mean) ** 2)
        return 48 * log_sigma + 6 * np.log(own) + within / np.exp(2.0 * log_sigma) + between / own

    def profiled(position, value):
        free = [i for i in range(3) if i != position]
        start = np.array([np.log(3.7), 0.5, y.mean()])

        def rest(x):
            at = start.copy()
            at[free], at[position] = x, value
            return deviance(at)

        # The variance may be zero: its root is free to change sign.
        return minimize(rest, start[free], method="BFGS", options={"gtol": 1e-9}).fun

    edge = profiled(1, 0.0) + chi2.ppf(0.95, 1)
    found = fit.conf_int(method="profile")
    assert found.loc["sd_(Intercept)|Batch", "lower"] == 0.0
    for row, column, position, low, high in (
        ("sd_(Intercept)|Batch", "upper", 1, 0.5, 5.0),
        ("(Intercept)", "lower", 2, 3.0, y.mean()),
        ("(Intercept)", "upper", 2, y.mean(), 9.0),
    ):
        limit = brentq(lambda v, at=position: profiled(at, v) - edge, low, high, xtol=1e-9)
        assert_allclose(found.loc[row, column], limit, rtol=2e-6)
