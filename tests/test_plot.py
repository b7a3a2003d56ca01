"""Pictures: what is drawn is what the fit says, for all kinds of models."""

import builtins
import warnings

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

import lmmjax as lj
from lmmjax.plot.canvas import term_position
from lmmjax.plot.grid import varies_within
from lmmjax.plot.quantiles import normal_band
from lmmjax.plot.random_effects import separate_effects
from lmmjax.plot.smooth import lowess

UNITS = {"Reaction": "ms", "Days": "days"}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def lines_of(ax, label):
    return [line for line in ax.get_lines() if line.get_label() == label]


# --- trajectories --------------------------------------------------------------------------------


def test_population_line_is_the_prediction(sleep):
    ax = lj.plot.trajectories(sleep, units=UNITS)
    (line,) = lines_of(ax, "population, with 95% interval")
    days = line.get_xdata()
    expected = sleep.predict({"Days": days}, include_re=False)
    assert np.allclose(line.get_ydata(), expected)
    assert (days.min(), days.max()) == (0.0, 9.0)
    assert ax.get_xlabel() == "Days"
    assert ax.get_ylabel() == "Reaction (ms)"


def test_group_lines_pass_through_the_fitted_values(sleep):
    ax = lj.plot.trajectories(sleep)
    lines = ax.get_lines()
    # Two lines a subject, in turn, and the population's.
    assert len(lines) == 2 * 18 + 1
    fitted = sleep.fittedvalues.to_numpy()
    observed = sleep.design.y
    for level in range(18):
        rows = np.flatnonzero(sleep.design.terms[0].index == level)
        assert np.array_equal(lines[2 * level].get_ydata(), observed[rows])
        x, y = lines[2 * level + 1].get_data()
        assert np.allclose(np.interp(np.arange(10.0), x, y), fitted[rows], atol=1e-9)


def test_a_factor_along_the_axis_and_where_the_others_stand(fits):
    fit = fits("cake", "angle ~ recipe * temperature + (1 | recipe:replicate)")
    ax = lj.plot.trajectories(fit)
    # Recipe does not vary within a batch, so temperature is the one to draw over.
    assert ax.get_xlabel() == "temperature"
    assert [t.get_text() for t in ax.get_xticklabels()] == [
        "175",
        "185",
        "195",
        "205",
        "215",
        "225",
    ]
    (line,) = lines_of(ax, "population at recipe = A, with 95% interval")
    new = {"recipe": ["A"] * 6, "temperature": ["175", "185", "195", "205", "215", "225"]}
    assert np.allclose(line.get_ydata(), fit.predict(new, include_re=False))
    assert lj.plot.trajectories(fit, "recipe").get_xlabel() == "recipe"


def test_other_numbers_stand_at_their_mean():
    rng = np.random.default_rng(0)
    df = lj.datasets.load("sleepstudy")
    df["age"] = rng.normal(40, 10, 180)
    fit = lj.lmm("Reaction ~ Days + age + (1 | Subject)", df, offset=np.full(180, 2.0))
    ax = lj.plot.trajectories(fit, "Days")
    (line,) = [x for x in ax.get_lines() if str(x.get_label()).startswith("population at age = ")]
    new = {"Days": line.get_xdata(), "age": np.full(line.get_xdata().shape, df["age"].mean())}
    expected = fit.predict(new, include_re=False, offset=np.full(len(line.get_xdata()), 2.0))
    assert np.allclose(line.get_ydata(), expected)


def test_many_groups_are_thinned_out_and_it_is_said(sleep):
    ax = lj.plot.trajectories(sleep, max_groups=5)
    assert len(ax.get_lines()) == 11
    assert "5 of 18 Subject" in ax.get_title(loc="left")


def test_panels_hold_each_group(sleep):
    figure = lj.plot.group_panels(sleep, max_groups=4)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == ["308", "333", "350", "372"]
    (points,) = lines_of(shown[0], "observed")
    assert np.array_equal(points.get_ydata(), sleep.design.y[:10])


def test_transforms_missing_values_and_mappings():
    df = lj.datasets.load("sleepstudy")
    df.loc[3, "Reaction"] = np.nan
    data = {name: df[name].to_numpy() for name in df.columns}
    fit = lj.lmm("log(Reaction) ~ poly(Days, 2) + (1 + Days | Subject)", data)
    ax = lj.plot.trajectories(fit)
    assert ax.get_ylabel() == "log(Reaction)"
    assert len(ax.get_lines()[0].get_xdata()) == 9


