"""Hints about data that probably mean something else: where they should be, and nowhere else."""

import warnings

import numpy as np
import pandas as pd
import pytest

import lmmjax as lj
from lmmjax.design import build_design
from lmmjax.errors import DataError, DesignWarning, LmmError, LmmWarning

RNG = np.random.default_rng(11)
N = 120


def _frame(**columns) -> pd.DataFrame:
    base = {
        "y": RNG.normal(10, 2, N),
        "x": RNG.uniform(1, 8, N),
        "g": np.repeat(np.arange(12), 10),
    }
    return pd.DataFrame({**base, **columns})


def _hint(formula, data) -> str:
    """The one warning of a design."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build_design(formula, data)
    assert [w.category for w in caught] == [DesignWarning]
    assert caught[0].filename == __file__
    return str(caught[0].message)


def _quiet(formula, data):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LmmWarning)
        build_design(formula, data)


def test_a_yes_or_no_response():
    data = _frame(passed=RNG.integers(0, 2, N), coded=RNG.integers(0, 2, N) + 1.0)
    assert "'passed' has two values, 0 and 1" in _hint("passed ~ x + (1 | g)", data)
    assert "logistic" in _hint("coded ~ x + (1 | g)", data)
    # As a predictor it is what it is, and a computed response is meant.
    _quiet("y ~ passed + (1 | g)", data)
    _quiet("I(passed * 1.0) ~ x + (1 | g)", data)


def test_a_count_response():
    data = _frame(ticks=RNG.negative_binomial(1, 0.3, N), errors=RNG.poisson(1.0, N))
    assert "'ticks' looks like counts" in _hint("ticks ~ x + (1 | g)", data)
    assert "Poisson" in _hint("errors ~ x + (1 | g)", data)
    _quiet("y ~ ticks + (1 | g)", data)
    _quiet("sqrt(ticks) ~ x + (1 | g)", data)
    # Scores, ratings and large counts are analysed so every day.
    _quiet("y ~ x + (1 | g)", _frame(y=RNG.integers(1, 6, N)))
    _quiet("y ~ x + (1 | g)", _frame(y=np.clip(RNG.normal(12, 4, N).round(), 0, 20)))
    _quiet("y ~ x + (1 | g)", _frame(y=RNG.poisson(200, N)))


@pytest.mark.parametrize(
    "name",
    ["Diet", "diet", "school_id", "schoolNR", "ID", "subject", "Treatment", "trt", "site.no"],
)
def test_numbers_that_are_codes(name):
    data = _frame(**{name: RNG.integers(1, 5, N)})
    found = _hint(f"y ~ {name} * x + (1 | g)", data)
    assert f"write factor({name})" in found
    # As asked for, and where two codes make one column either way.
    _quiet(f"y ~ factor({name}) + (1 | g)", data)
    _quiet(f"y ~ x + (1 | {name})", data)
    _quiet(f"y ~ {name} + (1 | g)", _frame(**{name: RNG.integers(1, 3, N)}))
    _quiet(f"y ~ {name} + (1 | g)", _frame(**{name: RNG.normal(size=N)}))


@pytest.mark.parametrize(
    "name", ["dose", "week", "Days", "grade", "schoolSES", "group_size", "level"]
)
def test_numbers_that_are_amounts(name):
    _quiet(f"y ~ {name} + (1 | g)", _frame(**{name: RNG.integers(1, 5, N)}))


@pytest.mark.parametrize("value", [-999.0, -99.0, -9.0, -9999.0, 999.0, 9999.0])
def test_a_number_that_stands_for_missing(value):
    x = RNG.uniform(1, 8, N)
    x[[3, 7]] = value
    for formula, data in [("y ~ x + (1 | g)", _frame(x=x)), ("y ~ x + (1 | g)", _frame(y=x))]:
        found = _hint(formula, data)
        assert f"is {value:g} in 2 rows" in found
        assert f"--na-values {value:g}" in found


def test_numbers_that_do_not_stand_for_missing():
    _quiet("y ~ x + (1 | g)", _frame(x=np.append(RNG.normal(0, 500, N - 1), -999.0)))
    _quiet("y ~ x + (1 | g)", _frame(x=np.append(RNG.uniform(0, 1200, N - 1), 999.0)))
    _quiet("y ~ x + (1 | g)", _frame(x=np.append(RNG.uniform(-20, 30, N - 1), -9.0)))


def test_numbers_that_were_read_as_text():
    texts = [f"{v:.2f}" for v in RNG.uniform(1, 9, N)]
    texts[5] = "n/a"
    found = _hint("y ~ x + (1 | g)", _frame(x=texts, y=np.arange(N) ** 1.5))
    assert "'x' is text and was taken for a factor of" in found
    assert "row 5 holds 'n/a'" in found
    commas = [f"{v:.1f}".replace(".", ",") for v in RNG.uniform(1, 3, N)]
    assert "decimal=','" in _hint("y ~ x + (1 | g)", _frame(x=commas))
    # Labels that have numbers in them are labels.
    _quiet("y ~ x + (1 | g)", _frame(x=[f"{k % 6}" for k in range(N)]))
    _quiet("y ~ x + (1 | g)", _frame(x=[("1", "2", "3", "other")[k % 4] for k in range(N)]))
    _quiet("y ~ x + (1 | g)", _frame(x=[f"v{k % 6}" for k in range(N)]))


def test_all_hints_come_as_one_warning():
    data = _frame(y=RNG.integers(0, 2, N), diet=RNG.integers(1, 5, N))
    data.loc[4, "x"] = -999.0
    found = _hint("y ~ x + diet + (1 | g)", data)
    assert found.count(";") >= 2
    for part in ("two values", "factor(diet)", "-999 in 1 row,"):
        assert part in found


def test_shipped_data_sets_give_no_hint():
    tried = 0
    for name in lj.datasets.names():
        data = lj.datasets.load(name)
        data = data.iloc[:: max(len(data) // 500, 1)]
        numbers = [c for c in data if data[c].dtype.kind in "iuf"]
        groups = [c for c in data if c not in numbers][:2]
        for y in numbers:
            for x in [c for c in data if c != y and (c in numbers or data[c].nunique() < 30)]:
                for g in groups:
                    with warnings.catch_warnings(record=True) as caught:
                        warnings.simplefilter("always")
                        try:
                            build_design(f"{y} ~ {x} + (1 | {g})", data)
                        except LmmError:
                            continue
                    tried += 1
                    known = ("combination", "random slopes")
                    assert not [w for w in caught if not any(k in str(w.message) for k in known)]
    assert tried >= 20


def test_a_response_of_a_size_without_squares_says_so():
    data = _frame()
    for factor, unit in ((1e-200, "1e199"), (1e200, "1e-201")):
        with pytest.raises(DataError, match=rf"of the size 1e[+-]\d+, whose .* y \* {unit}"):
            build_design("y ~ x + (1 | g)", data.assign(y=data["y"] * factor))
    for factor in (1e-150, 1e150):
        _quiet("y ~ x + (1 | g)", data.assign(y=data["y"] * factor))


def test_a_response_that_the_groups_explain_exactly_says_so():
    x, g = np.tile(np.arange(10.0), 12), np.repeat(np.arange(12), 10)
    a, b = RNG.normal(size=(2, 12))
    exact = a[g] + b[g] * x
    data = {"y": exact, "x": x, "g": g}
    with pytest.raises(lj.DataError, match="'g' account for the response exactly"):
        lj.lmm("y ~ x + (x | g)", data)
    nearly = data | {"y": exact + 1e-6 * exact.std() * RNG.normal(size=120)}
    with pytest.warns(DesignWarning, match="'g' account for the response almost exactly") as caught:
        fit = lj.lmm("y ~ x + (x | g)", nearly)
    assert len(caught) == 1
    assert 0.5e-6 < fit.sigma / exact.std() < 2e-6
