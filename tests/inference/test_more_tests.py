"""Tests of fixed effects on designs that are unbalanced, weighted, crossed, nested, singular.

What R says of them is made by make_tests.R.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj

R = json.loads((Path(__file__).parent / "tests.json").read_text())
CAKE = "angle ~ recipe * temperature + (1 | recipe:replicate)"
SUMS = {"recipe": "contr.sum", "temperature": "contr.sum"}
MODELS = {
    "quadratic": ("sleep", "Reaction ~ Days + I(Days**2) + (1 | Subject) + (0 + Days | Subject)"),
    "short_slope": ("short", "Reaction ~ Days + I(Days**2) + (1 + Days | Subject)"),
    "uneven": ("uneven", CAKE),
    "uneven_sum": ("uneven", CAKE, {"contrasts": SUMS}),
    "holes": ("holes", CAKE),
    "uneven_mixed": ("uneven", "angle ~ recipe * temp + (1 | recipe:replicate)"),
    "uneven_slope": ("uneven", "angle ~ recipe + temp + (1 + temp | recipe:replicate)"),
    "crossed": ("uneven", "angle ~ recipe + temp + (1 | replicate) + (1 | temperature)"),
    "nested": ("uneven", "angle ~ recipe + temp + (1 | replicate) + (1 | replicate:recipe)"),
    "weighted": ("uneven", "angle ~ recipe * temp + (1 | recipe:replicate)", {"weights": "w"}),
}


#: Each compiles an elimination of its own.
SLOW = ("nested", "quadratic", "uneven_slope", "crossed", "weighted")
ALL = [pytest.param(m, marks=pytest.mark.slow) if m in SLOW else m for m in MODELS]


@pytest.fixture(scope="module")
def data(fits):
    sleep, cake = fits.data("sleepstudy"), fits.data("cake").copy()
    at = np.arange(1, len(cake) + 1)
    cake["w"] = 1 + at % 3
    replicate = cake["replicate"].astype(str).isin([str(i) for i in range(1, 7)])
    lost = (cake["recipe"] == "B") & (cake["temp"] > 200) & replicate
    uneven = cake[(at % 7 != 3) & ~lost]
    holes = uneven[~((uneven["recipe"] == "C") & (uneven["temperature"].astype(str) == "215"))]
    at = np.arange(1, len(sleep) + 1)
    early = sleep["Subject"].astype(str).isin(["308", "330"]) & (sleep["Days"] > 5)
    return {
        "sleep": sleep,
        "uneven": uneven,
        "holes": holes,
        "short": sleep[(at % 5 != 2) & ~early],
    }


@pytest.fixture(scope="module")
def case(data):
    made = {}

    def get(name):
        if name not in made:
            frame, formula, *more = MODELS[name]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", lj.LmmWarning)
                made[name] = lj.lmm(formula, data[frame], **(more[0] if more else {}))
        return R[name], made[name]

    return get


def check_rows(ours, theirs, rtol=1e-3):
    theirs = pd.DataFrame(theirs)
    for name in ("Sum Sq", "Mean Sq", "NumDF", "DenDF", "F value"):
        assert_allclose(ours[name], theirs[name], rtol=rtol, err_msg=name)
    assert_allclose(np.log(ours["Pr(>F)"]), np.log(theirs["Pr(>F)"]), rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("type", ["I", "II", "III"])
@pytest.mark.parametrize("name", ALL)
def test_anova(name, type, case):
    ref, fit = case(name)
    table = fit.anova(type)
    check_rows(table.frame, ref[f"anova_{type}"])


@pytest.mark.parametrize(
    "name", [m for m, name in zip(ALL, MODELS, strict=True) if "anova_KR" in R[name]]
)
def test_kenward_roger(name, case):
    ref, fit = case(name)
    check_rows(fit.anova(ddf="kenward-roger").frame, ref["anova_KR"])
    theirs = pd.DataFrame(ref["kr_table"])
    ours = fit.contest(np.eye(len(fit.beta)), joint=False, ddf="kenward-roger")
    assert_allclose(ours["Std. Error"], theirs["Std. Error"], rtol=1e-4)
    assert_allclose(ours["df"], theirs["df"], rtol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_joint_contrasts_with_right_hand_sides(name, case):
    ref, fit = case(name)
    L = np.zeros((2, len(fit.beta)))
    L[0, 1], L[1, 1:3] = 1.0, (1.0, -1.0)
    check_rows(fit.contest(L, [1.0, 2.0]), ref["joint"])
    if "joint_KR" in ref:
        check_rows(fit.contest(L, [1.0, 2.0], ddf="kenward-roger"), ref["joint_KR"])


def test_comparison(fits):
    theirs = pd.DataFrame(R["comparison"])
    models = [
        fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)"),
        fits("sleepstudy", "Reaction ~ 1 + (1 | Subject)"),
    ]
    table = lj.anova(*models)
    assert table.frame.index.tolist() == ["model 2", "model 1"]
    for name in ("npar", "AIC", "BIC", "logLik", "deviance"):
        assert_allclose(table.frame[name], theirs[name], rtol=1e-6)
    assert_allclose(table.frame["Chisq"].iloc[1], theirs["Chisq"].iloc[1], rtol=1e-6)
    assert_allclose(table.frame["Pr(>Chisq)"].iloc[1], theirs["Pr(>Chisq)"].iloc[1], rtol=1e-5)
    assert "refitted by maximum likelihood" in str(table)
    by_ml = [
        fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)", "ML"),
        fits("sleepstudy", "Reaction ~ 1 + (1 | Subject)", "ML"),
    ]
    assert "refitted" not in str(lj.anova(*by_ml))


def test_comparison_refuses_what_cannot_be_compared(fits, data):
    one = fits("sleepstudy", "Reaction ~ Days + (1 | Subject)")
    with pytest.raises(lj.DataError, match="different numbers of observations"):
        lj.anova(one, lj.lmm("Reaction ~ Days + (1 | Subject)", data["short"]))
    with pytest.raises(lj.DataError, match="different responses"):
        lj.anova(one, one.refit(one.design.y + 1.0))
    with pytest.raises(lj.LmmError, match="different fixed effects"):
        lj.anova(one, fits("sleepstudy", "Reaction ~ 1 + (1 | Subject)"), refit=False)
    slopes = fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)")
    as_they_are = lj.anova(one, slopes, refit=False)
    assert_allclose(as_they_are.frame["deviance"], [one.criterion, slopes.criterion])
    assert "Restricted likelihoods" in str(as_they_are)
    with pytest.raises(lj.LmmError, match="made by lmm"):
        lj.anova(one, 3)


def test_one_fit_is_its_own_anova(sleep):
    assert str(lj.anova(sleep, type=2)) == str(sleep.anova("II"))


def test_kenward_roger_needs_reml(fits):
    ml = fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)", "ML")
    with pytest.raises(lj.LmmError, match="REML"):
        ml.anova(ddf="kenward-roger")


@pytest.mark.slow
def test_kenward_roger_refuses_a_structure_that_is_not_linear(fits):
    fit = fits(
        "sleepstudy",
        "Reaction ~ Days + (1 + Days | Subject)",
        covariance={"Subject": lj.covariance.AR1},
    )
    with pytest.raises(lj.LmmError, match="AR1"):
        fit.contest("Days", ddf="kenward-roger")


def test_asymptotic_tests_are_the_limit(sleep):
    ours = sleep.contest("Days = 5", joint=False, ddf="asymptotic")
    z = ours["t value"].iloc[0]
    assert_allclose(z, (sleep.fixef["Days"] - 5) / sleep.bse["Days"])
    joint = sleep.contest("Days = 5", ddf="asymptotic")
    assert_allclose(joint["Pr(>F)"], ours["Pr(>|t|)"])
    assert np.isinf(joint["DenDF"].iloc[0])


@pytest.mark.parametrize(
    ("text", "row", "rhs"),
    [
        ("a", [0, 1, 0, 0], 0),
        ("a = 2", [0, 1, 0, 0], 2),
        ("a == 2", [0, 1, 0, 0], 2),
        ("2 * a - b/4 = 1e1 - 3", [0, 2, -0.25, 0], 7),
        ("-(a - b) * 2 + 1 = a:b", [0, -2, 2, -1], -1),
        ("(Intercept) = Intercept/2 + `a:b`", [0.5, 0, 0, -1], 0),
    ],
)
def test_hypotheses_as_text(text, row, rhs):
    from lmmjax.inference.hypotheses import parse_hypotheses

    found = parse_hypotheses(text, ["(Intercept)", "a", "b", "a:b"])
    assert_allclose(found.L, [row])
    assert_allclose(found.rhs, [rhs])


def test_several_hypotheses_in_one_text():
    from lmmjax.inference.hypotheses import parse_hypotheses

    found = parse_hypotheses(["a = b = 1", "b, a = 3"], ["a", "b"])
    assert_allclose(found.L, [[1, -1], [0, 1], [0, 1], [1, 0]])
    assert_allclose(found.rhs, [0, 1, 0, 3])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Dayz = 0", "did you mean 'Days'"),
        ("Days * Days", "linear"),
        ("1 / Days", "linear"),
        ("Days / 0", "not zero"),
        ("1 = 0", "says nothing"),
        ("Days - Days", "says nothing"),
        ("(Days = 0", "is missing"),
        ("Days 2", "expected here"),
        ("Days =", "expected here"),
        ("", "expected here"),
        ("`Days", "no coefficient"),
    ],
)
def test_text_that_is_no_hypothesis(sleep, text, says):
    with pytest.raises(lj.LmmError, match=says):
        sleep.contest(text)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"L": [1.0]}, "one column for each"),
        ({"L": [0.0, 0.0]}, "is zero"),
        ({"L": [0.0, np.nan]}, "finite"),
        ({"L": [0.0, 1.0], "rhs": [1.0, 2.0]}, "rhs has shape"),
        ({"L": "Days", "rhs": 1.0}, "leave rhs out"),
        ({"L": "Days = 1, Days = 2"}, "contradict"),
        ({"L": "Days", "ddf": "exact"}, "ddf must be"),
        ({"L": "Days", "adjust": "holm"}, "one p value"),
        ({"L": "Days", "adjust": "tukey", "joint": False}, "adjust must be"),
    ],
)
def test_contest_says_what_is_wrong(sleep, arguments, says):
    with pytest.raises(lj.LmmError, match=says):
        sleep.contest(**arguments)


def test_adjusted_p_values(case):
    _, fit = case("uneven_mixed")
    texts = ["recipeB", "recipeC", "temp", "recipeB:temp"]
    raw = fit.contest(texts, joint=False)["Pr(>|t|)"].to_numpy()
    for method in ("bonferroni", "holm", "fdr_bh", "fdr_by"):
        adjusted = fit.contest(texts, joint=False, adjust=method)["Pr(>|t|)"].to_numpy()
        assert np.all(adjusted >= raw)
        assert np.all(np.diff(adjusted[np.argsort(raw)]) >= 0)
    bonferroni = fit.contest(texts, joint=False, adjust="bonferroni")["Pr(>|t|)"]
    assert_allclose(bonferroni, np.minimum(1, 4 * raw))


def test_weights_as_lists_arrays_or_a_frame(sleep):
    for joint in (True, False):
        lists = sleep.contest([[0, 1], [1, 5]], joint=joint)
        pd.testing.assert_frame_equal(lists, sleep.contest(np.array([[0, 1], [1, 5]]), joint=joint))
    named = pd.DataFrame([[0, 1], [1, 5]], index=["slope", "day 5"])
    assert list(sleep.contest(named, joint=False).index) == ["slope", "day 5"]
    assert list(lists.index) == ["Days", "(Intercept) + 5 * Days"]


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_redundant_rows_change_nothing(case, ddf):
    _, fit = case("uneven_mixed")
    once = fit.contest("recipeB = 1, recipeC = 2", ddf=ddf)
    thrice = fit.contest("recipeB = 1, recipeC = 2, recipeB - recipeC = -1", ddf=ddf)
    for name in ("F value", "NumDF"):
        assert_allclose(once[name], thrice[name])
    # Fai and Cornelius's df depend on the basis in which the hypothesis is written, a little.
    rtol = 1e-8 if ddf == "kenward-roger" else 1e-4
    assert_allclose(once["DenDF"], thrice["DenDF"], rtol=rtol)


@pytest.mark.parametrize("type", ["I", "II", "III"])
def test_no_terms_and_no_intercept(fits, type):
    empty = fits("Dyestuff", "Yield ~ 1 + (1 | Batch)").anova(type)
    assert len(empty.frame) == 0
    assert "no terms" in str(empty)
    means = fits("cake", "angle ~ 0 + recipe + (1 | recipe:replicate)").anova(type)
    assert means.frame["NumDF"].tolist() == [3]


def test_summary_by_method(fits):
    fit = fits("sleepstudy", "Reaction ~ Days + (1 | Subject)")
    summary = fit.summary(ddf="kenward-roger")
    tests = fit.contest(np.eye(2), joint=False, ddf="kenward-roger")
    assert_allclose(summary.coefficients, tests[summary.coefficients.columns])
    assert "Kenward-Roger's method" in str(summary)
    assert "Inf" in str(fit.summary(ddf="asymptotic"))
    assert str(fit.summary(ddf="satterthwaite")) == str(fit.summary())
    with pytest.raises(lj.LmmError, match="ddf must be"):
        fit.summary(ddf="exact")
