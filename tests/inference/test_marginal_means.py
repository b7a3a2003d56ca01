"""Marginal means, slopes and contrasts, beside R's emmeans (make_marginal_means.R)."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from marginal_cases import (
    BY_METHOD,
    JOINT,
    METHODS,
    MODELS,
    PRINTED,
    SATTERTHWAITE,
    frames,
)
from numpy.testing import assert_allclose

import lmmjax as lj
from lmmjax.columns import label

matplotlib.use("agg")
R = json.loads((Path(__file__).parent / "marginal_means.json").read_text())
SIDES = {0: "two-sided", 1: ">", -1: "<"}
#: R finds Dunnett's quantile to 5e-4 only.
ROUGH = {"method_trt.vs.ctrl": 1e-4, "method_trt.vs.ctrlk": 1e-4}


@pytest.fixture(scope="module")
def model(fits):
    data = frames(fits.data("cake"), fits.data("sleepstudy"))
    made = {}

    def get(name):
        if name not in made:
            frame, formula, kwargs = MODELS[name]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", lj.LmmWarning)
                made[name] = lj.lmm(formula, data[frame], **kwargs)
        return made[name]

    return get


def numbers(values):
    return np.array([np.nan if v == "NA" else float(v) for v in values])


def check_table(name, found):
    theirs = pd.DataFrame(R[name])
    ours = found.summary(null=found.null, side=SIDES[found.side]).frame
    assert set(ours) == set(theirs)
    for column in found.labels:
        assert [label(v) for v in ours[column]] == [label(v) for v in theirs[column]]
    se = numbers(theirs["SE"])
    for column in ours.columns.difference(found.labels.columns):
        expected, values = numbers(theirs[column]), ours[column].to_numpy(float)
        if column == "p.value":
            assert_allclose(values, expected, rtol=1e-5, atol=1e-8, err_msg=f"{name}: p")
            continue
        # A difference near zero is judged by its standard error.
        size = np.ones(len(se)) if column in ("df", "t.ratio", "z.ratio", "null") else se
        finite = np.isfinite(expected)
        assert_allclose(
            values[finite] / size[finite],
            expected[finite] / size[finite],
            rtol=1e-6,
            atol=ROUGH.get(name, 1e-6) if column.endswith("L") else 1e-6,
            err_msg=f"{name}: {column}",
        )
        assert np.array_equal(values[~finite], expected[~finite], equal_nan=True)


@pytest.mark.parametrize("ddf", METHODS)
@pytest.mark.parametrize("name", BY_METHOD)
def test_every_method_of_degrees_of_freedom(name, ddf, model):
    which, make = BY_METHOD[name]
    check_table(f"{name}.{ddf}", make(model(which), ddf=ddf))


@pytest.mark.parametrize("name", SATTERTHWAITE)
def test_weights_grids_contrasts_and_adjustments(name, model):
    which, make = SATTERTHWAITE[name]
    check_table(name, make(model(which)))


@pytest.mark.parametrize("name", JOINT)
def test_joint_tests(name, model):
    which, make = JOINT[name]
    ours, theirs = make(model(which)).frame, pd.DataFrame(R[name])
    for column in ours.columns[: -4 or None]:
        assert ours[column].tolist() == theirs[column].tolist()
    # R rounds F to three decimals. It takes the smallest df of the directions, not their mean.
    assert ours["df1"].tolist() == theirs["df1"].tolist()
    assert_allclose(ours["F.ratio"], theirs["F.ratio"], atol=6e-4)
    single = ours["df1"] == 1
    assert_allclose(ours["df2"][single], theirs["df2"][single], atol=6e-3)
    assert np.all(ours["df2"] > theirs["df2"] - 6e-3)
    assert_allclose(ours["p.value"], theirs["p.value"], rtol=6e-3, atol=1e-3)


def test_joint_tests_are_those_of_anova(model):
    for name in ("cake", "equal"):
        fit = model(name)
        table, joint = fit.anova("III").frame, fit.joint_tests().frame.set_index("model term")
        joint = joint.loc[table.index]
        assert_allclose(joint["F.ratio"], table["F value"], rtol=1e-7)
        assert_allclose(joint["df2"], table["DenDF"], rtol=0.02)


@pytest.mark.parametrize("name", PRINTED)
def test_print(name, model):
    which, make = PRINTED[name]
    notes = ("NOTE", "Note: adjust")
    ours = [line for line in str(make(model(which))).split("\n") if not line.startswith(notes)]
    theirs = R["printed"][name]
    assert [x for x in ours if x] == [x for x in theirs if x]


def test_means_are_averages_of_predictions(model):
    """The definition: predictions for a grid of rows, averaged with equal weights."""
    fit = model("sums")
    grid = pd.DataFrame(
        [
            (recipe, oven, shelf)
            for recipe in "ABC"
            for oven in ("new", "old", "test")
            for shelf in (0, 1)
        ],
        columns=["recipe", "oven", "shelf"],
    )
    grid["moist"] = fit.data["moist"].mean()
    grid["mean"] = fit.predict(grid, include_re=False)
    expected = grid.groupby("recipe")["mean"].mean()
    assert_allclose(fit.emmeans("recipe").frame["emmean"], expected, rtol=1e-12)


def test_slope_of_a_curve_is_its_derivative(model):
    fit = model("sleep")
    beta = fit.fixef
    found = fit.emtrends("group", "Days", at={"Days": [1, 7]}, by="Days").frame
    for _, row in found.iterrows():
        slope = beta["Days"] + 2 * beta["I(Days^2)"] * row["Days"]
        slope += beta["Days:groupb"] * (row["group"] == "b")
        assert_allclose(row["Days.trend"], slope, rtol=1e-10)


def test_offset_given_as_an_argument_stands_at_its_mean(fits):
    cake = fits.data("cake")
    formula = "angle ~ recipe + temp + (1 | recipe:replicate)"
    shift = np.linspace(0.0, 3.0, len(cake))
    plain = fits("cake", formula).emmeans("recipe").frame["emmean"]
    shifted = lj.lmm(formula, cake.assign(angle=cake["angle"] + shift), offset=shift)
    assert_allclose(shifted.emmeans("recipe").frame["emmean"], plain + 1.5)


def test_kenward_roger_needs_reml(fits):
    formula = "angle ~ recipe + temp + (1 | recipe:replicate)"
    with pytest.raises(lj.LmmError, match="REML"):
        _ = fits("cake", formula, "ML").emmeans("recipe", ddf="kenward-roger").frame


def test_note_on_interactions(model):
    note = "NOTE: Results may be misleading"
    assert note in str(model("cake").emmeans("recipe"))
    assert note in str(model("mixed").emmeans("recipe"))
    assert note not in str(model("additive").emmeans("recipe"))
    assert note not in str(model("cake").emmeans("recipe * temperature"))
    assert note not in str(model("mixed").emtrends("recipe", "temp"))
    assert note in str(model("mixed").emtrends("1", "temp"))


def test_adjustment_that_does_not_suit_is_changed_and_said(model):
    means = model("uneven").emmeans("recipe")
    assert 'adjust = "tukey" was changed to "sidak"' in str(means.conf_int(adjust="tukey"))
    assert_allclose(
        means.test(adjust="tukey").frame["p.value"], means.test(adjust="sidak").frame["p.value"]
    )


def test_adjusted_p_values_and_intervals_agree(model):
    """An interval at level 1 - p just touches zero, whatever the adjustment."""
    pairs = model("equal").emmeans("recipe").pairs()
    for adjust in ("tukey", "scheffe", "sidak", "bonferroni", "dunnettx", "none"):
        p = pairs.test(adjust=adjust).frame["p.value"].to_numpy()
        row = int(np.argmin(np.abs(p - 0.3)))
        limits = pairs.conf_int(level=1.0 - p[row], adjust=adjust).frame.iloc[row]
        nearest = min(abs(limits["lower.CL"]), abs(limits["upper.CL"]))
        assert nearest < 1e-6 * limits["SE"], adjust


@pytest.mark.parametrize("df", [1.0, 2.3, 42.5, 900.0, np.inf])
@pytest.mark.parametrize("means", [2, 2.7, 12])
def test_studentized_range_is_that_of_scipy(means, df):
    from scipy.stats import studentized_range

    from lmmjax.inference.studentized_range import range_quantile, range_upper

    for q in (0.3, 2.0, 5.0):
        assert_allclose(
            range_upper(q, means, df), studentized_range.sf(q, means, df), atol=1e-9, rtol=0
        )
    assert_allclose(range_upper(range_quantile(0.9, means, df), means, df), 0.1, rtol=1e-9)


def test_range_of_two_means_is_students_t():
    from scipy.special import stdtr

    from lmmjax.inference.studentized_range import range_upper

    for df in (1.0, 1.7, 30.0, 1e4):
        found = range_upper(3.0 * np.sqrt(2.0), 2, df)
        assert_allclose(found, 2.0 * stdtr(df, -3.0), atol=1e-13)


def test_contrasts_of_contrasts_and_a_control_by_name(model):
    means = model("additive").emmeans("recipe")
    beta = model("additive").fixef
    found = means.contrast("trt.vs.ctrl", ref="C").frame
    assert found["contrast"].tolist() == ["A - C", "B - C"]
    assert_allclose(found["estimate"], [-beta["recipeC"], beta["recipeB"] - beta["recipeC"]])
    twice = means.pairs().contrast({"first less last": [1, 0, -1]}).frame
    expected = means.frame["emmean"]
    assert_allclose(twice["estimate"], [expected[0] - 2 * expected[1] + expected[2]])
    same = means.contrast({"nothing": [0, 0, 0]}).frame
    assert same["SE"].tolist() == [0.0]
    assert np.isnan(same["df"][0])


def test_model_of_the_intercept_alone(fits):
    fit = fits("Dyestuff", "Yield ~ 1 + (1 | Batch)")
    found = fit.emmeans("1").frame
    assert_allclose(found[["emmean", "SE", "df"]].iloc[0], fit.coefficients.iloc[0, :3])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.emmeans("oven2"), "'oven2' is no predictor"),
        (lambda m: m.emmeans("replicate"), "no predictor of the fixed effects"),
        (lambda m: m.emmeans("recipe", by="x"), "'x' is no predictor"),
        (lambda m: m.emmeans("recipe", at={"Days": 1}), "at names 'Days'"),
        (lambda m: m.emmeans("recipe", at={"oven": ["hot"]}), "it needs some of 'new', 'old'"),
        (lambda m: m.emmeans("recipe", at={"moist": "wet"}), "finite numbers"),
        (lambda m: m.emmeans("recipe", at={"moist": [1, 1]}), "twice"),
        (lambda m: m.emmeans("recipe", at={"moist": []}), "finite numbers"),
        (lambda m: m.emmeans("recipe", weights="many"), "weights must be one of"),
        (lambda m: m.emmeans("recipe", weights=[1, 2]), "it needs 6 numbers"),
        (lambda m: m.emmeans("recipe", ddf="exact"), "ddf must be"),
        (lambda m: m.emmeans("recipe", level=95), "level must lie"),
        (lambda m: m.emmeans("pairwise ~ recipe"), r"contrast\('pairwise'\)"),
        (lambda m: m.emmeans("recipe **"), "cannot be read"),
        (lambda m: m.emmeans(3), "names of predictors"),
        (lambda m: m.emtrends("recipe", "oven"), "'oven' is a factor"),
        (lambda m: m.emtrends("recipe", "Days"), "one of 'moist', 'shelf'"),
        (lambda m: m.emmeans("recipe").pairs("exact"), "adjust must be"),
        (lambda m: m.emmeans("recipe").pairs("mvt"), "not available"),
        (lambda m: m.emmeans("recipe").contrast("best"), "method must be"),
        (lambda m: m.emmeans("recipe").contrast("pairwise", ref="A"), "ref is for"),
        (lambda m: m.emmeans("recipe").contrast("trt.vs.ctrl", ref="D"), "not 'D'"),
        (lambda m: m.emmeans("recipe").contrast({"a": [1, -1]}), "needs 3 finite"),
        (lambda m: m.emmeans("recipe").contrast({"a": {"D": 1}}), "not 'D'"),
        (lambda m: m.emmeans("recipe").contrast({}), "at least one"),
        (lambda m: m.emmeans("recipe").pairs(by="oven"), "by names 'oven'"),
        (lambda m: m.emmeans("1").pairs(), "one mean only"),
        (lambda m: m.emmeans("recipe").test(side="up"), "side must be"),
        (lambda m: m.emmeans("recipe").test(np.nan), "finite"),
        (lambda m: m.emmeans("recipe").test(joint=True, side="<"), "two-sided"),
        (lambda m: m.joint_tests(by="Days"), "'Days' is no predictor"),
    ],
)
def test_what_is_wrong_is_said(call, says, model):
    with pytest.raises(lj.LmmError, match=says):
        call(model("equal"))


def test_no_way_back_to_the_response(model):
    for estimates in (
        model("equal").emmeans("recipe"),
        model("root").emmeans("group").pairs(),
        model("logs").emmeans("group").contrast("identity"),
        model("logs").emtrends("group", "Days"),
    ):
        with pytest.raises(lj.LmmError, match="no known way"):
            estimates.response()


def test_values_where_the_model_is_not_defined(model):
    with pytest.raises(lj.LmmError, match=r"not numbers where|cannot be made"):
        model("sums").emmeans("recipe", at={"moist": -1})


def test_grid_that_is_too_large(model):
    with pytest.raises(lj.LmmError, match="leave levels out"):
        model("equal").emmeans("recipe", at={"moist": np.arange(10_000)})


def test_frames_and_notebooks(model):
    found = model("cake").emmeans("recipe | temperature")
    html = found._repr_html_()
    assert html.count("<table>") == 6
    assert "temperature = 175" in html
    own = found.to_frame()
    own["emmean"] = 0.0
    assert found.frame["emmean"].min() > 0
    assert_allclose(np.sqrt(np.diag(found.covariance)), found.frame["SE"])


def test_plot(model):
    found = model("cake").emmeans("recipe | temperature")
    figure = found.plot()
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in panels][:2] == [
        "temperature = 175",
        "temperature = 185",
    ]
    points = np.concatenate([c.get_offsets()[:, 0] for c in panels[0].collections[1::2]])
    assert_allclose(np.sort(points), np.sort(found.frame["emmean"][:3]))
    matplotlib.pyplot.close(figure)
    differences = model("cake").emmeans("temperature").pairs()
    figure = lj.plot.means(differences)
    ax = figure.axes[0]
    limits = differences.conf_int().frame
    clear = (limits["lower.CL"] > 0) | (limits["upper.CL"] < 0)
    assert 0 < clear.sum() < len(clear)
    filled = ax.collections[1].get_offsets()[:, 0]
    assert_allclose(filled, limits["estimate"][clear])
    matplotlib.pyplot.close(figure)
    with pytest.raises(lj.LmmError, match="too many"):
        lj.plot.means(
            replace(
                found,
                functions=np.tile(found.functions, (20, 1)),
                labels=pd.concat([found.labels] * 20, ignore_index=True),
            )
        )


# R: m <- lmer(angle ~ recipe * temperature + (1 | recipe:replicate), cake,
#              contrasts = list(temperature = "contr.treatment"))
#    e <- emmeans(m, ~ recipe * temperature, lmer.df = "satterthwaite")
def cake_means(fits, specs=("recipe", "temperature")):
    return fits("cake", "angle ~ recipe * temperature + (1 | recipe:replicate)").emmeans(specs)


def test_interaction_contrasts_are_rs(fits):
    means = cake_means(fits)
    # contrast(e, interaction = c("pairwise", "poly"))
    found = means.contrast(interaction=["pairwise", "poly"])
    frame = found.frame
    assert list(frame.columns[:2]) == ["recipe_pairwise", "temperature_poly"]
    assert frame.iloc[:4, 0].tolist() == ["A - B", "A - C", "B - C", "A - B"]
    assert frame.iloc[:4, 1].tolist() == ["linear", "linear", "linear", "quadratic"]
    np.testing.assert_allclose(
        frame["estimate"][:4], [-3.8, -0.733333333, 3.066666667, 2.133333333], rtol=1e-8
    )
    np.testing.assert_allclose(frame["SE"][2:4], [13.822508, 15.141799], rtol=1e-7)
    np.testing.assert_allclose(frame["df"], 210.0, rtol=1e-6)
    np.testing.assert_allclose(frame["p.value"][:4], [0.7837, 0.9577, 0.8246, 0.8881], atol=5e-5)
    assert found.messages == ("Degrees-of-freedom method: satterthwaite",)
    assert len(frame) == 15
    # contrast(e, interaction = "consec")
    last = means.contrast(interaction="consec").frame.tail(3)
    assert last.iloc[:, :2].to_numpy().tolist() == [
        ["C - B", "215 - 205"],
        ["B - A", "225 - 215"],
        ["C - B", "225 - 215"],
    ]
    np.testing.assert_allclose(last["estimate"], [1.2, 4.4, 0.533333333], rtol=1e-8)
    np.testing.assert_allclose(last["SE"], 2.3364303, rtol=1e-7)
    # contrast(e, "trt.vs.ctrl", interaction = TRUE)
    first = means.contrast("trt.vs.ctrl", interaction=True).frame.head(2)
    assert list(first.columns[:2]) == ["recipe_trt.vs.ctrl", "temperature_trt.vs.ctrl"]
    np.testing.assert_allclose(first["estimate"], [0.133333333, -1.4], rtol=1e-8)
    # contrast(emmeans(m, ~ temperature | recipe), interaction = "poly")
    within = cake_means(fits, "~ temperature | recipe").contrast(interaction="poly").frame
    assert list(within.columns[:2]) == ["temperature_poly", "recipe"]
    np.testing.assert_allclose(
        within["estimate"][:6], [53.8, -6.533333, -31.2, -17.733333, -2.4, 57.6], rtol=1e-6
    )


def test_interaction_contrasts_test_the_interaction(fits):
    """All of them together are the interaction's own F test, whatever their methods."""
    means = cake_means(fits)
    row = means.fit.joint_tests().frame.iloc[2]
    for methods in (["poly", "pairwise"], "consec", ["eff", "trt.vs.ctrl"]):
        test = means.contrast(interaction=methods).test(joint=True).frame.iloc[0]
        assert (test["df1"], row["df1"]) == (10, 10)
        assert test["F.ratio"] == pytest.approx(row["F.ratio"], rel=1e-9)


