"""Whole groups drawn, or left out one at a time: beside fits of data frames made of those rows."""

import warnings
from types import SimpleNamespace

import jax
import numpy as np
import pandas as pd
import pytest

import lmmjax as lj
from lmmjax.bootstrap.estimable import estimable
from lmmjax.errors import ConvergenceWarning

N = 40


def drawn_groups(key, n, count):
    """The draws of ``bootstrap(kind="cases")``, by the same generator."""
    seed = np.asarray(jax.random.key_data(jax.random.key(key))).tolist()
    return np.random.default_rng(seed).integers(0, count, (n, count))


def frame_of(df, group, drawn):
    """Rows of the groups drawn; a group drawn twice is two groups."""
    parts = [df[df[group] == name].assign(**{group: f"copy{i}"}) for i, name in enumerate(drawn)]
    return pd.concat(parts, ignore_index=True)


def fitted(formula, df):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        return lj.lmm(formula, df)


@pytest.fixture(scope="module")
def few():
    """Six groups, two of each level of a predictor that is constant within groups."""
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"g": np.repeat([f"g{i}" for i in range(6)], 4)})
    df["arm"] = np.repeat(["u", "u", "v", "v", "w", "w"], 4)
    df["x"] = np.tile(np.arange(4.0), 6)
    df["y"] = rng.normal(size=24) + np.repeat(2 * rng.normal(size=6), 4) + df.x
    return df, lj.lmm("y ~ arm + x + (1 | g)", df)


def test_draws_without_a_level_are_left_out_and_counted(few):
    df, fit = few
    boot = fit.bootstrap(N, "cases", key=1)
    groups = np.array(fit.design.terms[0].levels)[drawn_groups(1, N, 6)]
    arm = df.groupby("g")["arm"].first()
    whole = np.array([len(set(arm[names])) == 3 for names in groups])
    assert 0 < boot.lost == np.count_nonzero(~whole) < N
    np.testing.assert_array_equal(boot.fits.converged, whole)
    assert len(boot.replicates) == np.count_nonzero(whole)
    assert f"{boot.lost} drew groups that do not determine the model and are left out" in str(boot)
    for at in np.flatnonzero(whole)[:3]:
        again = fitted(fit.formula, frame_of(df, "g", groups[at]))
        np.testing.assert_allclose(boot.fits.beta[at], again.beta, rtol=1e-7, atol=1e-8)
        assert boot.fits.sigma[at] == pytest.approx(again.sigma, rel=1e-6)


def test_rows_keep_their_weights_and_offsets(few):
    df, _ = few
    df = df.assign(w=np.linspace(0.5, 2.0, 24), o=np.sin(np.arange(24.0)))
    fit = lj.lmm("y ~ arm + x + (1 | g)", df, weights=df.w, offset=df.o)
    boot = fit.bootstrap(N, "cases", key=1)
    at = int(np.argmax(boot.fits.converged))
    own = frame_of(df, "g", np.array(fit.design.terms[0].levels)[drawn_groups(1, N, 6)[at]])
    again = lj.lmm(fit.formula, own, weights=own.w, offset=own.o)
    np.testing.assert_allclose(boot.fits.beta[at], again.beta, rtol=1e-7, atol=1e-8)
    assert boot.fits.criterion[at] == pytest.approx(again.criterion, abs=1e-8)


def test_draws_without_residuals_are_left_out(few):
    """All groups but one lie on a line: draws without it leave no variance to estimate."""
    df, fit = few
    df = df.assign(y=np.where(df.g == "g5", df.y, 1.0), arm=list("uvwuvw" * 4))
    fit = lj.lmm(fit.formula, df)
    boot = fit.bootstrap(N, "cases", key=1)
    missing = (drawn_groups(1, N, 6) != fit.design.terms[0].levels.index("g5")).all(axis=1)
    assert boot.lost == np.count_nonzero(missing) > 0
    assert boot.jackknife.isna().all(axis=1).tolist() == [False] * 5 + [True]


