"""Printed tables are R's, line for line."""

import re
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reading_cases import ARGUMENTS

import lmmjax as lj
from lmmjax.reading.numbers import abbreviate, p_texts, same_decimals, star, zap_small


def body(lines):
    """A summary from its criterion on, without the notes at the end."""
    lines = [line.rstrip() for line in lines]
    start = next(i for i, x in enumerate(lines) if x.startswith("REML crit") or "logLik" in x)
    out = []
    for line in lines[start:]:
        if line.startswith(("Correlations of", "boundary", "1 row")):
            break
        out.append(line)
    while out and not out[-1]:
        out.pop()
    return out


@pytest.mark.parametrize("name", ["weights", "offset", "crossed", "independent"])
def test_summary_prints_as_in_r(name, read):
    ref, fit = read(name)
    assert body(str(fit.summary()).splitlines()) == body(ref["summary"])


@pytest.mark.parametrize("name", ["parts", "many"])
def test_summary_of_a_singular_fit(name, read):
    """The last digits depend on where lme4's optimiser stopped; the layout does not."""
    ref, fit = read(name)
    ours, theirs = body(str(fit.summary()).splitlines()), body(ref["summary"])
    theirs = [line.replace("recipe.rep", "recipe:rep") for line in theirs]
    table = next(i for i, line in enumerate(theirs) if line.startswith("Fixed effects"))
    for a, b in zip(ours[:table], theirs[:table], strict=True):
        assert len(a) == len(b)
        for x, y in zip(a.split(), b.split(), strict=True):
            assert x == y or float(x) == pytest.approx(float(y), rel=2e-3)
    assert len(ours) == len(theirs)
    assert "boundary (singular) fit" in str(fit.summary())


@pytest.mark.parametrize("name", list(ARGUMENTS))
def test_coefficients_are_rs(name, read):
    ref, fit = read(name)
    theirs = np.array(ref["coefficients"])
    ours = fit.summary().coefficients.to_numpy()
    singular = fit.is_singular
    assert_allclose(ours[:, :2], theirs[:, :2], rtol=1e-4 if singular else 1e-6)
    assert_allclose(ours[:, 2], theirs[:, 2], rtol=5e-2 if singular else 1e-3)
    assert_allclose(ours[:, 3], theirs[:, 3], rtol=1e-4)


def test_title_formula_and_messages(fits, read):
    ml = fits("sleepstudy", "Reaction ~ Days + (Days | Subject)", "ML").summary()
    assert str(ml).startswith(
        "Linear mixed model fit by maximum likelihood. t-tests use Satterthwaite's method\n"
        "Formula: Reaction ~ Days + (Days | Subject)\n"
    )
    assert list(ml.information) == ["AIC", "BIC", "logLik", "deviance", "df.resid"]
    assert ml.messages == ()
    _, fit = read("weights")
    assert fit.summary().messages == ("1 row of 270 was dropped for missing values",)
    assert str(fit.summary()).endswith("\n\n1 row of 270 was dropped for missing values")


def test_dropped_columns_are_in_the_summary():
    df = lj.datasets.load("sleepstudy")
    df["twice"] = 2.0 * df["Days"]
    with pytest.warns(lj.errors.RankWarning, match="twice"):
        fit = lj.lmm("Reaction ~ Days + twice + (1 | Subject)", df)
    assert "fixed-effects columns dropped as combinations of earlier ones: twice" in str(
        fit.summary()
    )
    assert list(fit.fixef.index) == ["(Intercept)", "Days"]


def test_many_coefficients_have_no_printed_correlations(read):
    _, fit = read("many")
    summary = fit.summary()
    assert "Correlations of the 18 fixed effects are not shown" in str(summary)
    assert summary.correlation.shape == (18, 18)
    assert_allclose(np.diag(summary.correlation), 1.0)


def test_a_model_without_fixed_effects():
    df = lj.datasets.load("sleepstudy")
    df["y"] = df["Reaction"] - df["Reaction"].mean()
    fit = lj.lmm("y ~ 0 + (1 | Subject)", df)
    assert "No fixed effects" in str(fit.summary())
    assert fit.summary()._repr_html_().startswith("<div>")
    assert fit.predict(include_re=False).eq(0.0).all()


def test_html_holds_the_same_numbers(sleep):
    html = sleep.summary()._repr_html_()
    assert sleep._repr_html_() == html
    text = re.sub(r"<[^>]+>", " ", html)
    for shown in ("251.405", "3.26e-06", "612.09", "REML criterion 1743.6", "&lt; 2e-16"):
        assert shown in text
    assert html.count("<table>") == html.count("</table>") == 2
    assert "24.7405" in sleep.varcorr._repr_html_()