def test_no_predictor_to_draw_over(fits):
    fit = fits("Dyestuff", "Yield ~ 1 + (1 | Batch)")
    with pytest.raises(lj.LmmError, match="no predictor"):
        lj.plot.trajectories(fit)
    with pytest.raises(lj.LmmError, match="'x' is no predictor of the model: they are none"):
        lj.plot.trajectories(fit, "x")
    with pytest.raises(lj.LmmError, match="'x' is no grouping factor"):
        term_position(fit, "x")


def test_variation_within_groups():
    index = np.array([0, 1, 0, 1])
    assert varies_within(np.array([1.0, 2.0, 3.0, 2.0]), index)
    assert not varies_within(np.array([1.0, 2.0, 1.0, 2.0]), index)


# --- residuals -----------------------------------------------------------------------------------


def test_residuals_against_fitted(sleep):
    ax = lj.plot.residuals(sleep, units=UNITS)
    drawn = ax.collections[0].get_offsets()
    assert np.allclose(drawn[:, 0], sleep.fittedvalues)
    assert np.allclose(drawn[:, 1], sleep.resid())
    # The three worst rows are named.
    worst = sleep.resid().abs().nlargest(3).index.astype(str)
    assert sorted(t.get_text() for t in ax.texts) == sorted(worst)
    assert ax.get_xlabel() == "Fitted Reaction (ms)"


def test_residuals_of_a_weighted_fit(fits):
    weights = np.linspace(0.5, 2.0, 180)
    fit = lj.lmm("Reaction ~ Days + (1 | Subject)", fits.data("sleepstudy"), weights=weights)
    ax = lj.plot.residuals(fit, label=0)
    assert np.allclose(ax.collections[0].get_offsets()[:, 1], fit.resid("pearson"))
    assert "weight" in ax.get_ylabel()
    assert not ax.texts


def test_scale_location(sleep):
    ax = lj.plot.scale_location(sleep)
    drawn = ax.collections[0].get_offsets()
    assert np.allclose(drawn[:, 1] ** 2, np.abs(sleep.resid("scaled")))


def test_lowess_follows_lines_curves_and_no_outlier():
    x = np.linspace(0.0, 1.0, 200)
    at, value = lowess(x, 3.0 - 2.0 * x)
    assert np.allclose(value, 3.0 - 2.0 * at)
    at, value = lowess(x, np.sin(3.0 * x), span=0.2)
    assert np.abs(value - np.sin(3.0 * at)).max() < 0.03
    spoiled = 3.0 - 2.0 * x
    spoiled[::20] += 100.0
    at, value = lowess(x, spoiled)
    assert np.abs(value - (3.0 - 2.0 * at)).max() < 0.05


def test_lowess_of_few_places_and_ties():
    assert lowess(np.ones(5), np.arange(5.0))[1].tolist() == [2.0]
    at, value = lowess(np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 3.0, 5.0, 7.0]), robust=0)
    assert at[0] == 0.0
    assert at[-1] == 1.0
    assert np.allclose(value[[0, -1]], [2.0, 6.0])


# --- quantiles -----------------------------------------------------------------------------------


def test_band_holds_as_often_as_it_says():
    rng = np.random.default_rng(1)
    sample = np.sort(rng.standard_normal((20_000, 12)), axis=1)
    middle, lower, upper = normal_band(12, 0.9)
    assert np.allclose(middle, -middle[::-1])
    assert np.allclose(lower, -upper[::-1])
    inside = np.mean((sample > lower) & (sample < upper), axis=0)
    assert np.allclose(inside, 0.9, atol=0.01)


def test_quantile_plots(sleep):
    ax = lj.plot.qq(sleep)
    drawn = ax.collections[-1].get_offsets()
    assert np.allclose(drawn[:, 1], np.sort(sleep.resid("scaled")))
    # Outliers of this study that everybody knows: rows 7, 56 and 59.
    assert sorted(t.get_text() for t in ax.texts) == ["56", "59", "7"]
    figure = lj.plot.qq_random(sleep, units=UNITS)
    assert [a.get_title(loc="left") for a in figure.axes] == ["(Intercept), ms", "Days, ms / days"]
    drawn = figure.axes[1].collections[-1].get_offsets()
    assert np.allclose(drawn[:, 1], np.sort(sleep.ranef()["Subject"]["Days"]))


# --- random effects ------------------------------------------------------------------------------


def test_caterpillar(sleep):
    figure = lj.plot.caterpillar(sleep, level=0.9)
    ax = figure.axes[0]
    effects = sleep.ranef(condvar=True).to_frame()
    own = effects[effects["term"] == "(Intercept)"].sort_values("condval")
    assert [t.get_text() for t in ax.get_yticklabels()] == own["grp"].tolist()
    reach = 1.6448536269514722 * own["condsd"].to_numpy()
    low, high = own["condval"].to_numpy() - reach, own["condval"].to_numpy() + reach
    segments = np.concatenate([np.array(c.get_segments()) for c in ax.collections[:2]])
    segments = segments[np.argsort(segments[:, 0, 1])]
    assert np.allclose(segments[:, :, 0], np.stack([low, high], axis=1))
    filled = ax.collections[-1].get_offsets()
    assert len(filled) == np.sum((low > 0) | (high < 0))