def test_simple_contrasts_are_rs(fits):
    means = cake_means(fits)
    # pairs(e, simple = "recipe")
    found = means.pairs(simple="recipe")
    np.testing.assert_allclose(
        found.frame["estimate"][:4], [2.266666667, 1.2, -1.066666667, 2.133333333], rtol=1e-8
    )
    np.testing.assert_allclose(found.frame["SE"][:4], 2.8823124, rtol=1e-7)
    np.testing.assert_allclose(
        found.frame["p.value"][:4], [0.7125, 0.9090, 0.9274, 0.7404], atol=5e-5
    )
    assert "family of 3 estimates" in found.messages[-1]
    assert found.frame.equals(means.pairs(by="temperature").frame)
    # pairs(e, simple = "each")
    each = means.pairs(simple="each")
    assert list(each) == ["recipe", "temperature"]
    assert each["recipe"].frame.equals(found.frame)
    frame = each["temperature"].frame
    assert len(frame) == 45
    assert frame["contrast"][0] == "temperature175 - temperature185"
    np.testing.assert_allclose(frame["estimate"][:2], [-2.4, -1.666666667], rtol=1e-8)
    np.testing.assert_allclose(frame["p.value"][:2], [0.6946, 0.9146], atol=5e-5)
    assert str(each).startswith("Simple contrasts for recipe:\ntemperature = 175:\n contrast")
    # pairs(e, simple = c("recipe", "temperature")) has 153 rows
    assert len(means.pairs(simple=["recipe", "temperature"]).frame) == 153
    # contrast(e, "consec", simple = "temperature") is that within each recipe
    consec = means.contrast("consec", simple="temperature").frame
    assert consec.equals(means.contrast("consec", by="recipe").frame)


def test_what_is_wrong_with_interaction_and_simple_contrasts(fits):
    means = cake_means(fits)
    for options, expected in [
        ({"interaction": ["poly"]}, "interaction= has 1 methods"),
        ({"interaction": "nonsense"}, "method must be"),
        ({"interaction": "poly", "by": ["recipe", "temperature"]}, "interaction="),
        ({"interaction": "poly", "simple": "recipe"}, "goes with neither"),
        ({"simple": "Recipe"}, "simple= names 'Recipe'"),
        ({"simple": "recipe", "by": "temperature"}, "give one"),
    ]:
        with pytest.raises(lj.LmmError, match=expected):
            means.contrast(**options)
