"""What users of other packages type: read where it can mean one thing only, else answered."""

import copy
import inspect
import pickle
import re

import pandas as pd
import pytest

import lmmjax as lj
from lmmjax.arguments import is_reml
from lmmjax.elsewhere import IN_PACKAGE, KEYWORDS, LEVELS, ON_FIT
from lmmjax.errors import ArgumentError
from lmmjax.inference.contrasts import METHODS, check_method
from lmmjax.keywords import known_keywords


def test_degrees_of_freedom_in_any_spelling(sleep):
    spellings = {
        "kenward-roger": (
            "KR",
            "kr",
            "Kenward-Roger",
            "kenward_roger",
            "KenwardRoger",
            "Kenward Roger",
        ),
        "satterthwaite": ("Satterthwaite", "SATTERTHWAITE"),
        "asymptotic": ("Asymptotic",),
    }
    assert set(spellings) == set(METHODS)
    for meant, written in spellings.items():
        assert {check_method(ddf) for ddf in (meant, *written)} == {meant}
    asked = [sleep.anova(ddf=ddf).frame for ddf in ("KR", "kenward-roger")]
    pd.testing.assert_frame_equal(*asked)
    assert str(sleep.summary("KR")) == str(sleep.summary("kenward-roger"))
    assert str(sleep.emmeans("Days", ddf="KR")) == str(sleep.emmeans("Days", ddf="kenward-roger"))
    for ddf in ("lme4", "k", "", None, 3):
        with pytest.raises(lj.LmmError, match="ddf must be one of 'satterthwaite'"):
            check_method(ddf)


def test_methods_in_any_case(sleep, fits):
    data = fits.data("sleepstudy")
    assert lj.lmm(sleep.formula, data, method="reml").criterion == sleep.criterion
    full = lj.lmm(sleep.formula, data, method="ml")
    assert full.method == "ML"
    assert lj.fit_many(sleep, data["Reaction"].to_numpy()[None], method="ml").reml is False
    for method in ("OLS", "", None, 1, "re ml"):
        with pytest.raises(lj.LmmError, match="method must be 'REML' or 'ML'"):
            is_reml(method)


def test_keywords_of_others_are_answered_by_ours(sleep, fits):
    data, means = fits.data("sleepstudy"), sleep.emmeans("Days", at={"Days": [0, 9]})
    design, truth = sleep.design, lj.TrueParameters.from_fit(sleep)
    cases = [
        (lambda **k: lj.lmm(sleep.formula, data, **k), {"REML": False}, "write method='ML'"),
        (lambda **k: lj.lmm(sleep.formula, data, **k), {"reml": True}, "write method='REML'"),
        (lambda **k: lj.lmm("Reaction ~ Days", data, **k), {"groups": "Subject"}, "(1 + x | g)"),
        (lambda **k: lj.lmm("Reaction ~ Days", data, **k), {"re_formula": "~Days"}, "(1 + x | g)"),
        (lambda **k: lj.lmm(sleep.formula, data, **k), {"family": "binomial"}, "only linear mixed"),
        (lambda **k: lj.lmm(sleep.formula, data, **k), {"wieghts": None}, "did you mean 'weights'"),
        (sleep.conf_int, {"alpha": 0.1}, "write level=0.9"),
        (sleep.conf_int, {"conf_level": 90}, "write level=0.9"),
        (sleep.conf_int, {"parm": "theta_"}, "which="),
        (sleep.predict, {"type": "response"}, "scale of the response"),
        (sleep.predict, {"re_form": None}, "include_re= takes"),
        (sleep.predict, {"re_formula": "NA"}, "include_re= takes"),
        (sleep.predict, {"exog": data}, "newdata="),
        (sleep.predict, {"se_fit": True}, "se=True"),
        (sleep.anova, {"typ": 2}, "type="),
        (sleep.emmeans, {"type": "response"}, "response()"),
        (sleep.emmeans, {"lmer_df": "kr"}, "ddf="),
        (means.test, {"type": "response"}, "response()"),
        (means.summary, {"type": "response"}, "response()"),
        (means.pairs, {"p_adjust": "holm"}, "adjust="),
        (sleep.bootstrap, {"nsim": 9}, "n="),
        (sleep.simulate, {"seed": 9}, "key="),
        (lambda **k: lj.power(design, **k), {"n_sim": 9}, "nsim="),
        (lambda **k: lj.power_curve(sleep, truth, along={"effect": [1]}, **k), {"seed": 9}, "key="),
        (lambda **k: lj.anova(sleep, **k), {"typ": 2}, "type="),
        (sleep.ranef, {"nonsense": 1}, "It takes condvar"),
        (sleep.ranova, {"nonsense": 1}, "It takes reduce_terms"),
    ]  # fmt: skip
    for call, given, expected in cases:
        with pytest.raises(ArgumentError, match=re.escape(expected)) as caught:
            call(**given)
        # A keyword that a function does not have is a TypeError everywhere in Python.
        assert isinstance(caught.value, TypeError)
        assert repr(next(iter(given))) in str(caught.value)


