"""Predictions against R's, their standard errors against Henderson's equations by brute force."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from reading_cases import data
from scipy import stats

import lmmjax as lj


def henderson(fit):
    """Inverse of the mixed model equations over (beta, b of every term), times sigma squared.

    ``C = [X'WX  X'WZ; Z'WX  Z'WZ + (Lambda Lambda')^-1 blocks]``, and the design rows' maker.
    """
    design = fit.design
    columns, penalty = [design.X], [np.zeros((design.p, design.p))]
    for term, factor in zip(design.terms, fit.raw.factors, strict=True):
        k, count = len(term.columns), len(term.levels)
        Z = np.zeros((design.n, count, k))
        Z[np.arange(design.n), term.index] = term.Z
        columns.append(Z.reshape(design.n, -1))
        penalty.append(np.kron(np.eye(count), np.linalg.inv(factor @ factor.T)))
    A = np.concatenate(columns, axis=1)
    C = A.T @ (design.weights[:, None] * A)
    at = 0
    for block in penalty:
        own = slice(at, at + len(block))
        C[own, own] += block
        at += len(block)
    return fit.sigma**2 * np.linalg.inv(C), A


CASES = ["weights", "offset", "crossed", "independent", "nested"]


@pytest.fixture
def named(fits, read):
    def get(name):
        if name == "nested":
            return fits("Pastes", "strength ~ 1 + (1 | batch/cask)")
        return read(name)[1]

    return get


@pytest.mark.parametrize("name", CASES)
def test_standard_errors_are_hendersons(name, named):
    fit = named(name)
    cov, A = henderson(fit)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", A, cov, A))
    out = fit.predict(se=True)
    assert list(out.columns) == ["fit", "se"]
    assert_allclose(out["se"], expected, rtol=1e-8)
    assert_allclose(out["fit"], fit.fittedvalues, rtol=1e-12)
    # The population line has beta's part only.
    p = fit.design.p
    fixed = np.sqrt(np.einsum("ij,jk,ik->i", A[:, :p], cov[:p, :p], A[:, :p]))
    assert_allclose(fit.predict(include_re=False, se=True)["se"], fixed, rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "included"),
    [("crossed", "plate"), ("crossed", "sample"), ("nested", "cask:batch"), ("nested", "batch")],
)
def test_some_random_effects_only(name, included, named, fits):
    fit = named(name)
    cov, A = henderson(fit)
    keep = [np.ones(fit.design.p, bool)]
    expected = fit.design.X @ fit.beta
    for term in fit.design.terms:
        on = term.group == included
        keep.append(np.full(len(term.columns) * len(term.levels), on))
        if on:
            effects = fit.ranef()[term.group].to_numpy()[term.index]
            expected = expected + np.sum(term.Z * effects, axis=1)
    rows = A * np.concatenate(keep)
    se = np.sqrt(np.einsum("ij,jk,ik->i", rows, cov, rows))
    # New rows too, and without the columns that are not needed.
    frame = fits.data("Pastes" if name == "nested" else "Penicillin")
    factors = included.split(":")
    for newdata in (None, frame, frame[factors], {f: frame[f].to_numpy() for f in factors}):
        out = fit.predict(newdata, include_re=[included], se=True)
        assert_allclose(out["fit"], expected, rtol=1e-10)
        assert_allclose(out["se"], se, rtol=1e-8)


def test_a_nested_factor_with_labels_of_its_own():
    """Without the outer factor's column in new data an inner level's variance is the same."""
    frame = lj.datasets.load("Pastes")
    frame["sample"] = frame["batch"].astype(str) + frame["cask"].astype(str)
    fit = lj.lmm("strength ~ 1 + (1 | sample) + (1 | batch)", frame)
    whole = fit.predict(include_re="sample", se=True)
    apart = fit.predict(frame[["sample"]], include_re="sample", se=True)
    assert_allclose(apart, whole, rtol=1e-10)


def test_weights_and_new_levels_as_in_r(read):
    ref, fit = read("weights")
    frame = data("cake").iloc[[0, 6, 99, 269]].copy()
    frame["replicate"] = ["1", "99", "3", "15"]
    with pytest.raises(lj.DataError, match=r"levels that the fit did not see: 'B:99'"):
        fit.predict(frame)
    out = fit.predict(frame, allow_new_levels=True, se=True, interval="prediction")
    assert_allclose(out["fit"], ref["new"], rtol=1e-7)
    assert_allclose(fit.predict(frame, include_re=False), ref["new_fixed"], rtol=1e-7)
    # A new level's effect has its whole variance, independently of the estimates.
    x = fit.design.coding.new_data(frame, random=False).X[1]
    variance = x @ fit.vcov.to_numpy() @ x + fit.varcorr["recipe:replicate"][0, 0]
    assert_allclose(out["se"].iloc[1], np.sqrt(variance), rtol=1e-9)
    assert out.index.equals(frame.index)


def test_offset_as_in_r(read):
    ref, fit = read("offset")
    new = pd.DataFrame(
        {"Days": [0, 3.5, 20], "Subject": ["308", "999", "372"], "shift": [1.0, 2.0, 3.0]}
    )
    assert_allclose(fit.predict(new, allow_new_levels=True), ref["new"], rtol=1e-7)
    assert_allclose(fit.predict(new, include_re=False), ref["new_fixed"], rtol=1e-7)


def test_an_offset_given_as_an_array_is_asked_for():
    frame = data("sleepstudy")
    fit = lj.lmm("Reaction ~ Days + (1 | Subject)", frame, offset=frame["shift"].to_numpy())
    with pytest.raises(lj.DataError, match="offset"):
        fit.predict(frame)
    out = fit.predict(frame, offset=frame["shift"].to_numpy(), interval="prediction")
    assert_allclose(out["fit"], fit.fittedvalues, rtol=1e-12)
    population = fit.predict(
        frame, offset=frame["shift"].to_numpy(), interval="prediction", include_re=False
    )
    assert_allclose(population["fit"], fit.marginal_mean, rtol=1e-12)


def test_part_of_the_random_effects_as_in_r(read):
    ref, fit = read("parts")
    frame = data("cake").iloc[[1, 49]]
    assert_allclose(fit.predict(frame), ref["new"], rtol=1e-5)
    some = fit.predict(frame, include_re=["replicate"])
    assert_allclose(some, ref["new_replicate"], rtol=1e-5)


def test_population_interval_agrees_with_the_coefficients(sleep):
    """At Days = 0 the line is the intercept: its interval is the coefficient's."""
    out = sleep.predict({"Days": [0.0]}, include_re=False, interval="confidence", level=0.9)
    assert_allclose(out[["lower", "upper"]].to_numpy()[0], sleep.conf_int(0.9).iloc[0], rtol=1e-12)


def test_prediction_intervals(sleep, read):
    new = {"Days": [2.0, 7.0], "Subject": ["308", "309"]}
    mean = sleep.predict(new, se=True)
    out = sleep.predict(new, interval="prediction", level=0.8)
    half = stats.norm.ppf(0.9) * np.sqrt(mean["se"] ** 2 + sleep.sigma**2)
    assert_allclose(out["upper"] - out["fit"], half, rtol=1e-10)
    assert_allclose(out["fit"] - out["lower"], half, rtol=1e-10)
    # A subject that was not observed: the subjects' variance at that day counts too.
    out = sleep.predict({"Days": [2.0, 7.0]}, include_re=False, interval="prediction", level=0.8)
    G = sleep.varcorr["Subject"]
    z = np.array([[1.0, 2.0], [1.0, 7.0]])
    total = np.sum((z @ (G + sleep.vcov.to_numpy())) * z, axis=1) + sleep.sigma**2
    assert_allclose(out["upper"] - out["fit"], stats.norm.ppf(0.9) * np.sqrt(total), rtol=1e-10)
    # and it is what asking for a new level gives
    asked = sleep.predict(
        {**new, "Subject": ["new", "new"]}, allow_new_levels=True, interval="prediction", level=0.8
    )
    assert_allclose(asked["upper"], out["upper"], rtol=1e-10)
    # weights
    _, weighted = read("weights")
    frame = data("cake").iloc[[1]]
    one = weighted.predict(frame, interval="prediction", se=True)
    two = weighted.predict(frame, interval="prediction", weights="w", se=True)
    z = stats.norm.ppf(0.975)
    for table, w in ((one, 1.0), (two, 2.0)):
        variance = table["se"] ** 2 + weighted.sigma**2 / w
        assert_allclose(table["upper"] - table["fit"], z * np.sqrt(variance), rtol=1e-10)


def test_rows_keep_their_place(sleep):
    new = pd.DataFrame(
        {"Days": [1.0, np.nan, 3.0], "Subject": ["308", "308", "309"]}, index=["a", "b", "c"]
    )
    out = sleep.predict(new, interval="confidence", se=True)
    assert out.index.tolist() == ["a", "b", "c"]
    assert out.loc["b"].isna().all()
    assert out.loc[["a", "c"]].notna().all(axis=None)
    alone = sleep.predict(new.loc[["c"]])
    assert alone.loc["c"] == pytest.approx(out.loc["c", "fit"], rel=1e-12)


def test_frames_of_any_kind(sleep):
    polars = pytest.importorskip("polars")
    pytest.importorskip("narwhals")
    new = {"Days": [0.0, 1.0], "Subject": ["308", "309"]}
    expected = sleep.predict(new, interval="prediction", include_re=False)
    got = sleep.predict(polars.DataFrame(new), interval="prediction", include_re=False)
    pd.testing.assert_frame_equal(got, expected)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"interval": "both"}, "interval must be"),
        ({"level": 95}, "level=0.95"),
        ({"level": 0}, "between 0 and 1"),
        ({"level": "a"}, "must be a number"),
        ({"include_re": "Item"}, "'Item', which is no grouping factor"),
        ({"include_re": 3}, "include_re must be"),
        ({"offset": "Days"}, "give newdata too"),
        ({"newdata": {"Days": [1.0]}}, "no column 'Subject'"),
        (
            {"newdata": {"Days": [1.0], "Subject": ["308"]}, "weights": [1.0, 2.0]},
            "1 numbers",
        ),
        ({"newdata": {"Days": [1.0], "Subject": ["308"]}, "weights": [-1.0]}, "positive"),
    ],
)
def test_wrong_arguments(sleep, arguments, said):
    with pytest.raises(lj.LmmError, match=said):
        sleep.predict(**arguments)
