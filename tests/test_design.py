"""The design: matrices equal R's, new data are coded as the fit's were, bad data are named."""

import json
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import lmmjax as lj
from lmmjax.design import Design, build_design
from lmmjax.errors import (
    DataError,
    DesignWarning,
    FormulaError,
    LmmWarning,
    RankWarning,
    ScaleWarning,
)
from lmmjax.formula import parse

R = json.loads((Path(__file__).parent / "data" / "design.json").read_text())


def _r_frame() -> pd.DataFrame:
    frame = pd.DataFrame(R["data"])
    frame["f"] = pd.Categorical(frame["f"], categories=R["levels"]["f"])
    return frame


@pytest.fixture
def frame() -> pd.DataFrame:
    return _r_frame()


def _build(formula, data, **kwargs) -> Design:
    with warnings.catch_warnings():
        warnings.simplefilter("error", LmmWarning)
        return build_design(formula, data, **kwargs)


# Against R


@pytest.mark.parametrize("case", R["fixed"], ids=lambda case: case["terms"])
def test_fixed_columns_equal_r(case, frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RankWarning)
        design = build_design(f"y ~ {case['terms']} + (1 | s)", frame)
    expected = np.array(case["X"], float).reshape(36, -1)
    assert_allclose(design.X, expected, rtol=1e-9, atol=1e-10)
    assert list(design.x_names) == np.atleast_1d(case["names"]).tolist()


@pytest.mark.parametrize("case", R["random"], ids=lambda case: case["bars"])
def test_random_columns_equal_lme4(case, frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DesignWarning)
        # Unequal weights lift the check that groups repeat, as the R script does.
        design = build_design(f"y ~ x + {case['bars']}", frame, weights=np.arange(1.0, 37))
    ours = {t.group: t for t in design.terms}
    # lme4 writes c:(b:a) where c:b:a is meant.
    levels = {k.replace("(", "").replace(")", ""): v for k, v in case["levels"].items()}
    assert {k: list(t.levels) for k, t in ours.items()} == levels
    counts = [len(t.levels) for t in design.terms]
    assert counts == sorted(counts, reverse=True)
    groups = [case["groups"]] if isinstance(case["groups"], str) else case["groups"]
    for group, columns, Zt in zip(groups, case["columns"], case["Zt"], strict=True):
        term = ours[group.replace("(", "").replace(")", "")]
        columns = [columns] if isinstance(columns, str) else columns
        at = [term.columns.index(c) for c in columns]
        # lme4's Z' has a row for each level and column, columns fastest.
        dense = np.zeros((len(term.levels), len(at), 36))
        dense[term.index, :, np.arange(36)] = term.Z[:, at]
        assert_allclose(dense.reshape(-1, 36), np.array(Zt), rtol=1e-9, atol=1e-10)


def test_blocks():
    data = _r_frame()
    cases = {
        "(x | s)": (("(Intercept)", "x"), (2,)),
        "(x || s)": (("(Intercept)", "x"), (1, 1)),
        "(1 | s) + (0 + x | s)": (("(Intercept)", "x"), (1, 1)),
        "(x | s) + (0 + h | s)": (("(Intercept)", "x", "hu", "hw"), (2, 2)),
        "(f || s)": (("(Intercept)", "fmid", "fhi"), (1, 1, 1)),
        "(0 + f || s)": (("flo", "fmid", "fhi"), (1, 1, 1)),
        "(0 + f | s)": (("flo", "fmid", "fhi"), (3,)),
    }
    for bars, (columns, blocks) in cases.items():
        (term,) = _build(f"y ~ x + {bars}", data).terms
        assert (term.columns, term.blocks) == (columns, blocks), bars
        assert term.Z.shape == (36, len(columns))
        assert term.Z.dtype == np.float64
        assert term.index.dtype == np.int32


def test_terms_know_their_columns(frame):
    coding = _build("y ~ f * h + x + (1 | s)", frame).coding
    assert coding.term_names == ("f", "h", "x", "f:h")
    assert coding.term_factors == (("f",), ("h",), ("x",), ("f", "h"))
    assert coding.assign == (0, 1, 1, 2, 3, 4, 4)
    assert coding.has_intercept
    assert coding.levels["f"] == ("lo", "mid", "hi")
    assert coding.numeric == {"x", "y"}


# The plain path against formulaic's


@pytest.mark.parametrize(
    "terms",
    ["x", "x + z", "0 + x", "f", "0 + f", "x + f + h", "0 + x + h + f", "0 + f + x", "b + x", "1"],
)
def test_plain_path_equals_formulaic(terms, frame, monkeypatch):
    import lmmjax.coding as coding

    frame["b"] = frame["x"] > 1
    formula = f"y ~ {terms} + ({terms} | s)"
    plain = _build(formula, frame, weights=np.arange(1.0, 37))
    assert plain.coding.fixed.structure is None
    monkeypatch.setattr(coding, "plain_terms", lambda text: None)
    other = _build(formula, frame, weights=np.arange(1.0, 37))
    assert other.coding.fixed.structure is not None
    assert_array_equal(plain.X, other.X)
    assert_array_equal(plain.terms[0].Z, other.terms[0].Z)
    for name in ("names", "assign", "term_names", "term_factors"):
        assert getattr(plain.coding.fixed, name) == getattr(other.coding.fixed, name)
    assert plain.coding.assign == other.coding.assign
    assert plain.terms[0].columns == other.terms[0].columns