def test_caterpillar_of_many_levels_has_no_names():
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(120), 3)
    y = rng.standard_normal(120)[g] + rng.standard_normal(360)
    fit = lj.lmm("y ~ 1 + (1 | g)", {"y": y, "g": g})
    for draw in (lj.plot.caterpillar, lj.plot.shrinkage):
        ax = draw(fit).axes[0]
        assert not ax.get_yticks().size
        assert "120 levels" in ax.get_ylabel()


def test_separate_effects_are_least_squares_of_each_group(sleep):
    base = sleep.fixef.to_numpy()
    own = base + separate_effects(sleep, 0)
    for level in range(18):
        rows = sleep.design.terms[0].index == level
        expected = np.linalg.lstsq(sleep.design.X[rows], sleep.design.y[rows], rcond=None)[0]
        assert np.allclose(own[level], expected)


def test_separate_effects_need_enough_rows():
    rng = np.random.default_rng(0)
    g = np.array([*np.repeat(np.arange(12), 4), 12])
    x = rng.standard_normal(49)
    y = (1 + rng.standard_normal(13))[g] + (1 + rng.standard_normal(13))[g] * x
    fit = lj.lmm("y ~ x + (x | g)", {"y": y + 0.3 * rng.standard_normal(49), "x": x, "g": g})
    assert np.isnan(separate_effects(fit, 0)).all(axis=1).tolist() == [False] * 12 + [True]
    lj.plot.shrinkage(fit)


def test_shrinkage(sleep, fits):
    ax = lj.plot.shrinkage(sleep).axes[0]
    coef = sleep.coef()["Subject"].to_numpy()
    assert any(
        c.get_offsets().shape == (18, 2) and np.allclose(c.get_offsets(), coef)
        for c in ax.collections
    )
    # The ellipse holds half of the distribution: its points lie at one Mahalanobis distance.
    curve = np.stack(ax.get_lines()[0].get_data()) - sleep.fixef.to_numpy()[:, None]
    distance = np.sum(curve * np.linalg.solve(sleep.varcorr["Subject"], curve), axis=0)
    assert np.allclose(distance, 2 * np.log(2))
    with pytest.raises(lj.LmmError, match="'x' is no random effect of 'Subject'"):
        lj.plot.shrinkage(sleep, effects=("Days", "x"))
    one = lj.plot.shrinkage(fits("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)"))
    assert one.axes[0].get_ylabel() == "plate"


# --- files, figures, and what is missing ---------------------------------------------------------


def test_saving_everything(fits, tmp_path):
    fit = fits("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)")
    before = plt.get_fignums()
    saved = lj.plot.save_pictures(fit, tmp_path / "new" / "folder", dpi=40)
    assert [p.name for p in saved][3:] == [
        f"{kind}_{group}.png"
        for group in ("plate", "sample")
        for kind in ("caterpillar", "qq_random", "shrinkage")
    ]
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in saved)
    assert plt.get_fignums() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(lj.LmmError, match="cannot make the folder"):
        lj.plot.save_pictures(fit, tmp_path / "file")


def test_singular_fits_can_be_drawn(fits, tmp_path):
    fit = fits("Dyestuff2", "Yield ~ 1 + (1 | Batch)")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lj.plot.save_pictures(fit, tmp_path, dpi=40)


def test_given_figures_and_units_of_the_frame():
    df = lj.datasets.load("sleepstudy")
    df.attrs["units"] = UNITS
    fit = lj.lmm("Reaction ~ Days + (Days | Subject)", df)
    figure = Figure()
    assert lj.plot.diagnostics(fit, figure=figure) is figure
    assert figure.axes[0].get_ylabel() == "Residual (ms)"
    ax = Figure().subplots()
    assert lj.plot.trajectories(fit, ax=ax) is ax
    assert not plt.get_fignums()


def test_without_matplotlib(sleep, monkeypatch):
    real = builtins.__import__

    def no_matplotlib(name, *args, **kwargs):
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_matplotlib)
    with pytest.raises(lj.LmmError, match=r"pip install 'lmmjax\[plot\]'"):
        lj.plot.qq(sleep)
    with pytest.raises(lj.LmmError, match="matplotlib"):
        lj.plot.caterpillar(sleep)
