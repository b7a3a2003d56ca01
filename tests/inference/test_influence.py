"""Influence of rows and groups: against R (make_influence.R) and brute force."""

import json
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_allclose

import lmmjax as lj

matplotlib.use("Agg")

R = json.loads((Path(__file__).parent / "influence.json").read_text())
SLOPES = "Reaction ~ Days + (Days | Subject)"
PASTES = "strength ~ 1 + (1 | sample) + (1 | batch)"
CASES = {
    "sleep": ("sleepstudy", SLOPES, "Subject", {}),
    "sleep_ml": ("sleepstudy", SLOPES, "Subject", {"method": "ML"}),
    "short": ("short", SLOPES, "Subject", {"weights": "w"}),
    "pastes_fine": ("Pastes", PASTES, "sample", {}),
    "pastes_batch": ("Pastes", PASTES, "batch", {}),
    "crossed": ("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", "sample", {}),
    "foreign": ("sleepstudy", "Reaction ~ Days + (1 | Subject)", "Days", {}),
}


@pytest.fixture(scope="module")
def short(fits):
    """Unequal groups and weights."""
    sleep = fits.data("sleepstudy")
    at = np.arange(1, len(sleep) + 1)
    early = sleep["Subject"].astype(str).isin(["308", "330"]) & (sleep["Days"] > 5)
    frame = sleep[(at % 5 != 2) & ~early].copy()
    frame["w"] = 1 + np.arange(1, len(frame) + 1) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", lj.LmmWarning)
        return lj.lmm(SLOPES, frame, weights="w")


@pytest.fixture
def case(fits, short):
    def get(name):
        data, formula, groups, kwargs = CASES[name]
        fit = short if data == "short" else fits(data, formula, **kwargs)
        return R[name], fit, fit.influence(groups)

    return get


@pytest.mark.parametrize("name", CASES)
def test_groups_left_out(name, case):
    ref, fit, found = case(name)
    units = [d["unit"] for d in ref["deleted"]]

    def stacked(key, depth):
        return np.array([np.array(d[key]).reshape((-1,) * depth or ()) for d in ref["deleted"]])

    p = len(fit.beta)
    beta, sdcor = stacked("beta", 1), stacked("sdcor", 1)
    vcov = np.array([np.reshape(d["vcov"], (p, p)) for d in ref["deleted"]])
    frame = found.frame.set_axis(found.frame.index.astype(str)).loc[units]
    order = [found.frame.index.astype(str).tolist().index(unit) for unit in units]
    change = np.atleast_1d(ref["beta"]) - beta
    se = np.sqrt(np.diagonal(vcov, axis1=1, axis2=2))
    full = np.reshape(ref["vcov"], (p, p))
    assert_allclose(found.dfbeta.iloc[order], change, rtol=1e-5, atol=1e-6 * se.mean())
    assert_allclose(found.dfbetas.iloc[order], change / se, rtol=1e-5, atol=1e-6)
    cook = np.einsum("ji,ij->j", change, np.linalg.solve(full, change.T)) / p
    assert_allclose(frame["cooksd"], cook, rtol=1e-4, atol=1e-9)
    assert_allclose(frame["covratio"], np.linalg.det(vcov) / np.linalg.det(full), rtol=1e-4)
    assert_allclose(frame["sigma"], stacked("sigma", 0), rtol=1e-6)
    # R lists standard deviations first, then correlations.
    names = found.components.columns
    columns = [n for n in names if n.startswith("sd_")] + [n for n in names if n.startswith("cor_")]
    components = found.components[[*columns, "sigma"]].iloc[order].to_numpy()
    assert_allclose(components, sdcor, rtol=1e-4, atol=1e-5)
    moved = found.change[[*columns, "sigma"]].iloc[order].to_numpy()
    is_cor = np.array([c.startswith("cor_") for c in [*columns, "sigma"]])
    whole = np.array(ref["sdcor"])
    expected = np.where(is_cor, sdcor - whole, sdcor / whole - 1)
    assert_allclose(moved, expected, rtol=1e-3, atol=1e-5)
    assert frame["converged"].all()
    assert frame["n"].sum() == fit.nobs


def test_as_lme4_measures_it(case):
    """Other sign of DFBETAS, (J - p) / J in Cook's distance; its refits are less exact."""
    _, _, found = case("sleep")
    ref = R["lme4"]
    assert_allclose(found.dfbetas.loc[ref["unit"]], -np.array(ref["dfbetas"]), rtol=1e-3, atol=1e-4)
    ours = found.frame.loc[ref["unit"], "cooksd"] * (18 - 2) / 18
    assert_allclose(ours, ref["cooks"], rtol=1e-3, atol=1e-6)


def test_rows_as_lme4_measures_them(sleep):
    found, ref = sleep.influence(), R["rows"]
    assert_allclose(found.frame["hat"], ref["hat"], rtol=1e-5)
    assert_allclose(found.frame["cooksd"], ref["cooks"], rtol=1e-4, atol=1e-9)
    # What lme4 calls studentized has sigma of all rows.
    assert_allclose(found.frame["rstandard"], ref["rstudent"], rtol=1e-5, atol=1e-7)
    assert_allclose(found.frame["cooksd"], sleep.augment()[".cooksd"])