def test_plain_models_need_no_pandas():
    code = (
        "import sys, numpy as np\n"
        "from lmmjax.design import build_design\n"
        "n = np.arange(12.0)\n"
        "data = dict(y=n**2, x=n % 5, g=np.repeat([3, 1, 2], 4))\n"
        "d = build_design('y ~ x + (x | g)', data)\n"
        "d.coding.new_data(data)\n"
        "print([m for m in ('pandas', 'formulaic', 'narwhals', 'scipy') if m in sys.modules])\n"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.strip()
    # jax itself brings parts of scipy.
    assert loaded in ("[]", "['scipy']")


# Columns


def test_levels_keep_their_order():
    values = ["b", "a", "c", "b", "a", "c", "b", "a"]
    data = {"y": np.arange(8.0), "x": np.arange(8.0) % 3}
    kinds = {
        "text": (values, ("a", "b", "c")),
        "object": (pd.Series(values, dtype=object), ("a", "b", "c")),
        "categorical": (pd.Categorical(values, categories=["c", "d", "b", "a"]), ("c", "b", "a")),
        "ordered": (pd.Categorical(values, ["c", "b", "a"], ordered=True), ("c", "b", "a")),
        "integers": (np.array([10, 9, 100, 10, 9, 100, 10, 9]), ("9", "10", "100")),
        "far integers": (np.array([10, 9, 10**12] * 2 + [10, 9]), ("9", "10", str(10**12))),
        "negative": (np.array([-1, 2, 0, -1, 2, 0, -1, 2], np.int8), ("-1", "0", "2")),
        "floats": (np.array([1.5, 1.0, 2.0, 1.5, 1.0, 2.0, 1.5, 1.0]), ("1", "1.5", "2")),
        "booleans": (np.array([True, False] * 4), ("FALSE", "TRUE")),
        "nullable": (pd.array([3, 1, 2, 3, 1, 2, 3, 1], dtype="Int64"), ("1", "2", "3")),
        "mixed": (pd.Series([1, "a", 2, 1, "a", 2, 1, "a"], dtype=object), ("1", "2", "a")),
        "dates": (np.array(["2020-01-02", "2020-01-01"] * 4, "datetime64[D]"), None),
    }
    for kind, (group, levels) in kinds.items():
        term = _build("y ~ x + (1 | g)", {**data, "g": group}).terms[0]
        if levels is not None:
            assert term.levels == levels, kind
        else:
            assert len(term.levels) == 2
        column = pd.Series(group)
        labels = np.array(term.levels)[term.index]
        assert (pd.Series(labels).groupby(column.to_numpy()).nunique() == 1).all(), kind


def test_factor_columns_keep_their_order_too(frame):
    frame["o"] = pd.Categorical(frame["f"], ["hi", "unused", "lo", "mid"], ordered=True)
    frame["t"] = frame["f"].astype(str)
    frame["b"] = frame["h"] == "w"
    design = _build("y ~ o + b + (1 | s)", frame)
    assert design.x_names == ("(Intercept)", "olo", "omid", "bTRUE")
    assert _build("y ~ t + (1 | s)", frame).x_names == ("(Intercept)", "tlo", "tmid")
    assert _build("y ~ factor(z) + (1 | s)", frame).x_names[1:] == ("factor(z)4", "factor(z)9")
    # A boolean is a number inside an expression.
    assert_array_equal(_build("y ~ I(b * 2) + (1 | s)", frame).X[:, 1], 2.0 * frame["b"])


def test_contrasts(frame):
    names = ["contr.sum", "sum", "contr.helmert", "contr.poly", "contr.treatment", "contr.diff"]
    reference = _build("y ~ f * x + (1 | s)", frame).X
    for name in names:
        design = _build("y ~ f * x + (1 | s)", frame, contrasts={"f": name})
        # Other columns, the same space.
        fit, *_ = np.linalg.lstsq(design.X, reference, rcond=None)
        assert_allclose(design.X @ fit, reference, atol=1e-10)
    design = _build("y ~ f + (1 | s)", frame, contrasts={"f": "contr.sum"})
    codes = frame["f"].cat.codes.to_numpy()
    assert_array_equal(design.X[:, 1:], np.array([[1, 0], [0, 1], [-1, -1]])[codes])
    assert_array_equal(design.X, _build("y ~ C(f, contr.sum) + (1 | s)", frame).X)
    matrix = np.array([[0.5, 0], [-0.5, 1], [0, -1]])
    design = _build("y ~ f + (1 | s)", frame, contrasts={"f": matrix})
    assert_array_equal(design.X[:, 1:], matrix[codes])
    new = design.coding.new_data(frame.iloc[[5, 0]])
    assert_array_equal(new.X, design.X[[5, 0]])
    for contrasts, message in [
        ({"f": "contr.nope"}, "no contrasts named 'contr.nope'"),
        ({"x": "contr.sum"}, "'x', which is numeric"),
        ({"ff": "contr.sum"}, "no column 'ff'"),
        ({"f": np.ones((5, 2))}, "contrasts do not fit"),
    ]:
        with pytest.raises(DataError, match=message):
            build_design("y ~ f + x + (1 | s)", frame, contrasts=contrasts)
    with pytest.raises(DataError, match="contrasts must map names"):
        build_design("y ~ f + x + (1 | s)", frame, contrasts="contr.sum")


def test_contrasts_concern_the_fixed_effects(frame):
    default = _build("y ~ f + (f || s)", frame)
    design = _build("y ~ f + (f || s)", frame, contrasts={"f": "contr.sum"})
    assert design.x_names == ("(Intercept)", "f1", "f2")
    # As lme4: getME(lmer(y ~ f + (f | s), d, contrasts = list(f = "contr.sum")), "cnms")
    assert design.terms[0].columns == ("(Intercept)", "fmid", "fhi")
    assert_array_equal(design.terms[0].Z, default.terms[0].Z)
    new = design.coding.new_data(frame.iloc[::-1])
    assert_array_equal(new.X, design.X[::-1])
    assert_array_equal(new.terms[0].Z, design.terms[0].Z[::-1])
    # What a bar itself asks for is done.
    bar = _build("y ~ f + (C(f, contr.sum) | s)", frame).terms[0]
    assert bar.columns == ("(Intercept)", "C(f, contr.sum)1", "C(f, contr.sum)2")
    assert_array_equal(bar.Z, design.X)
    # R names the variable of a model frame, which may be a call.
    called = _build("y ~ factor(z) + (1 | s)", frame, contrasts={"factor(z)": "contr.sum"})
    assert called.x_names[1:] == ("factor(z)1", "factor(z)2")


@pytest.mark.parametrize("name", ["h", "s"])
def test_contrasts_of_no_fixed_effect_are_ignored_aloud(name, frame):
    # R: "variable 'h' is absent, its contrast will be ignored".
    with pytest.warns(DesignWarning, match=f"{name!r}, which is not among the fixed") as caught:
        design = build_design("y ~ f + (h | s)", frame, contrasts={name: "contr.sum"})
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not design.coding.contrasts


def test_offset_and_weights(frame):
    w = np.linspace(1, 2, 36)
    frame["w"], frame["o"] = w, frame["x"] * 2
    base = _build("y ~ x + (1 | s)", frame)
    assert_array_equal(base.weights, np.ones(36))
    assert_array_equal(base.offset, np.zeros(36))
    for given in ("w", w, list(w), pd.Series(w, index=range(100, 136))):
        assert_array_equal(_build("y ~ x + (1 | s)", frame, weights=given).weights, w)
    both = _build("y ~ x + offset(log(x + 3)) + offset(o) + (1 | s)", frame, offset="w")
    assert_allclose(both.offset, np.log(frame["x"] + 3) + frame["o"] + w)


def test_transformed_response(frame):
    frame["my y"] = frame["y"]
    cases = {
        "log(y)": np.log(frame["y"]),
        "y / 10 + 1": frame["y"] / 10 + 1,
        "I(y^2)": frame["y"] ** 2,
        "`my y`": frame["y"],
        "log(`my y`)": np.log(frame["y"]),
        "scale(y)": (frame["y"] - frame["y"].mean()) / frame["y"].std(),
    }
    for response, expected in cases.items():
        design = _build(f"{response} ~ x + (1 | s)", frame)
        assert_allclose(design.y, expected)
        assert design.y_name == parse(f"{response} ~ (1 | s)").response
        y = design.coding.new_data(frame.iloc[:3], need_response=True).y
        assert_allclose(y, expected[:3])


def test_column_names_in_backquotes(frame):
    frame = frame.rename(columns={"x": "reaction time (ms)", "s": "the school", "f": "in"})
    design = _build("y ~ `reaction time (ms)` * `in` + log(`reaction time (ms)` + 3) + "
                    "(`reaction time (ms)` || `the school`)", frame)  # fmt: skip
    assert design.x_names[1] == "reaction time (ms)"
    assert design.x_names[-1] == "reaction time (ms):inhi"
    assert design.terms[0].group == "the school"
    frame.columns = [f"{c}.a" if c in "yzh" else c for c in frame.columns]
    design = _build("y.a ~ log(z.a) + z.a + h.a + (1 | cl)", frame)
    assert design.x_names == ("(Intercept)", "log(z.a)", "z.a", "h.aw")


def test_columns_named_like_functions(frame):
    frame = frame.rename(columns={"x": "exp", "f": "C"})
    design = _build("y ~ exp * C + log(z) + (1 | s)", frame)
    assert design.x_names[:5] == ("(Intercept)", "exp", "Cmid", "Chi", "log(z)")


# Frames


def _same(one: Design, other: Design) -> None:
    assert_array_equal(one.X, other.X)
    assert_array_equal(one.y, other.y)
    assert one.x_names == other.x_names
    assert_array_equal(one.row_index, other.row_index)
    for a, b in zip(one.terms, other.terms, strict=True):
        assert a.levels == b.levels
        assert_array_equal(a.index, b.index)
        assert_array_equal(a.Z, b.Z)


FORMULA = "y ~ x * f + h + poly(z, 2) + (x | g) + (1 | s:cl)"


def _holes(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    frame.loc[3, "y"] = np.nan
    frame.loc[7, "h"] = None
    frame.loc[20, "x"] = np.nan
    frame.loc[30, "s"] = None
    return frame


@pytest.mark.parametrize("holes", [False, True])
def test_every_frame_gives_one_design(holes, frame):
    pl = pytest.importorskip("polars")
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("narwhals")
    frame = _holes(frame) if holes else frame
    expected = build_design(FORMULA, frame)
    assert expected.n_dropped == (4 if holes else 0)
    enum = pl.Enum(R["levels"]["f"])
    polars = pl.from_pandas(frame.assign(f=frame["f"].astype(str))).with_columns(
        pl.col("f").cast(enum)
    )
    arrow = (
        pa.table(frame.assign(f=frame["f"]), schema=None) if False else pa.Table.from_pandas(frame)
    )
    frames = {
        "dict of series": dict(frame.items()),
        "dict of lists": {k: (frame[k] if k == "f" else frame[k].tolist()) for k in frame},
        "shuffled index": frame.set_index(np.arange(36)[::-1]),
        "nullable": frame.convert_dtypes(),
        "object": frame.astype({"h": object, "s": object}),
        "polars": polars,
        "dict of polars": {k: polars[k] for k in polars.columns},
        "arrow": arrow,
    }
    for kind, data in frames.items():
        _same(expected, build_design(FORMULA, data)), kind
    new = [expected.coding.new_data(d, allow_new_levels=True).X for d in (frame, polars, arrow)]
    assert_allclose(new[1], new[0])
    assert_allclose(new[2], new[0])


def test_polars_categories_are_sorted(frame):
    pl = pytest.importorskip("polars")
    pytest.importorskip("narwhals")
    data = pl.from_pandas(frame.assign(f=frame["f"].astype(str)))
    data = data.with_columns(pl.col("f").cast(pl.Categorical), pl.col("h") == "w")
    assert _build("y ~ f + h + (1 | s)", data).x_names == ("(Intercept)", "flo", "fmid", "hTRUE")
    with pytest.raises(DataError, match="collect"):
        build_design("y ~ x + (1 | s)", data.lazy())


def test_without_narwhals(frame, monkeypatch):
    pl = pytest.importorskip("polars")
    data = pl.DataFrame({"y": [1.0]})
    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(DataError, match="narwhals"):
        build_design("y ~ (1 | g)", data)
    _build("y ~ x + (1 | s)", frame)


def test_small_integers_do_not_wrap(frame):
    frame["k"] = np.array([100, 120, 127] * 12, np.int8)
    frame["v"] = np.array([1, 2, 3] * 12, np.uint8)
    X = _build("y ~ I(k * 2) + I(v - 5) + (1 | s)", frame).X
    assert X[1].tolist() == [1, 240, -3]


# Missing values


def test_rows_with_missing_values_are_dropped(frame):
    base = _build(FORMULA, frame)
    used = ["y", "x", "f", "h", "z", "g", "s", "cl"]
    for row, name in enumerate(used):
        data = frame.copy()
        data[name] = (
            data[name].astype(object if name != "f" else None) if name == "s" else data[name]
        )
        data.loc[row, name] = None
        design = _build(FORMULA, data)
        assert design.n_dropped == 1
        assert_array_equal(design.row_index, np.delete(np.arange(36), row))
        assert_allclose(design.y, np.delete(base.y, row))
        assert_allclose(design.X[:, 1], np.delete(base.X[:, 1], row))
        with pytest.raises(DataError, match=f"missing values, in '{name}' \\(1\\)"):
            build_design(FORMULA, data, na_action="error")
    frame["unused"] = np.nan
    assert _build("y ~ x + (1 | s)", frame).n_dropped == 0
    w = np.ones(36)
    w[5] = np.nan
    assert _build("y ~ x + (1 | s)", frame, weights=w).n_dropped == 1
    assert _build("y ~ x + (1 | s)", frame, offset=w).n_dropped == 1
    assert _build("y ~ x + offset(unused) + (1 | s)", frame.assign(unused=w)).n_dropped == 1


def test_levels_lost_with_missing_rows(frame):
    frame.loc[frame["f"] == "mid", "y"] = np.nan
    frame.loc[frame["s"] == "S1", "x"] = np.nan
    design = _build("y ~ x + f + (1 | s)", frame)
    assert design.x_names == ("(Intercept)", "x", "fhi")
    assert design.terms[0].levels == ("S2", "S3")


def test_transforms_see_the_rows_that_are_analysed(frame):
    frame.loc[0, "y"] = np.nan
    X = _build("y ~ scale(x) + (1 | s)", frame).X
    assert_allclose(X[:, 1].mean(), 0, atol=1e-14)


def test_rows_where_a_transform_gives_no_number(frame):
    with pytest.warns(DesignWarning, match="dropped where '1 \\+ log\\(x\\)'") as caught:
        design = build_design("y ~ log(x) + (1 | g)", frame)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert design.n_dropped == int((frame["x"] < 0).sum()) > 0
    assert_array_equal(design.row_index, np.flatnonzero(frame["x"] > 0))
    assert len(design.terms[0].index) == design.n
    with pytest.raises(DataError, match="gives no number in"):
        build_design("y ~ log(x) + (1 | g)", frame, na_action="error")
    with pytest.raises(DataError, match="gives no number in 36 of 36"):
        build_design("y ~ log(-10 - x) + (1 | g)", frame)


# Rank


def test_dependent_columns_are_dropped(frame):
    frame["x2"] = 3 * frame["x"] - 2
    frame["k"] = 7.0
    with pytest.warns(RankWarning, match="'k', 'x2'") as caught:
        design = build_design("y ~ x + k + x2 + f + (1 | s)", frame)
    assert len(caught) == 1
    assert design.dropped_columns == ("k", "x2")
    assert design.x_names == ("(Intercept)", "x", "fmid", "fhi")
    assert design.coding.assign == (0, 1, 4, 4)
    assert_array_equal(design.coding.new_data(frame).X, design.X)
    assert np.linalg.matrix_rank(design.X) == design.p
    with pytest.warns(RankWarning, match="a column is|is a combination"):
        build_design("y ~ x + I(x * 2) + (1 | s)", frame)


@pytest.mark.parametrize("shift", [0, 1e6, 1e8])
@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_a_large_mean_is_not_dependence(shift, scale, frame):
    frame["v"] = scale * (frame["x"] + shift)
    frame["z"] = scale * frame["z"]
    assert _build("y ~ v + (1 | s)", frame).x_names == ("(Intercept)", "v")
    assert _build("y ~ v + z + f + (1 | s)", frame).p == 5
    # But a column that only repeats another one's is, whatever its mean.
    frame["u"] = frame["v"] * 2
    with pytest.warns(RankWarning, match="'u'"):
        build_design("y ~ v + u + (1 | s)", frame)


def test_an_empty_cell_is_dropped(frame):
    frame = frame[~((frame["f"] == "hi") & (frame["h"] == "w"))]
    with pytest.warns(RankWarning, match="'fhi:hw'"):
        assert build_design("y ~ f * h + (1 | s)", frame).p == 5


# New data


@pytest.mark.parametrize(
    "terms",
    ["x", "f", "poly(x, 3)", "bs(x, df=5)", "cr(x, df=4)", "scale(x) * f", "center(x) + z",
     "C(z) * h", "factor(z) + relevel(f, 'hi')", "C(f, contr.sum) * x", "I(x**2) + np.exp(x)",
     "dummy(f, 'mid') + ifelse(x > 1, 1, 0)", "0 + f + x", "f:h"],
)  # fmt: skip
def test_new_data_are_coded_identically(terms, frame):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LmmWarning)
        design = build_design(f"y ~ {terms} + ({terms} | s)", frame, weights=np.arange(1.0, 37))
    # Two rows hold a part of every factor's levels, and another mean and range than the whole.
    for rows in ([3, 10], [35], list(range(36))):
        part = frame.iloc[rows].drop(columns="y")
        part["f"] = part["f"].astype(str)  # the order of levels is the fit's, not the new data's
        new = design.coding.new_data(part)
        assert_allclose(new.X, design.X[rows], rtol=1e-12, atol=1e-13)
        assert_allclose(new.terms[0].Z, design.terms[0].Z[rows], rtol=1e-12, atol=1e-13)
        assert_array_equal(new.terms[0].index, design.terms[0].index[rows])
        assert new.y is None
    # A coding survives the trip to another process.
    again = pickle.loads(pickle.dumps(design)).coding.new_data(frame)
    assert_allclose(again.X, design.X)


def test_new_groups(frame):
    design = _build("y ~ x + (x | s:cl) + (1 | g)", frame)
    new = frame.iloc[:5].copy()
    same = design.coding.new_data(new)
    for ours, theirs in zip(same.terms, design.terms, strict=True):
        assert ours.group == theirs.group
        assert_array_equal(ours.index, theirs.index[:5])
    new["s"] = ["S1", "S9", None, "S3", "S2"]
    new["cl"] = [1, 1, 1, 99, 2]
    with pytest.raises(DataError, match=r"'s:cl' has levels .* 'S9:1', 'missing:1', 'S3:99'"):
        design.coding.new_data(new)
    allowed = design.coding.new_data(new, allow_new_levels=True)
    index = {t.group: t.index for t in allowed.terms}["s:cl"]
    levels = {t.group: t.levels for t in design.terms}["s:cl"]
    assert [levels[i] if i >= 0 else None for i in index] == ["S1:1", None, None, None, "S2:2"]
    assert len(allowed.row_index) == 5
    # Labels are compared as text, as R does: "10" finds the group 10.
    text = frame.assign(g=frame["g"].astype(str), cl=frame["cl"].astype(float))
    index = design.coding.new_data(text).terms
    for ours, theirs in zip(index, design.terms, strict=True):
        assert_array_equal(ours.index, theirs.index)


def test_new_data_without_groups(frame):
    design = _build("y ~ x + (z | s)", frame)
    new = design.coding.new_data({"x": [1.0, np.nan, 3.0]}, random=False)
    assert new.X.tolist() == [[1, 1], [1, 3]]
    assert new.row_index.tolist() == [0, 2]
    assert (new.n_rows, new.terms) == (3, ())
    only = _build("y ~ 1 + (1 | s)", frame).coding.new_data(frame[["x"]], random=False)
    assert only.X.shape == (36, 1)


def test_new_offsets(frame):
    frame["o"] = frame["x"] + 1
    new = frame.iloc[:4]
    by_name = _build("y ~ z + (1 | s)", frame, offset="o").coding
    assert_allclose(by_name.new_data(new).offset, new["o"])
    in_formula = _build("y ~ z + offset(2 * o) + (1 | s)", frame).coding
    assert_allclose(in_formula.new_data(new).offset, 2 * new["o"])
    by_array = _build("y ~ z + (1 | s)", frame, offset=frame["o"].to_numpy()).coding
    with pytest.raises(DataError, match="give the offset of the new rows"):
        by_array.new_data(new)
    assert_allclose(by_array.new_data(new, offset=np.ones(4)).offset, 1)
    with pytest.raises(DataError, match="3 values for 4 rows"):
        by_array.new_data(new, offset=np.ones(3))


def test_new_data_that_do_not_fit(frame):
    design = _build("y ~ x + f + factor(z) + (1 | s)", frame)
    cases = [
        ({"f": ["lo", "no", "hi"]}, "factor 'f' has levels that the fit did not see: 'no'"),
        ({"z": [4, 5, 6]}, "factor 'factor\\(z\\)' has levels .* '5', '6'"),
        ({"x": ["a", "b", "c"]}, "'x' was numeric when the model was fitted"),
        ({"x": [1, 2, np.inf]}, "'x' has 1 infinite value.* row 2"),
    ]
    for change, message in cases:
        with pytest.raises(DataError, match=message):
            design.coding.new_data(frame.iloc[:3].assign(**change))
    with pytest.raises(DataError, match="no column 'f'"):
        design.coding.new_data(frame.drop(columns="f"))
    plain = _build("y ~ x + f + (1 | s)", frame)
    with pytest.raises(DataError, match="factor 'f' has levels that the fit did not see: 'no'"):
        plain.coding.new_data(frame.iloc[:1].assign(f="no"))


# What is refused


def _with(**changes):
    return lambda frame: frame.assign(**changes)


REFUSED = {
    "unknown column": ("Reacton ~ x + (1 | s)", _with(Reaction=1.0), "did you mean 'Reaction'"),
    "unknown in call": ("y ~ log(xx) + (1 | s)", None, "no column 'xx'"),
    "unknown group": ("y ~ x + (1 | S)", None, "no column 'S' in the data: did you mean 's'"),
    "unknown, nothing close": ("y ~ qqqq + (1 | s)", None, "the columns are 'y', 'x'"),
    "text response": ("s ~ x + (1 | g)", None, "'s' is not numeric .* 'S2'"),
    "factor response": ("f ~ x + (1 | g)", None, "'f' is not numeric \\(dtype category"),
    "text in response": ("log(s) ~ x + (1 | g)", None, "'s' is not numeric"),
    "bool response": ("b ~ x + (1 | s)", lambda d: d.assign(b=d["x"] > 0), "'b' is boolean"),
    "bool in response": ("I(y > 10) ~ x + (1 | s)", None, "'I\\(y > 10\\)' is true or false"),
    "complex response": ("c ~ x + (1 | s)", _with(c=np.arange(36) * 1j), "'c' holds complex"),
    "date response": (
        *("c ~ x + (1 | s)", _with(c=pd.date_range("2020-01-01", periods=36))),
        "'c' holds datetime",
    ),
    "object response": (
        "c ~ x + (1 | s)",
        _with(c=pd.Series(range(36), dtype=object)),
        "to_numeric",
    ),
    "date predictor": (
        *("y ~ c + (1 | s)", _with(c=pd.date_range("2020-01-01", periods=36, tz="UTC"))),
        "'c' holds datetime data",
    ),
    "complex predictor": ("y ~ c + (1 | s)", _with(c=np.arange(36) * 1j), "'c' holds complex data"),
    "object predictor": ("y ~ c + (1|s)", _with(c=pd.Series(range(36), dtype=object)), r"\(int\)"),
    "infinite response": (
        "y ~ x + (1 | s)",
        _with(y=[1.0] * 7 + [np.inf] * 29),
        "'y' has 29 .* row 7",
    ),
    "infinite predictor": ("y ~ x + (1 | s)", _with(x=[1.0, -np.inf] * 18), "18 .*-inf.* row 1"),
    "infinite transform": (
        "y ~ log(c) + (1 | s)",
        _with(c=[0.0, 1, 2] * 12),
        "'log\\(c\\)' is -inf",
    ),
    "infinite log response": (
        "log(c) ~ (1 | s)",
        _with(c=[3.0, 0, 2] * 12),
        "'log\\(c\\)' is -inf at row 1",
    ),
    "empty": ("y ~ x + (1 | s)", lambda d: d.iloc[:0], "no rows"),
    "all missing": (
        "y ~ x + (1 | s)",
        _with(x=np.nan),
        "no row is complete: all 36 .* 'x' \\(36\\)",
    ),
    "no variance": ("y ~ x + (1 | s)", _with(y=3.5), "no variance: it is 3.5 in all 36"),
    "one level": ("y ~ x + (1 | s)", _with(s="a"), "'s' has one level \\('a'\\)"),
    "as many levels as rows": ("y ~ x + (1 | c)", _with(c=range(36)), "36 levels in 36 rows"),
    "as many effects as rows": (
        *("y ~ x + (f | c)", _with(c=np.arange(36) // 3)),
        "36 random effects \\(12 levels x 3 columns",
    ),
    "one-level factor": ("y ~ x + c + (1 | s)", _with(c="k"), "'c' has one level \\('k'\\)"),
    "one-level call": (
        "y ~ x:h + factor(c) + (1 | s)",
        _with(c=1),
        "'factor\\(c\\)' has one level",
    ),
    "duplicate columns": (
        *("y ~ x + (1 | s)", lambda d: pd.concat([d, d[["x"]]], axis=1)),
        "2 columns named 'x'",
    ),
    "too few rows": ("y ~ x + f + z + (1 | h)", lambda d: d.iloc[:5], "5 complete rows for 5"),
    "unknown function": ("y ~ foo(x) + (1 | s)", None, "foo"),
    "wrong arguments": ("y ~ bs(x, df=1) + (1 | s)", None, "cannot compute"),
    "text in arithmetic": ("y ~ log(f) + (1 | s)", None, "cannot compute"),
    "column twice": (
        "y ~ x + (1 | s) + (x | s)",
        None,
        "'s' has the column '\\(Intercept\\)' in two",
    ),
    "no reference": ("y ~ relevel(f, 'q') + (1 | s)", None, "no level 'q'"),
    "text offset": ("y ~ x + offset(h) + (1 | s)", None, "'h' is not numeric .* row 0 holds 'u'"),
    "missing values as text": (
        "c ~ x + (1 | s)",
        _with(c=["1.5", "2", "n/a"] * 12),
        "row 2 holds 'n/a'.* na_values=\\['n/a'\\].*--na-values n/a",
    ),
    "mixed types": (
        "c ~ x + (1 | s)",
        _with(c=pd.Series([1, 2, "n/a"] * 12, dtype=object)),
        "'c' is not numeric \\(dtype object \\(int, str\\)\\): row 2 holds 'n/a'",
    ),
    "several stand-ins": (
        "c ~ x + (1 | s)",
        _with(c=["1.5", "n/a", "(none)"] * 12),
        r"row 1 holds 'n/a'.*--na-values n/a --na-values '\(none\)'|--na-values '\(none\)' --na",
    ),
    "thousands": (
        "c ~ x + (1 | s)",
        _with(c=["1.234,5", "2", "3,25"] * 12),
        r"decimal=',', thousands='\.'\).*--decimal , --thousands \.\)",
    ),
    "decimal commas": (
        "c ~ x + (1 | s)",
        _with(c=["1,5", "2", "3,25"] * 12),
        "row 0 holds '1,5', with a decimal comma: .*decimal=','.*--decimal ,",
    ),
    "lists": ("y ~ c + (1 | s)", _with(c=[[1]] * 36), "'c' holds object \\(list\\) values"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_data(case, frame):
    formula, change, message = REFUSED[case]
    data = frame if change is None else change(frame)
    with pytest.raises((DataError, FormulaError), match=message):
        build_design(formula, data)


WEIGHTS = np.ones(36)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.where(np.arange(36) == 4, 0, WEIGHTS), "must be positive .* \\(0\\) at row 4"),
        (-WEIGHTS, "36 are not, the first \\(-1\\) at row 0"),
        (np.where(np.arange(36) == 4, np.inf, WEIGHTS), "\\(inf\\) at row 4"),
        (WEIGHTS[:30], "30 values for 36 rows"),
        (1.0, "a single value"),
        (np.ones((36, 1)), "shape \\(36, 1\\)"),
        (["a"] * 36, "must be numeric"),
        ("nope", "no column 'nope'"),
        ("h", "weights 'h' must be numeric"),
    ],
)
def test_refused_weights(weights, message, frame):
    with pytest.raises(DataError, match=message):
        build_design("y ~ x + (1 | s)", frame, weights=weights)


@pytest.mark.parametrize(
    "data", [None, 3, "y", [1, 2], np.ones((3, 3)), pd.Series([1, 2]), {"y": 1.0, "x": 2, "s": 3}]
)
def test_refused_frames(data):
    with pytest.raises(DataError):
        build_design("y ~ x + (1 | s)", data)


def test_columns_of_different_lengths():
    data = {"y": np.arange(5.0), "x": np.arange(4.0), "g": np.arange(5)}
    with pytest.raises(DataError, match="'x' has 4 rows, those before it 5"):
        build_design("y ~ x + (1 | g)", data)


def test_unequal_weights_separate_the_variances(frame):
    frame["study"] = range(36)
    design = _build("y ~ x + (1 | study)", frame, weights=np.linspace(1, 5, 36))
    assert len(design.terms[0].levels) == 36
    with pytest.raises(DataError, match="36 levels in 36 rows"):
        build_design("y ~ x + (1 | study)", frame, weights=np.full(36, 2.0))


def test_each_block_of_a_double_bar_is_counted_alone(frame):
    frame["c"] = np.arange(36) // 3
    _build("y ~ x + (f || c)", frame)


def test_a_structure_may_have_as_many_effects_as_there_are_rows():
    # An autoregression over 10 days is told from the residual variance by its correlations (the
    # fit is a row of tests/peers); free variances of as many effects are not.
    frame = lj.datasets.load("sleepstudy")
    frame["day"] = frame["Days"].astype(str)
    formula = "Reaction ~ 1 + (0 + day | Subject)"
    assert lj.build_design(formula, frame, structured=["Subject"]).terms[0].Z.shape == (180, 10)
    for covariance in (None, {"Subject": lj.covariance.Unstructured}):
        with pytest.raises(DataError, match="180 random effects"):
            lj.lmm(formula, frame, covariance=covariance)
    one_each = {"y": [1.0, 2.0, 4.0], "g": ["a", "b", "c"]}
    with pytest.raises(DataError, match="3 levels in 3 rows"):
        lj.lmm("y ~ 1 + (1 | g)", one_each, covariance={"g": lj.covariance.Identity})


# Warnings


def test_a_slope_that_varies_within_no_group(frame):
    frame["v"] = frame["g"] ** 0.5
    for bars in ("(v | g)", "(v || g)", "(0 + v | g)", "(1 | g) + (0 + v | g)"):
        with pytest.warns(
            DesignWarning, match="do not vary within any group: 'v' within 'g'"
        ) as caught:
            build_design(f"y ~ x + {bars}", frame)
        assert len(caught) == 1
        assert caught[0].filename == __file__
    # A variance for each kind of group is meant here.
    frame["kind"] = np.where(frame["g"] > 5, "a", "b")
    _build("y ~ x + (0 + kind | g)", frame)
    _build("y ~ x + (x | g)", frame)


def test_scales_far_apart(frame):
    frame["income"] = frame["z"] * 1e7
    with pytest.warns(ScaleWarning, match="'income' spans 8.0e\\+07") as caught:
        build_design("y ~ x + income + f + (1 | s)", frame)
    assert len(caught) == 1
    _build("y ~ income + f + (1 | s)", frame)


def test_no_fixed_effects(frame):
    design = _build("y ~ 0 + (1 | s)", frame)
    assert design.X.shape == (36, 0)
    assert design.x_names == ()
    assert design.coding.new_data(frame).X.shape == (36, 0)


def test_formulas_parsed_before_are_taken(frame):
    spec = parse("y ~ x + (1 | s)")
    design = _build(spec, frame)
    assert design.formula is spec
    with pytest.raises(FormulaError, match="a formula is a string, not int"):
        build_design(3, frame)
    with pytest.raises(DataError, match="na_action must be"):
        build_design(spec, frame, na_action="omit")


def test_repr_is_short(frame):
    assert len(repr(_build("y ~ x + (x | s)", frame))) < 300
