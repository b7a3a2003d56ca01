"""The data sets: the shapes, level orders and simple facts of the sources, and what a user sees."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmmjax import datasets
from lmmjax.errors import DataError

REFERENCE = Path(__file__).parent / "reference"
FACTORS = json.loads((REFERENCE / "factors.json").read_text())


def test_every_set_of_the_reference_is_there():
    assert set(datasets.names()) == set(FACTORS)


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_factors_are_categoricals_in_the_order_of_r(name):
    df = datasets.load(name)
    expected = FACTORS[name]
    categorical = [c for c in df if isinstance(df[c].dtype, pd.CategoricalDtype)]
    assert set(categorical) == set(expected)
    for column, levels in expected.items():
        assert not df[column].cat.ordered
        assert df[column].notna().all()
        if not levels[0].startswith("<"):
            assert df[column].cat.categories.tolist() == levels
    for column in set(df) - set(expected):
        assert np.issubdtype(df[column].dtype, np.number)


def test_insteval_levels_are_in_numeric_order():
    df = datasets.load("InstEval")
    assert len(df["s"].cat.categories) == 2972
    assert len(df["d"].cat.categories) == 1128
    # R: levels(InstEval$d)[1:6]
    assert df["d"].cat.categories[:6].tolist() == ["1", "6", "7", "8", "12", "13"]
    assert df.loc[0, ["s", "d", "dept"]].tolist() == ["1", "1002", "2"]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("sleepstudy", 180),
        ("Dyestuff", 30),
        ("Dyestuff2", 30),
        ("Pastes", 60),
        ("Penicillin", 144),
        ("cake", 270),
        ("InstEval", 73421),
    ],
)
def test_row_counts_are_those_of_the_sources(name, rows):
    assert len(datasets.load(name)) == rows
    assert f"{rows:,} rows" in datasets.describe(name)


def test_balanced_designs_give_the_fixed_effects_as_means():
    """An outside truth for the values: in a balanced design the intercept is the grand mean."""
    fits = json.loads((REFERENCE / "lme4.json").read_text())
    for fit, name, response in [
        ("dyestuff_reml", "Dyestuff", "Yield"),
        ("dyestuff2_singular_reml", "Dyestuff2", "Yield"),
        ("pastes_nested_reml", "Pastes", "strength"),
        ("penicillin_crossed_reml", "Penicillin", "diameter"),
    ]:
        mean = datasets.load(name)[response].mean()
        assert mean == pytest.approx(fits[fit]["fixef"]["(Intercept)"], rel=1e-9)


def test_pastes_sample_is_batch_and_cask():
    df = datasets.load("Pastes")
    joined = df["batch"].astype(str) + ":" + df["cask"].astype(str)
    assert (joined == df["sample"].astype(str)).all()


def test_each_call_gives_a_new_frame():
    first = datasets.load("Dyestuff")
    first["Yield"] = 0
    assert datasets.load("Dyestuff")["Yield"].mean() == 1527.5


@pytest.mark.parametrize("name", sorted(FACTORS))
def test_describe_names_every_column_and_the_source(name):
    text = datasets.describe(name)
    for column in datasets.load(name):
        assert f"  {column} " in text
    assert "Source: " in text
    assert max(map(len, text.splitlines())) <= 100


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(DataError, match=r"no data set 'sleep'.*sleepstudy"):
        datasets.load("sleep")
    with pytest.raises(DataError, match=r"no data set 'sleep'.*sleepstudy"):
        datasets.describe("sleep")


def test_insteval_loads_quickly():
    def seconds():
        start = time.perf_counter()
        datasets.load("InstEval")
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.3


def test_describing_does_not_import_pandas():
    code = (
        "import sys; from lmmjax import datasets; datasets.describe('cake'); "
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
