"""Tests of fixed effects against lmerTest's and pbkrtest's, on the reference fits."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "lme4.json").read_text())
CASES = [k for k, ref in REFERENCE.items() if "kr_table" in ref]
#: Fits with a term beside the intercept.
TERMS = [k for k in CASES if REFERENCE[k]["anova_III"]]


@pytest.fixture(scope="session")
def case(fits):
    def get(name):
        ref = REFERENCE[name]
        return ref, fits(ref["data"], ref["formula"], "REML" if ref["REML"] else "ML")

    return get


def check_anova(ours, theirs):
    theirs = pd.DataFrame(theirs)
    assert ours.frame.index.tolist() == theirs["term"].tolist()
    for name in ours.frame:
        if name == "Pr(>F)":
            assert_allclose(np.log(ours.frame[name]), np.log(theirs[name]), rtol=1e-3)
        else:
            assert_allclose(ours.frame[name], theirs[name], rtol=1e-4)


@pytest.mark.parametrize("type", ["I", "II", "III"])
@pytest.mark.parametrize("name", TERMS)
def test_anova(name, type, case):
    ref, fit = case(name)
    check_anova(fit.anova(type), ref[f"anova_{type}"])


@pytest.mark.parametrize("name", TERMS)
def test_anova_by_kenward_roger(name, case):
    ref, fit = case(name)
    check_anova(fit.anova(ddf="kenward-roger"), ref["anova_KR"])


@pytest.mark.parametrize("name", CASES)
def test_kenward_roger_of_each_coefficient(name, case):
    ref, fit = case(name)
    theirs = pd.DataFrame(ref["kr_table"]).set_index("_row")
    p = len(fit.beta)
    ours = fit.contest(np.eye(p), joint=False, ddf="kenward-roger")
    assert ours.index.tolist() == theirs.index.tolist()
    assert_allclose(ours["Std. Error"], theirs["Std. Error"], rtol=1e-4)
    assert_allclose(ours["df"], theirs["df"], rtol=1e-4)
    assert_allclose(ours["t value"], theirs["t value"], rtol=1e-4, atol=1e-6)
