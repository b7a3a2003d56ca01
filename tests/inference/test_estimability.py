"""Where cells are empty, means, joint tests and predictions ask for what the data determine."""

import warnings
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj
from lmmjax.errors import RankWarning

#: With R's emmeans 1.8.4, and emm_options(lmer.df = "satterthwaite"):
#:   k <- 1:240; d <- data.frame(a = factor(c("p","q","r")[k %% 3 + 1]),
#:     b = factor(c("u","v","w")[(k %/% 3) %% 3 + 1]), g = factor((k * 7) %% 12))
#:   d$y <- (k*37 %% 101) %% 17 + as.integer(d$a)*1.3 +
#:     2*as.integer(d$b)*(as.integer(d$a) == 2) + as.integer(d$g)
#:   d <- d[!(d$a == "q" & d$b == "v"), ]; d <- d[-(1:17), ]
#:   joint_tests(lmer(y ~ a * b + (1 | g), d))
#: where emmeans rounds the F ratios from which it computes that of what is confounded (1.5635), and
#: takes the smallest of the single functions' df there (12.2).
CELLS = pd.DataFrame(
    {
        "model term": ["a", "b", "a:b", "(confounded)"],
        "df1": [1, 1, 3, 2],
        "F.ratio": [2.524, 1.509, 1.542, 1.5657],
    }
)


@pytest.fixture(scope="module")
def data():
    k = np.arange(1, 241)
    a, b = k % 3, k // 3 % 3
    frame = pd.DataFrame({"a": np.array(list("pqr"))[a], "b": np.array(list("uvw"))[b]})
    g = k * 7 % 12
    # R's levels of g are in the order of their numbers.
    frame["g"] = [f"g{x:02d}" for x in g]
    frame["y"] = k * (37 % 101) % 17 + (a + 1) * 1.3 + 2.0 * (b + 1) * (a == 1) + g + 1.0
    frame["x"] = k * 11 % 7 * 1e-9
    return frame[~((frame["a"] == "q") & (frame["b"] == "v"))].iloc[17:].reset_index(drop=True)


def fitted(frame, formula="y ~ a * b + (1 | g)"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        return lj.lmm(formula, frame)


@pytest.fixture(scope="module")
def fit(data):
    return fitted(data)


def ordered(frame, a, b):
    return frame.assign(
        a=pd.Categorical(frame["a"], categories=list(a)),
        b=pd.Categorical(frame["b"], categories=list(b)),
    )


def test_joint_tests_take_the_part_that_the_data_determine(fit):
    found = fit.joint_tests()
    table = found.frame
    assert table["model term"].tolist() == CELLS["model term"].tolist()
    assert table["df1"].tolist() == CELLS["df1"].tolist()
    assert_allclose(table["F.ratio"], CELLS["F.ratio"], atol=5e-4)
    assert_allclose(table["df2"][:3], [8.72, 179.02, 179.03], atol=0.01)
    assert "data do not determine" in str(found)
    # Together the rows are all differences between cells that there are: 8 cells, 7 df.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        whole = fit.emmeans("a * b").contrast("eff").test(joint=True).frame.iloc[0]
    assert whole["df1"] == 7 == table["df1"].sum()


def test_joint_tests_do_not_depend_on_the_order_of_levels(data, fit):
    wanted = fit.joint_tests().frame
    whole = fit.emmeans("a").pairs().test(joint=True).frame
    for a in permutations("pqr"):
        for b in ("uvw", "wvu", "vuw"):
            other = fitted(ordered(data, a, b))
            found = other.joint_tests().frame
            assert found["df1"].tolist() == wanted["df1"].tolist()
            for column in ("df2", "F.ratio", "p.value"):
                assert_allclose(found[column], wanted[column], rtol=1e-6)
            again = other.emmeans("a").pairs().test(joint=True).frame
            assert_allclose(again, whole, rtol=1e-6)


def test_joint_tests_do_not_depend_on_units(data):
    formula = "y ~ a * b + a * x + (1 | g)"
    wanted = fitted(data, formula).joint_tests().frame
    assert wanted["model term"].tolist() == ["a", "b", "x", "a:b", "a:x", "(confounded)"]
    assert wanted["df1"].tolist() == [1, 1, 1, 3, 2, 2]
    for unit in (1e-12, 1e9, 1e18):
        found = fitted(data.assign(x=data["x"] * unit), formula).joint_tests().frame
        assert found["df1"].tolist() == wanted["df1"].tolist()
        assert_allclose(found["F.ratio"], wanted["F.ratio"], rtol=1e-6)
        assert_allclose(found["df2"], wanted["df2"], rtol=1e-6)


def test_joint_tests_within_levels(fit):
    table = fit.joint_tests(by="a").frame
    assert table["model term"].tolist() == ["b", "b", "b"]
    assert table["df1"].tolist() == [2, 1, 2]
    # The one level in which a cell is empty: the difference that is left
    u_w = fit.emmeans("b", by="a").contrast({"u - w": {"u": 1, "w": -1}}).frame
    t = u_w["t.ratio"][u_w["a"] == "q"].iloc[0]
    assert_allclose(table["F.ratio"][table["a"] == "q"], t**2, rtol=1e-8)


@pytest.mark.parametrize("include_re", [True, False])
def test_predictions_of_an_empty_cell_are_missing_and_named(data, include_re):
    new = pd.DataFrame({"a": ["p", "q", "q", "r"], "b": ["v", "v", "w", "v"], "g": "g01"})
    new.index = ["one", "two", "three", "four"]
    found = []
    for a, b in (("pqr", "uvw"), ("qrp", "vwu"), ("rqp", "wuv")):
        other = fitted(ordered(data, a, b))
        with pytest.warns(RankWarning, match="at row two: the data") as said:
            found.append(other.predict(new, include_re=include_re, interval="confidence", se=True))
        assert len(said) == 1
        assert found[-1].isna().all(axis=1).tolist() == [False, True, False, False]
        assert_allclose(found[-1], found[0], rtol=1e-7)
        if not include_re:
            means = other.emmeans("a * b").frame.set_index(["a", "b"])["emmean"]
            cells = [means[row] for row in zip(new["a"], new["b"], strict=True)]
            assert_allclose(found[-1]["fit"], cells, rtol=1e-9)
        # Rows that the data determine say nothing.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            other.predict(new.drop(index="two"), include_re=include_re)
            other.predict(include_re=include_re)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_predictions_where_a_copy_is_none(data, unit):
    frame = data.assign(x=data["x"] * 1e9 * unit)
    frame["copy"] = 3.0 * frame["x"] + 2.0 * unit
    fit = fitted(frame, "y ~ x + copy + (1 | g)")
    new = pd.DataFrame({"x": [1.0, 2.0, 2.0], "copy": [5.0, 8.0, 8.01]}) * unit
    with pytest.warns(RankWarning, match="1 of 3"):
        found = fit.predict(new, include_re=False)
    assert found.isna().tolist() == [False, False, True]
    # Slopes of either alone are not to be told from the other's.
    assert fit.emtrends((), "x").frame["x.trend"].isna().all()
