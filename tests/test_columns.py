"""Levels of factors: one label for each value, whatever the numbers that identify them are."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from lmmjax.columns import label
from lmmjax.design import build_design
from lmmjax.errors import DataError

IDS = {
    "16 digits": [1234567890123450 + k for k in range(6)],
    "beyond 2^53": [2**53 + k for k in range(6)],
    "at the end of int64": [2**63 - 1 - k for k in range(6)],
    "beyond int64": [2**64 - 1 - k for k in range(6)],
    "beyond 64 bits": [2**70 + k for k in range(6)],
    "negative": [-(2**63) + k for k in range(6)],
}


def _frame(ids) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return pd.DataFrame(
        {"id": np.repeat(np.array(ids), 4), "x": np.tile(np.arange(4.0), 6)}
    ).assign(y=rng.normal(size=24))


@pytest.mark.parametrize("kind", IDS)
def test_labels_of_large_integers_are_exact(kind):
    ids = IDS[kind]
    frame = _frame(ids)
    frames = {
        "numpy": frame,
        "objects": frame.astype({"id": object}),
        "lists": {name: frame[name].tolist() for name in frame},
        "text": frame.astype({"id": str}),
    }
    if min(ids) >= -(2**63) and max(ids) < 2**64:
        width = "Int64" if max(ids) < 2**63 else "UInt64"
        frames["nullable"] = frame.astype({"id": width})
        pl = pytest.importorskip("polars")
        frames["polars"] = pl.DataFrame({name: frame[name].tolist() for name in frame})
    design = build_design("y ~ x + (1 | id)", frame)
    for how, data in frames.items():
        made = build_design("y ~ x + (1 | id)", data)
        assert set(made.terms[0].levels) == set(map(str, ids)), how
        levels = np.array(made.terms[0].levels)[made.terms[0].index]
        assert_array_equal(levels, [str(i) for i in np.repeat(ids, 4).tolist()], err_msg=how)
        # New rows find their own group, however they hold it.
        new = design.coding.new_data(data)
        assert_array_equal(new.terms[0].index, design.terms[0].index, err_msg=how)


def test_a_missing_identifier_does_not_change_the_others():
    frame = _frame(IDS["16 digits"])
    design = build_design("y ~ x + (1 | id)", frame)
    # As pandas reads an integer column with a missing value: floats, whose 16 digits are exact.
    holes = frame.assign(id=frame["id"].where(frame.index != 5))
    assert holes["id"].dtype == np.float64
    new = design.coding.new_data(holes, allow_new_levels=True)
    expected = design.terms[0].index.copy()
    expected[5] = -1
    assert_array_equal(new.terms[0].index, expected)
    made = build_design("y ~ x + (1 | id)", holes)
    assert made.terms[0].levels == design.terms[0].levels
    # A list with a hole is exact at any size, although pandas makes floats of it.
    ids = np.repeat(IDS["beyond 2^53"], 4).tolist()
    ids[5] = None
    listed = build_design("y ~ x + (1 | id)", {**frame.to_dict("list"), "id": ids})
    assert listed.terms[0].levels == tuple(map(str, IDS["beyond 2^53"]))


def test_identifiers_that_floats_have_rounded_are_refused():
    frame = _frame(IDS["beyond 2^53"])
    design = build_design("y ~ x + (1 | id)", frame)
    rounded = frame.assign(id=frame["id"].where(frame.index != 5))
    for run in (
        lambda: build_design("y ~ x + (1 | id)", rounded),
        lambda: build_design("y ~ x + (1 | x:id)", rounded),
        lambda: design.coding.new_data(rounded, allow_new_levels=True),
    ):
        with pytest.raises(DataError, match=r"beyond 2\^53 stored as floats"):
            run()
    # As a covariate it is a number like any other.
    assert build_design("y ~ 0 + id + (1 | x)", rounded).n == 23


def test_labels_are_one_to_one():
    rng = np.random.default_rng(1)
    near = 0.1 * rng.integers(1, 50, 200)
    values = np.unique(
        np.concatenate([near, np.nextafter(near, 9.0), 10.0 ** np.arange(-300, 300)])
    )
    labels = [label(v) for v in values.tolist()]
    assert len(set(labels)) == len(values)
    assert [float(lab) for lab in labels] == values.tolist()
    # Narrow floats have the short text of their own precision.
    x = np.repeat(np.float32([0.1, 0.2, 0.3]), 8)
    levels = build_design("y ~ (1 | x)", {"y": rng.normal(size=24), "x": x}).terms[0].levels
    assert levels == ("0.1", "0.2", "0.3")


def test_values_with_one_label_are_not_merged():
    frame = _frame(IDS["16 digits"])
    mixed = pd.Series([1, "1", 2, "2", 3, "3"] * 4, dtype=object)
    with pytest.raises(DataError, match="holds 1 and '1', which are different values"):
        build_design("y ~ x + (1 | id)", frame.assign(id=mixed))
    # "a:b" with "c" is another level than "a" with "b:c".
    parts = frame.assign(a=["a:b", "a"] * 12, b=["c", "b:c"] * 12)
    levels = build_design("y ~ x + (1 | a:b)", parts).terms[0].levels
    assert levels == ("a:`b:c`", "`a:b`:c")


def test_a_label_and_the_same_number_as_labels_of_columns():
    frame = _frame(IDS["16 digits"]).rename(columns={"x": 1}).assign(**{"1": 2.0})
    with pytest.raises(DataError, match="a column '1' and a column 1, which a formula cannot"):
        build_design("y ~ `1` + (1 | id)", frame)