def test_functions_keep_their_signatures_and_their_keywords():
    """Nothing that works is answered with advice, and no advice names what is not there."""
    functions = [f for f in map(lj.__getattr__, lj.__all__) if inspect.isfunction(f)]
    methods = inspect.getmembers(lj.LinearMixedModelResult, inspect.isfunction)
    functions += [f for name, f in methods if not name.startswith("_")]
    named = set()
    for function in functions:
        parameters = inspect.signature(function).parameters
        named |= set(parameters)
        inner = inspect.unwrap(function)
        assert inspect.signature(inner) == inspect.signature(function)
        assert function.__doc__ == inner.__doc__
    for keyword, advice in KEYWORDS.items():
        for needs, text in advice:
            assert needs in named | {"side"}, (keyword, needs)
            for argument in re.findall(r"\b([a-z_]+)=", text):
                assert argument in named | {"tested"}, (keyword, argument)
    assert not set(LEVELS) & set(KEYWORDS)


def test_names_of_others_are_answered_by_ours(sleep):
    for name, expected in [
        ("lmer", "lj.lmm("),
        ("mixedlm", "lj.lmm("),
        ("MixedLM", "lj.lmm("),
        ("glmer", "only linear mixed models"),
        ("fixef", "fit.fixef"),
        ("VarCorr", "fit.varcorr"),
        ("Anova", "did you mean 'anova'?"),
        ("dataset", "did you mean 'datasets'?"),
    ]:
        assert not hasattr(lj, name)
        with pytest.raises(AttributeError, match=re.escape(expected)):
            getattr(lj, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'zzz'$"):
        lj.zzz  # noqa: B018
    for name, expected in [
        ("confint", "conf_int()"),
        ("plot", "lj.plot.residuals(fit)"),
        ("fe_params", "fixef"),
        ("VarCorr", "varcorr"),
        ("logLik", "llf"),
        ("pvalue", "did you mean 'pvalues'?"),
        ("AIC", "did you mean 'aic'?"),
    ]:
        assert not hasattr(sleep, name)
        with pytest.raises(AttributeError, match=re.escape(expected)):
            getattr(sleep, name)
    # The protocols of Python are not disturbed.
    assert copy.copy(sleep).criterion == sleep.criterion
    assert pickle.loads(pickle.dumps(sleep)).criterion == sleep.criterion


def test_what_is_advised_is_there(sleep):
    for table in (IN_PACKAGE, ON_FIT):
        for name, text in table.items():
            assert name == name.lower()
            for module, public in re.findall(r"\blj\.(?:(plot|datasets)\.)?(\w+)", text):
                assert hasattr(getattr(lj, module) if module else lj, public), text
            for public in re.findall(r"\bfit\.(\w+)", text):
                assert hasattr(sleep, public), text
    for name, text in ON_FIT.items():
        first = re.match(r"[a-z_0-9]+", text)
        assert text.startswith("lj.") or (first and hasattr(sleep, first[0])), (name, text)
        assert not hasattr(sleep, name)
    assert not [name for name in IN_PACKAGE if hasattr(lj, name)]


def test_an_error_within_a_property_is_not_hidden(sleep, monkeypatch):
    def broken(self):
        raise AttributeError("the reason")

    monkeypatch.setattr(type(sleep), "broken", property(broken), raising=False)
    with pytest.raises(AttributeError, match="the reason"):
        sleep.broken  # noqa: B018


def test_a_function_that_takes_anything_is_left_alone():
    def anything(**options):
        return options

    assert known_keywords(anything) is anything


def test_a_grouping_factor_by_another_name(sleep):
    for effects in (sleep.ranef(), sleep.ranef(condvar=True).condvar, sleep.coef()):
        with pytest.raises(KeyError, match="did you mean 'Subject'\\?") as caught:
            effects["subject"]
        assert isinstance(caught.value, lj.LmmError)
        with pytest.raises(lj.LmmError, match=r"there are \['Subject'\]"):
            effects["school"]
        assert "school" not in effects
        assert effects.get("school") is None


def test_an_influence_is_drawn_as_its_fit_is(sleep):
    found = sleep.influence()
    drawn = [lj.plot.influence(each) for each in (sleep, found)]
    lines = [ax.lines[0].get_ydata() for ax in drawn]
    assert (lines[0] == lines[1]).all()
    with pytest.raises(lj.LmmError, match="of each row: give the fit itself"):
        lj.plot.influence(found, "Subject")
