"""The facts of other packages' test suites (cases.csv), asked of lmmjax; README.md says how."""

import csv
import math
import warnings
from itertools import groupby
from pathlib import Path

import pytest
from peer_data import load
from peer_quantities import ask

import lmmjax as lj

CASES = list(csv.DictReader((Path(__file__).parent / "cases.csv").open(encoding="utf-8")))
MODEL = ("data", "formula", "method", "options")
#: Keywords of lmm() in the column `options`, a fit's covariance structures among them.
STRUCTURES = {
    "AR1": lj.covariance.AR1,
    "Diagonal": lj.covariance.Diagonal,
    "Unstructured": lj.covariance.Unstructured,
}
SUITES = ("lme4", "lmerTest", "pbkrtest", "emmeans", "MixedModels.jl", "statsmodels")


def model_of(case):
    return tuple(case[column] for column in MODEL)


MODELS = {key: list(rows) for key, rows in groupby(sorted(CASES, key=model_of), key=model_of)}


def keywords(options):
    """`weights=w; covariance=Subject:AR1; contrasts=a:contr.sum,b:contr.SAS` as keywords."""
    made = {}
    for option in filter(None, (part.strip() for part in options.split(";"))):
        name, value = option.split("=", 1)
        if name == "covariance":
            group, structure = value.split(":")
            made[name] = {group: STRUCTURES[structure]}
        elif name == "contrasts":
            made[name] = dict(pair.split(":") for pair in value.split(","))
        else:
            made[name] = value
    return made


class Model:
    """A model of the table: fitted when first asked, with the other models that its rows name."""

    def __init__(self, data, formula, method, options):
        self.frame = load(data)
        self.formula = formula
        self.kwargs = {"method": method, **keywords(options)}
        self._fits = {}

    def fit(self, formula=None):
        formula = formula or self.formula
        if formula not in self._fits:
            self._fits[formula] = lj.lmm(formula, self.frame, **self.kwargs)
        return self._fits[formula]


def answer(model, what):
    """lmmjax's answer: a number; for `raises` and `warns`, names of classes."""
    if what == "raises":
        try:
            model.fit()
        except lj.LmmError as error:
            return type(error).__name__
        return "nothing"
    if what == "warns":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            lj.lmm(model.formula, model.frame, **model.kwargs)
        return " ".join(sorted({w.category.__name__ for w in caught})) or "nothing"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        return float(ask(model.fit(), what, model.fit))


def agrees(got, value, tolerance):
    if isinstance(got, str):
        return value in got.split()
    expected = float(value)
    if math.isnan(expected):
        return math.isnan(got)
    return abs(got - expected) <= float(tolerance)


def check(model, case):
    """What is wrong with a row: nothing, or a line."""
    got = answer(model, case["what"])
    same = agrees(got, case["value"], case["tolerance"])
    told = f"{case['name']}: {case['what']} is {got!r}, {case['source']} has {case['value']}"
    if not case["reason"]:
        return None if same else told
    if same:
        return f"{told}: they agree now, so the reason and `ours` must go"
    if not agrees(got, case["ours"], case["tolerance"]):
        return f"{told}, and lmmjax had {case['ours']}"
    return None


@pytest.mark.parametrize("key", MODELS, ids=["-".join(filter(None, key)) for key in MODELS])
def test_peers_answers(key):
    model = Model(*key)
    wrong = [line for case in MODELS[key] if (line := check(model, case))]
    assert not wrong, "\n".join(wrong)


def test_every_suite_is_asked_and_every_row_has_its_own_name():
    assert len({case["name"] for case in CASES}) == len(CASES) >= 150
    for suite in SUITES:
        assert sum(case["source"].split(",")[0] == suite for case in CASES) >= 15, suite


def test_a_difference_has_a_reason_and_lmmjaxs_own_answer():
    for case in CASES:
        assert bool(case["reason"]) == bool(case["ours"]), case["name"]


def test_a_wrong_answer_is_seen():
    key = next(key for key, rows in MODELS.items() if any(r["what"] == "sigma" for r in rows))
    row = next(r for r in MODELS[key] if r["what"] == "sigma")
    other = str(float(row["value"]) + 2 * float(row["tolerance"]) + abs(float(row["value"])))
    model = Model(*key)
    assert check(model, {**row, "value": other, "reason": "", "ours": ""})
    assert check(model, {**row, "reason": "none", "ours": other})
    assert check(model, {**row, "value": other, "reason": "none", "ours": other})
