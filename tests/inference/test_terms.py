"""Terms dropped, eliminated and reduced, against lmerTest and lme4.

What R says of them is made by make_terms.R.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj
from lmmjax.inference.linear_model import LinearModel

R = json.loads((Path(__file__).parent / "terms.json").read_text())
REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "lme4.json").read_text())
RANOVA = [name for name, ref in REFERENCE.items() if "ranova" in ref]
MODELS = {
    "crossed": ("short", "Reaction ~ Days + I(Days^2) + (1 + Days | Subject) + (1 | day)"),
    "weighted": (
        "uneven",
        "angle ~ recipe * temp + (1 | replicate) + (1 | recipe:replicate)",
        {"weights": "w"},
    ),
    "factor_slope": ("cake", "angle ~ recipe + temp + (1 + recipe | replicate)"),
    "means": ("uneven", "angle ~ 0 + recipe + temp + (1 | recipe:replicate)"),
    "none": ("none", "Yield ~ x + z + (1 | Batch)"),
}


def some(*names):
    """Names of models; those that compile eliminations of their own are slow."""
    slow = ("crossed", "factor_slope")
    return [pytest.param(n, marks=pytest.mark.slow) if n in slow else n for n in names]


@pytest.fixture(scope="module")
def data(fits):
    sleep, cake = fits.data("sleepstudy"), fits.data("cake").copy()
    at = np.arange(1, len(cake) + 1)
    cake["w"] = 1 + at % 3
    replicate = cake["replicate"].astype(str).isin([str(i) for i in range(1, 7)])
    lost = (cake["recipe"] == "B") & (cake["temp"] > 200) & replicate
    at_sleep = np.arange(1, len(sleep) + 1)
    early = sleep["Subject"].astype(str).isin(["308", "330"]) & (sleep["Days"] > 5)
    short = sleep[(at_sleep % 5 != 2) & ~early].copy()
    short["day"] = "d" + short["Days"].astype(int).astype(str)
    none = fits.data("Dyestuff2").copy()
    none["x"] = np.arange(1, len(none) + 1)
    none["z"] = none["x"] % 4
    uneven = cake[(at % 7 != 3) & ~lost]
    return {"cake": cake, "uneven": uneven, "short": short, "none": none, "sleep": sleep}


@pytest.fixture(scope="module")
def case(data):
    made = {}

    def get(name, method="REML"):
        if (name, method) not in made:
            frame, formula, *more = MODELS[name]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", lj.LmmWarning)
                kwargs = more[0] if more else {}
                made[name, method] = lj.lmm(formula, data[frame], method=method, **kwargs)
        return R[name], made[name, method]

    return get


def check(ours, theirs, rtol=1e-5):
    """A frame against R's, column by column; R's own optimiser leaves a little in differences."""
    theirs = pd.DataFrame(theirs)
    rows = theirs["row" if "row" in theirs else "term"]
    assert ours.index.tolist() == rows.tolist()
    for name in theirs.columns.drop(["row", "_row", "term"], errors="ignore"):
        mine = ours[name if name != "Pr(Chi)" else "Pr(>Chisq)"].to_numpy(float)
        other = theirs[name].to_numpy(float)
        if name.startswith("Pr("):
            mine, other = np.log(mine), np.log(other)
        atol = 1e-5 if name.startswith("Pr(") else 1e-7
        assert_allclose(mine, other, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", RANOVA)
def test_reference_ranova(name, fits):
    ref = REFERENCE[name]
    check(fits(ref["data"], ref["formula"]).ranova().frame, ref["ranova"])


@pytest.mark.parametrize("name", some("factor_slope", "weighted", "means"))
def test_ranova(name, case):
    ref, fit = case(name)
    check(fit.ranova().frame, ref["ranova"])
    check(fit.ranova(reduce_terms=False).frame, ref["ranova_whole"])


def test_ranova_by_ml(case):
    ref, fit = case("means", "ML")
    table = fit.ranova()
    check(table.frame, ref["ranova_ml"])
    assert "Likelihoods (ML)" in str(table)


def test_boundary_is_stated_and_mixtures_are_given(fits):
    from scipy.stats import chi2

    table = fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)").ranova()
    assert "conservative" in str(table)
    lrt = table.frame["LRT"].iloc[1]
    assert_allclose(
        table.frame["Pr(>mixture)"].iloc[1], 0.5 * (chi2.sf(lrt, 1) + chi2.sf(lrt, 2)), rtol=1e-10
    )
    one = fits("Dyestuff", "Yield ~ 1 + (1 | Batch)").ranova().frame.iloc[1]
    assert_allclose(one["Pr(>mixture)"], 0.5 * chi2.sf(one["LRT"], 1), rtol=1e-10)
    no_test = fits("sleepstudy", "Reaction ~ Days + (0 + Days | Subject)").ranova()
    assert np.isnan(no_test.frame["Pr(>Chisq)"].iloc[1])
    assert "Df 0" in str(no_test)
    assert "conservative" not in str(no_test)


@pytest.mark.parametrize("name", some(*MODELS))
def test_drop1(name, case):
    ref, fit = case(name)
    # lmerTest's degrees of freedom are from finite differences.
    check(fit.drop1().frame, ref["drop1"], rtol=1e-3)


def test_drop1_by_likelihood_ratios(case):
    ref, fit = case("means")
    ratios = fit.drop1(test="Chisq")
    assert "refitted by maximum likelihood" in str(ratios)
    check(ratios.frame, ref["drop1_chisq"])


def test_drop1_by_kenward_roger(case):
    ref, fit = case("means")
    check(fit.drop1(ddf="kenward-roger").frame, ref["drop1_KR"], rtol=1e-3)


@pytest.mark.parametrize("name", some("crossed", "weighted", "means", "none"))
def test_step(name, case):
    ref, fit = case(name)
    found = fit.step()
    check(found.random, ref["step_random"])
    check(found.fixed, ref["step_fixed"], rtol=1e-3)
    theirs = ref["step_formula"]
    ours = found.formula.replace("~ 1 + ", "~ ")
    if theirs.endswith(" - 1"):
        theirs = theirs.removesuffix(" - 1").replace("~ ", "~ 0 + ")
    assert ours == theirs
    assert f"Model found:\n{found.formula}" in str(found)
    assert found.final is found.model
    assert isinstance(found.final, LinearModel) == (name == "none")


def test_step_keeps_what_it_is_told_to(case):
    _, fit = case("none")
    found = fit.step(keep=["x"])
    assert found.formula == "Yield ~ 1 + x"
    assert found.fixed["Eliminated"].to_dict() == {"z": 1.0, "x": 0.0}
    everything = fit.step(alpha_random=1.0, alpha_fixed=1.0)
    assert everything.final is fit
    assert everything.fixed["Eliminated"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda fit: fit.drop1("temp"), "another term contains"),
        (lambda fit: fit.drop1("tempo"), "no term of the fixed part"),
        (lambda fit: fit.drop1(test="LRT"), "test must be"),
        (lambda fit: fit.step(keep="tempo"), "keep names"),
        (lambda fit: fit.step(alpha_fixed=5.0), "between 0 and 1"),
    ],
)
def test_what_cannot_be_dropped(case, call, says):
    _, fit = case("weighted")
    with pytest.raises(lj.LmmError, match=says):
        call(fit)


@pytest.mark.parametrize(
    ("formula", "kwargs"),
    [
        ("angle ~ temperature + (1 | recipe:replicate)", {}),
        ("angle ~ recipe * temperature + (1 | recipe:replicate)", {}),
        ("angle ~ temperature + recipe + (1 | recipe:replicate)", {"temperature": "contr.sum"}),
        ("angle ~ 0 + temperature + recipe + (1 | recipe:replicate)", {}),
    ],
)
def test_a_single_deletion_is_the_row_of_the_fits_own_anova(data, formula, kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        fit = lj.lmm(formula, data["uneven"], contrasts=kwargs)
    deletions = fit.drop1().frame
    for kind in ("I", "II", "III") if len(fit.design.coding.term_names) == 1 else ("II",):
        rows = fit.anova(kind).frame.loc[deletions.index]
        # Without an intercept the first factor is what is left of it, too: other hypotheses.
        same = rows["NumDF"] == deletions["NumDF"]
        assert same.any()
        assert same.all() or not fit.design.coding.has_intercept
        assert_allclose(deletions[same], rows[same], rtol=1e-10)


def test_the_only_term_has_the_df_of_its_anova(data):
    # anova(m) and drop1(m) of m <- lmer(angle ~ temperature + (1 | recipe:replicate), uneven)
    fit = lj.lmm("angle ~ temperature + (1 | recipe:replicate)", data["uneven"])
    for table in (fit.drop1(), fit.anova("I"), fit.anova("II"), fit.anova("III")):
        assert_allclose(table.frame["F value"], [15.11685332], rtol=1e-6)
        assert_allclose(table.frame["DenDF"], [167.660219], rtol=1e-6)


def test_aliased_columns_are_tested_in_any_units(data):
    found = []
    for unit in (1.0, 1e-10, 1e10):
        frame = data["uneven"].assign(x=data["uneven"]["temp"] * unit)
        frame["copy"] = (frame["recipe"] == "B") * unit + frame["x"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lj.LmmWarning)
            fit = lj.lmm("angle ~ recipe + x + copy + (1 | replicate)", frame)
        found.append(fit.drop1().frame)
    for other in found[1:]:
        assert_allclose(other, found[0], rtol=1e-6)


def test_least_squares_is_the_limit(case):
    """The model without random effects against its textbook formulas."""
    _, fit = case("none")
    model = fit.step().final
    y = fit.design.y
    assert_allclose(model.coefficients.loc["(Intercept)", "Estimate"], y.mean())
    se = y.std(ddof=1) / np.sqrt(len(y))
    assert_allclose(model.coefficients.loc["(Intercept)", "Std. Error"], se)
    assert_allclose(model.sigma, y.std(ddof=1))


@pytest.mark.slow
def test_refits_keep_rows_weights_offset_and_contrasts(data):
    """A smaller model is that of its own formula, fitted by hand to the same rows."""
    frame = data["uneven"].copy()
    frame["odd name"] = np.log(frame["temp"])
    frame.loc[frame.index[5], "odd name"] = np.nan
    shift = np.linspace(0.0, 3.0, len(frame))
    kwargs = {"weights": "w", "contrasts": {"recipe": "contr.sum"}, "offset": shift, "method": "ML"}
    full = "angle ~ recipe + {temp/100} + `odd name` + offset(w) + (1 | replicate)"
    names = ["temp/100", "odd name"]
    fit = lj.lmm(full, frame, **kwargs)
    ratios = fit.drop1(names, test="Chisq").frame
    rows = frame[frame["odd name"].notna()].copy()
    kwargs["offset"] = shift[frame["odd name"].notna()]
    for name, rest in zip(names, ["`odd name`", "{temp/100}"], strict=True):
        smaller = lj.lmm(f"angle ~ recipe + {rest} + offset(w) + (1 | replicate)", rows, **kwargs)
        assert_allclose(ratios.loc[name, "AIC"], smaller.aic, rtol=1e-10)


def test_a_refitted_response_stays(fits):
    fit = fits("sleepstudy", "Reaction ~ Days + (1 | Subject)")
    again = fit.refit(1000.0 / fit.design.y)
    assert_allclose(again.ranova().frame["LRT"].iloc[1], again.exact_rlrt(n=10).statistic)
    X, y = again.design.X, again.design.y
    rss = float(np.linalg.lstsq(X, y, rcond=None)[1][0])
    m = len(y) - 2
    theirs = m * (1 + np.log(2 * np.pi * rss / m)) + np.linalg.slogdet(X.T @ X)[1]
    assert_allclose(-2 * again.ranova().frame["logLik"].iloc[1], theirs, rtol=1e-10)


def test_aliased_columns_are_tested_by_models(data):
    """What a term can still explain where columns are aliased, against least squares' F."""
    frame = data["uneven"].copy()
    frame["copy"] = (frame["recipe"] == "B") * 1.0 + frame["temp"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        fit = lj.lmm("angle ~ recipe + temp + copy + (1 | replicate)", frame)
    # `copy` adds nothing; without `temp` it takes temp's place.
    assert fit.drop1().frame["NumDF"].to_dict() == {"recipe": 1}


@pytest.mark.slow
def test_a_structure_of_its_own_goes_as_a_whole(fits):
    fit = fits(
        "sleepstudy",
        "Reaction ~ Days + (1 + Days | Subject)",
        covariance={"Subject": lj.covariance.AR1},
    )
    frame = fit.ranova().frame
    assert frame.index.tolist() == ["<none>", "(1 + Days | Subject)"]
    assert frame["Df"].iloc[1] == 2


@pytest.mark.parametrize("name", some("crossed", "weighted", "factor_slope"))
def test_principal_components(name, case):
    ref, fit = case(name)
    pca = fit.repca()
    assert set(pca) == set(ref["repca"])
    for group, theirs in ref["repca"].items():
        theirs = np.atleast_1d(theirs)
        frame = pca[group]
        assert_allclose(frame["sd"], theirs, rtol=1e-5, atol=1e-6)
        if theirs.any():
            assert_allclose(frame["proportion"], theirs**2 / np.sum(theirs**2), atol=1e-6)
            assert_allclose(frame["cumulative"].iloc[-1], 1.0)
        # The directions rebuild the relative covariance.
        directions = pca.rotation[group].to_numpy()
        owner = [term.group for term in fit.design.terms].index(group)
        factor = fit.raw.factors[owner]
        rebuilt = directions * frame["sd"].to_numpy() ** 2 @ directions.T
        assert_allclose(rebuilt, factor @ factor.T, atol=1e-9)
        assert group in str(pca)