def test_varcorr_prints_as_in_r(sleep):
    assert str(sleep.varcorr).splitlines() == [
        " Groups   Name        Std.Dev. Corr",
        " Subject  (Intercept) 24.7405",
        "          Days         5.9221  0.066",
        " Residual             25.5918",
    ]
    assert_allclose(sleep.varcorr["Subject"], [[612.0897, 9.6041], [9.6041, 35.0717]], rtol=1e-3)
    assert list(sleep.varcorr) == ["Subject"]
    with pytest.raises(KeyError):
        sleep.varcorr["subject"]


@pytest.mark.parametrize(
    ("values", "digits", "expected"),
    [
        # format(x, digits = d) in R
        ([1, 10, 100], 7, ["  1", " 10", "100"]),
        ([0.00001], 3, ["1e-05"]),
        ([0.0001234, 123456], 3, ["1.23e-04", "1.23e+05"]),
        ([0.1, 0.12, 0.123], 2, ["0.10", "0.12", "0.12"]),
        ([1e10], 3, ["1e+10"]),
        ([-1.5, 2.25], 4, ["-1.50", " 2.25"]),
        ([99999.5], 7, ["99999.5"]),
        ([0.0, 0.0], 4, ["0", "0"]),
        ([float("nan"), 1.5], 3, ["NaN", "1.5"]),
        ([float("inf"), 1.5], 3, ["Inf", "1.5"]),
        ([], 3, []),
    ],
)
def test_format(values, digits, expected):
    assert same_decimals(values, digits) == expected


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        # format.pval(p, digits = 3) in R
        ([0.05, 0.5], ["0.05", "0.50"]),
        ([1e-20], ["<2e-16"]),
        ([1e-20, 0.897], ["<2e-16", "0.897"]),
        ([1e-20, 0.00529, 2.43e-05], ["< 2e-16", "0.00529", "2.43e-05"]),
        ([0.0], ["<2e-16"]),
        ([1.0], ["1"]),
    ],
)
def test_p_values(p, expected):
    assert p_texts(p) == expected


def test_small_text_tools():
    assert [star(p) for p in (0.0009, 0.009, 0.04, 0.09, 0.5)] == ["***", "**", "*", ".", ""]
    assert p_texts([float("nan"), 0.2]) == ["NaN", "0.2"]
    assert abbreviate("(Intercept)", 6) == "(Intr)"
    assert abbreviate("recipeB", 6) == "recipB"
    assert abbreviate("Days", 6) == "Days"
    # zapsmall(c(5.18, 0.02312), 5) in R
    assert zap_small(np.array([5.17926, 0.02312]), 5).tolist() == [5.1793, 0.0231]
    assert zap_small(np.zeros(2), 5).tolist() == [0.0, 0.0]


def test_reading_a_good_fit_warns_of_nothing(sleep):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        str(sleep.summary())
        sleep.icc()
        sleep.augment()
        sleep.tidy(("fixed", "ran_pars", "ran_vals"), conf_int=True)


def test_a_printed_fit_shows_the_model(sleep, fits):
    """What lme4's print shows, but for its title and the name of the data:

    print(lmer(Reaction ~ Days + (Days | Subject), sleepstudy)), which has 24.741 for 24.740: its
    minimiser stops at 24.74066, the criterion's optimum is at 24.74045.
    """
    assert str(sleep).splitlines()[2:] == [
        "REML criterion at convergence: 1743.6",
        "Random effects:",
        " Groups   Name        Std.Dev. Corr",
        " Subject  (Intercept) 24.740",
        "          Days         5.922   0.07",
        " Residual             25.592",
        "Number of obs: 180, groups:  Subject, 18",
        "Fixed effects:",
        "(Intercept)        Days",
        "     251.41       10.47",
    ]
    assert repr(sleep).startswith("<LinearMixedModelResult: ")
    many = fits("cake", "angle ~ recipe * temperature + (1 | recipe:replicate)", method="ML")
    lines = str(many).splitlines()
    assert lines[2].split() == ["AIC", "BIC", "logLik", "deviance", "df.resid"]
    assert max(map(len, lines[1:])) <= 80
    at = lines.index("Fixed effects:") + 1
    shown = dict(
        pair
        for i in range(at, len(lines), 2)
        for pair in zip(lines[i].split(), lines[i + 1].split(), strict=True)
    )
    assert list(shown) == list(many.fixef.index)
    for name, text in shown.items():
        assert abs(float(text) - many.fixef[name]) < 1e-2