@pytest.mark.parametrize("name", ["sleep", "short", "sleep_ml"])
def test_rows_by_brute_force(name, case):
    """Generalised least squares without each row, with the n x n covariance held."""
    _, fit, _ = case(name)
    found, design = fit.influence(), fit.design
    term = design.terms[0]
    same = term.index[:, None] == term.index
    V = np.where(same, term.Z @ fit.varcorr["Subject"] @ term.Z.T, 0.0)
    V += fit.sigma**2 * np.diag(1 / design.weights)
    df = fit.nobs - (2 if fit.reml else 0)
    for i in (0, 17, 59, fit.nobs - 1):
        kept = np.arange(fit.nobs) != i
        W = np.linalg.inv(V[np.ix_(kept, kept)])
        X, y = design.X[kept], design.y[kept]
        cov = np.linalg.inv(X.T @ W @ X)
        beta = cov @ X.T @ W @ y
        assert_allclose(found.dfbeta.iloc[i], fit.beta - beta, rtol=1e-6, atol=1e-9)
        rest = y - X @ beta
        sigma = fit.sigma * np.sqrt(rest @ W @ rest / (df - 1))
        scale = sigma / fit.sigma * fit.standard_errors
        assert_allclose(found.dfbetas.iloc[i], (fit.beta - beta) / scale, rtol=1e-6, atol=1e-9)
        # Studentized: the error of predicting the row from the others, over its standard error.
        v, x = V[kept, i], design.X[i]
        error = design.y[i] - x @ beta - v @ W @ rest
        a = x - X.T @ W @ v
        spread = np.sqrt(V[i, i] - v @ W @ v + a @ cov @ a) * sigma / fit.sigma
        assert_allclose(found.frame["rstudent"].iloc[i], error / spread, rtol=1e-6)


def test_rows_by_fitting_again(fits):
    fit = fits("Dyestuff", "Yield ~ 1 + (1 | Batch)")
    found = fit.influence("rows")
    assert found.frame["n"].eq(1).all()
    for i in (0, 19):
        other = lj.lmm("Yield ~ 1 + (1 | Batch)", fit.data.drop(index=fit.data.index[i]))
        assert_allclose(found.dfbeta.iloc[i], fit.beta - other.beta, rtol=1e-6)
        assert_allclose(found.frame["sigma"].iloc[i], other.sigma, rtol=1e-6)
        assert_allclose(found.components.iloc[i, 0] ** 2, other.varcorr["Batch"][0, 0], rtol=1e-5)


def test_combined_columns_and_labels(fits):
    fit = fits("sleepstudy", "Reaction ~ Days + (1 | Subject)")
    early = np.where(fit.data["Days"] < 5, "early", "late")
    by_label = fit.influence(early)
    assert by_label.frame["n"].to_dict() == {"early": 90, "late": 90}
    other = lj.lmm("Reaction ~ Days + (1 | Subject)", fit.data[early == "late"])
    assert_allclose(by_label.dfbeta.loc["early"], fit.beta - other.beta, rtol=1e-6)
    cells = fit.influence(["Subject", "Days"])
    assert len(cells.frame) == 180
    assert cells.unit == "Subject:Days"


def test_what_decides_whether_there_is_an_answer(fits):
    fit = fits("cake", "angle ~ recipe + temp + (1 | recipe:replicate)")
    found = fit.influence("recipe")
    assert found.frame[["cooksd", "sigma"]].isna().all(axis=None)
    assert not found.frame["converged"].any()
    with pytest.raises(lj.DataError, match="neither a grouping factor"):
        fit.influence("recipes")
    with pytest.raises(lj.DataError, match="shape"):
        fit.influence(np.ones(3))
    with pytest.raises(lj.LmmError, match="one level"):
        fit.influence(np.ones(fit.nobs))
    with pytest.raises(lj.DataError, match="missing"):
        fit.influence(np.r_[np.nan, np.ones(fit.nobs - 1)])


def test_printed_and_drawn(case, sleep):
    from matplotlib.figure import Figure

    _, _, found = case("sleep")
    assert str(found).startswith("Influence of each Subject, by fitting again")
    assert "309" in str(found)
    for kind in ("cooksd", "dfbetas"):
        ax = found.plot(kind, ax=Figure().subplots(), label=2)
        assert ax.get_xlabel() == "Subject"
        assert len(ax.get_xticks()) == 18
        assert ax.texts[0].get_text() in found.frame.index
    heights = found.plot(ax=Figure().subplots()).lines[0].get_ydata()
    assert_allclose(heights, found.frame["cooksd"])
    rows = lj.plot.influence(sleep, ax=Figure().subplots(), label=1)
    assert rows.texts[0].get_text() == str(sleep.influence().frame["cooksd"].idxmax())
    with pytest.raises(lj.LmmError, match="kind must be"):
        found.plot("leverage")