def test_where_no_draw_can_be_fitted_the_error_says_so(few):
    _, fit = few
    pairs = [np.unique(drawn_groups(key, 2, 6)[r] // 2).size for key in range(99) for r in (0, 1)]
    key = next(k for k in range(99) if max(pairs[2 * k : 2 * k + 2]) < 3)
    with pytest.raises(lj.LmmError, match=r"0 of 2 replicates could be fitted \(2 drew groups"):
        fit.bootstrap(2, "cases", key=key)


def test_factors_within_the_groups_go_with_them(fits):
    df = fits.data("Pastes").drop(index=[3, 4, 17, 40, 41])
    fit = lj.lmm("strength ~ 1 + (1 | batch) + (1 | batch:cask)", df)
    boot = fit.bootstrap(8, "cases", key=2)
    top = next(term for term in fit.design.terms if term.group == "batch")
    groups = np.array(top.levels)[drawn_groups(2, 8, 10)]
    for at in range(3):
        again = fitted(fit.formula, frame_of(df, "batch", groups[at]))
        assert boot.fits.criterion[at] == pytest.approx(again.criterion, abs=1e-7)
        assert boot.replicates.loc[at, "sd_(Intercept)|batch:cask"] == pytest.approx(
            np.sqrt(again.varcorr["batch:cask"][0, 0]), rel=1e-5
        )


def test_estimable_is_a_matter_of_rank():
    """Against the ranks of the drawn rows themselves, slopes that lose their variation too."""
    rng = np.random.default_rng(3)
    df = pd.DataFrame({"g": np.repeat([f"g{i}" for i in range(5)], 3)})
    df["arm"] = np.repeat(["u", "v", "v", "w", "w"], 3)
    # Only two groups have a slope of their own.
    df["x"] = np.where(df.g.isin(["g1", "g3"]), rng.normal(size=15), 1e3)
    df["y"] = rng.normal(size=15)
    design = lj.build_design("y ~ arm + (1 + x | g)", df)
    term = design.terms[0]
    draws = rng.integers(0, 5, (60, 5))
    times = np.stack([np.bincount(d, minlength=5) for d in draws]).astype(float)
    expected = []
    for d in draws:
        rows = np.concatenate([np.flatnonzero(term.index == g) for g in d])
        ranks = [np.linalg.matrix_rank(m[rows]) for m in (design.X, term.Z)]
        expected.append(ranks == [3, 2])
    found = estimable(SimpleNamespace(design=design), term.index, 5, times)
    np.testing.assert_array_equal(found, expected)
    assert 5 < found.sum() < 55


def test_the_jackknife_is_the_fit_without_each_group(few):
    df, fit = few
    boot = fit.bootstrap(300, key=1)
    for at, name in ((0, "g0"), (4, "g4")):
        again = fitted(fit.formula, df[df.g != name])
        np.testing.assert_allclose(boot.jackknife.loc[at, list(again.params.index)], again.beta)
        assert boot.jackknife.loc[at, "sigma"] == pytest.approx(again.sigma, rel=1e-6)
    assert np.isfinite(boot.conf_int(type="bca").loc["x"]).all()


def test_a_group_that_cannot_be_left_out_is_said(few):
    df, _ = few
    df = df.assign(arm=df.g.map({"g2": "v", "g4": "w", "g5": "w"}).fillna("u"))
    fit = fitted("y ~ arm + x + (1 | g)", df)
    boot = fit.bootstrap(300, key=1)
    assert boot.jackknife.isna().any(axis=1).tolist() == [False, False, True, False, False, False]
    with pytest.raises(lj.LmmError, match=r"of the 6 groups left out one at a time, 1 leave no"):
        boot.conf_int(type="bca")


def test_a_statistic_without_a_bca_interval_is_named(few):
    _, fit = few
    boot = fit.bootstrap(
        300, statistic=lambda many: {"x": many.beta[:, 3], "same": 0 * many.sigma}, key=1
    )
    with pytest.warns(ConvergenceWarning, match="no BCa interval for same: no replicate lies"):
        found = boot.conf_int(type="bca")
    assert np.isnan(found.loc["same"]).all()
    assert np.isfinite(found.loc["x"]).all()
