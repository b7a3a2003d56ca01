"""Power studies: exact power where it is known, the same data sets whatever happens on the way."""

from __future__ import annotations

import json
import sys
import warnings

import jax
import numpy as np
import pytest
from scipy.special import chdtrc

import lmmjax as lj
from lmmjax.cli import main
from lmmjax.many import runner, sources
from lmmjax.studies import progress
from lmmjax.studies import study as studies
from lmmjax.studies.criteria import Criterion, Found, code_identity, criterion
from lmmjax.studies.likelihood_ratio import nested_pair
from lmmjax.studies.tally import Tally

GROUPS, ROWS, SIGMA, TAU = 12, 5, 3.0, 2.0
#: Replicates that fill a batch: fewer would compile one of their own size.
LANES = 512


def intercepts(groups=GROUPS):
    frame = lj.simulate_design({"id": groups}, within={"time": range(ROWS)})
    return lj.Design.from_formula("y ~ time + (1 | id)", frame)


def truth(effect):
    return lj.TrueParameters.for_design(intercepts(), {"time": effect}, sd=TAU, sigma=SIGMA)


def exact_power(effect, groups=GROUPS, alpha=0.05):
    """Of the within-group slope of a balanced design: a noncentral t with n - groups - 1 df."""
    from scipy.stats import nct, t

    df = groups * ROWS - groups - 1
    size = np.sqrt(groups * np.sum((np.arange(ROWS) - 2.0) ** 2))
    shift, edge = effect * size / SIGMA, t.isf(alpha / 2, df)
    return nct.sf(edge, df, shift) + nct.cdf(-edge, df, shift)


def near(found, expected, errors=4.0):
    error = np.sqrt(max(expected * (1 - expected), 1e-4) / found.tally.done)
    return abs(found.power - expected) < errors * error


@pytest.mark.parametrize("effect", [0.0, 0.5])
def test_power_is_the_exact_one(effect):
    found = lj.power(intercepts(), truth(effect), "time", nsim=8000, key=1)
    assert near(found, exact_power(effect))
    low, high = found.interval
    assert low < found.power < high
    row = found.frame.iloc[0]
    assert abs(row["bias"]) < 4 * row.rmse / np.sqrt(8000)
    assert row.coverage == pytest.approx(0.95, abs=0.012)
    if effect:
        assert row.type_s < 0.01
        assert row.type_m > 1.0


def test_the_interval_is_clopper_and_pearsons():
    from scipy.stats import binomtest

    for done, rejected in ((40, 0), (40, 7), (40, 40), (5000, 4100)):
        exact = binomtest(rejected, done).proportion_ci(method="exact")
        assert Tally(done, rejected).interval() == pytest.approx((exact.low, exact.high), abs=1e-12)


@pytest.mark.filterwarnings("ignore::lmmjax.errors.SingularFitWarning")
def test_the_same_as_a_loop_of_single_fits():
    # Each data set through lj.lmm, both for t tests and for the likelihood ratio.
    frame = lj.simulate_design({"id": GROUPS}, within={"time": range(ROWS)})
    design, what = intercepts(), truth(0.5)
    smaller = lj.Design.from_formula("y ~ 1 + (1 | id)", frame)
    Y = lj.simulate(design, what, LANES, key=6)
    ask = criterion("time", tuple(design.x_names), what, "satterthwaite")
    by_t = ask.run(lj.fit_many(design, Y)).pvalues
    batches = nested_pair(design, smaller).batches(what, 6)
    by_ratio = batches(0, LANES)[1].pvalues
    for y, t_value, ratio in zip(Y[:24], by_t, by_ratio, strict=False):
        data = frame.assign(y=y)
        fit = lj.lmm("y ~ time + (1 | id)", data)
        assert t_value == pytest.approx(fit.contest("time")["Pr(>F)"].iloc[0], rel=1e-6)
        large = lj.lmm("y ~ time + (1 | id)", data, method="ML")
        small = lj.lmm("y ~ 1 + (1 | id)", data, method="ML")
        assert ratio == pytest.approx(chdtrc(1, small.criterion - large.criterion), rel=1e-6)
    found = lj.power(design, what, lj.LikelihoodRatio(smaller), nsim=LANES, key=6)
    assert 0 < found.tally.rejected == np.count_nonzero(by_ratio < 0.05) < LANES


def test_every_form_of_a_test_rejects_the_same():
    design, what = intercepts(), truth(0.5)
    many = lj.fit_simulated(design, what, LANES, key=5)
    found = lj.power(design, what, "time", nsim=LANES, key=5)
    assert found.tally.rejected == np.count_nonzero(many.pvalues[:, 1] < 0.05)
    own = lj.power(design, what, lambda fits: fits.pvalues[:, 1], nsim=LANES, key=5)
    assert own.tally.rejected == found.tally.rejected
    by_weights = lj.power(design, what, [0.0, 1.0], nsim=LANES, key=5)
    assert by_weights.tally.rejected == found.tally.rejected
    shifted = lj.power(design, what, "time = 0.5", nsim=LANES, key=5)
    assert shifted.tally.rejected < found.tally.rejected


def test_a_users_decisions_are_not_p_values():
    design, what = intercepts(), truth(0.5)
    found = lj.power(design, what, "time", nsim=LANES, key=5)
    decided = lj.power(design, what, lambda fits: fits.pvalues[:, 1] < 0.05, nsim=LANES, key=5)
    assert decided.tally.rejected == found.tally.rejected
    assert LANES / 3 < found.tally.rejected < LANES / 2


@pytest.mark.parametrize(
    ("test", "match"),
    [
        (lambda fits: 0.5, r"shape \(\)"),
        (lambda fits: (fits.pvalues[:, 1] < 0.05).astype(int), "type int64: give p values"),
        (lambda fits: fits.tvalues[:, 1], "lie outside 0 to 1"),
        (lambda fits: [f"{p:.2f}" for p in fits.pvalues[:, 1]], "type <U4"),
    ],
)
def test_what_a_users_test_gives_is_checked(test, match):
    with pytest.raises(lj.LmmError, match=match):
        lj.power(intercepts(), truth(0.5), test, nsim=LANES)


def columns(formula, groups):
    frame = lj.simulate_design({"id": groups}, within={"time": range(ROWS)})
    frame["one"] = 1.0
    return lj.Design.from_formula(f"y ~ 0 + {formula} + (0 + one | id)", frame)


def test_parameters_go_by_name():
    one, other = columns("one + time", GROUPS), columns("time + one", GROUPS)
    what = lj.TrueParameters.for_design(one, {"time": 0.5, "one": 9}, TAU, sigma=SIGMA)
    assert one.x_names != other.x_names
    # The same y, so the same tests, whatever the order of the columns.
    by_rows = [lj.fit_simulated(d, what, LANES, key=1, by="rows") for d in (one, other)]
    first, second = (many.beta[:, many.names.index("time")] for many in by_rows)
    np.testing.assert_allclose(second, first, rtol=1e-6)
    assert near(lj.power(other, what, "time", nsim=LANES, key=1), exact_power(0.5))

    def design(groups):
        return columns("time + one" if groups > GROUPS else "one + time", groups)

    curve = lj.power_curve(design, what, "time", along={"groups": [GROUPS, 20]}, nsim=LANES, key=1)
    for at, found in curve.cells:
        assert near(found, exact_power(0.5, at["groups"]))


@pytest.mark.parametrize("ratio", [1e3, 1e5, 1e7, 1e9])
def test_groups_far_apart_are_compared_by_their_means(ratio):
    """Balanced data: the intercept's standard error is that of the groups' own, with 11 df."""
    seen = []
    true = lj.TrueParameters.for_design(intercepts(), {"time": 0}, sd=ratio, sigma=1.0)

    def test(many):
        seen.append(many)
        return many.pvalues[:, 0]

    found = lj.power(intercepts(), true, test, nsim=LANES, key=5)
    assert near(found, 0.05)
    (many,) = seen
    assert many.converged.all()
    np.testing.assert_allclose(many.df[:, 0], GROUPS - 1, rtol=1e-4)
    ordinary = lj.TrueParameters.for_design(intercepts(), {"time": 0}, sd=1e4, sigma=1.0)
    same = lj.power(intercepts(), ordinary, test, nsim=LANES, key=5)
    assert same.tally.rejected == pytest.approx(found.tally.rejected, abs=2)
    # Sums of squares between groups are chi-squares, up to the little that is within them.
    square = (GROUPS - 1) * GROUPS * (many.se[:, 0] / ratio) ** 2
    assert square.mean() == pytest.approx(GROUPS - 1, abs=4 * np.sqrt(2 * 11 / LANES))
    assert square.var() == pytest.approx(2 * (GROUPS - 1), rel=0.3)
    np.testing.assert_allclose(square, 11 * 12 * (seen[1].se[:, 0] / 1e4) ** 2, rtol=1e-4)


def test_a_design_drawn_at_random_says_that_it_is_one_draw():
    def drawn(seed, formula="y ~ x + (1 | id)"):
        within = {"x": "normal"}
        frame = lj.simulate_design({"id": GROUPS}, ROWS, within, between={"w": "normal"}, seed=seed)
        return lj.Design.from_formula(formula, frame)

    true = lj.TrueParameters.for_design(drawn(0), {"x": 1.0}, sd=TAU, sigma=SIGMA)
    # Conditional on x, power is nearly that of a slope with the information of x within groups.
    powers, exact = [], []
    for seed in range(8):
        found = lj.analytic_power(drawn(seed), true, "x")
        assert "one draw of x." in str(found)
        x = drawn(seed).X[:, 1].reshape(GROUPS, ROWS)
        exact.append(np.sum((x - x.mean(axis=1, keepdims=True)) ** 2))
        powers.append(found.power)
    assert np.corrcoef(powers, exact)[0, 1] > 0.8
    assert np.ptp(powers) > 0.1  # beyond any interval of a study of many data sets
    assert "one draw of x." in str(lj.power(drawn(0), true, "x", nsim=LANES))
    seeds = [int(np.argmin(powers)), int(np.argmax(powers))]
    curve = lj.power_curve(drawn, true, "x", along={"seed": seeds}, nsim=LANES)
    for (_, found), seed in zip(curve.cells, seeds, strict=True):
        assert near(found, powers[seed])
    # What the model does not have, and what was not drawn, is not spoken of.
    assert drawn(0, "y ~ w + (1 | id)").drawn == ("w",)
    assert drawn(0, "y ~ 1 + (1 | id)").drawn == ()
    assert intercepts().drawn == ()
    frame = lj.simulate_design(20, ("poisson", 4), {"time": range(4)}, dropout=0.2)
    left = lj.Design.from_formula("y ~ time + (1 | group)", frame)
    assert left.drawn == ("dropout", "per_group")
    assert lj.extend(left, "group", n=30).drawn == left.drawn


def test_a_joint_test_has_its_level():
    frame = lj.simulate_design({"id": 15}, within={"time": range(4)})
    frame["other"] = np.random.default_rng(0).normal(size=len(frame))
    design = lj.Design.from_formula("y ~ time + other + (1 | id)", frame)
    null = lj.TrueParameters.for_design(design, {}, sd=1, sigma=2)
    found = lj.power(design, null, "time, other", nsim=4000, key=2)
    assert near(found, 0.05)
    # One replicate, against the single fit's own F test.
    many = lj.fit_simulated(design, null, 1, key=2, by="rows")
    y = lj.simulate(design, null, 1, key=2)[0]
    fit = lj.lmm("y ~ time + other + (1 | id)", frame.assign(y=y))
    p = criterion("time, other", many.names, null, "satterthwaite").run(many).pvalues[0]
    assert p == pytest.approx(fit.contest("time, other")["Pr(>F)"].iloc[0], rel=1e-6)


def test_a_likelihood_ratio_test():
    frame = lj.simulate_design({"id": GROUPS}, within={"time": range(ROWS)})
    smaller = lj.Design.from_formula("y ~ 1 + (1 | id)", frame)
    found = lj.power(intercepts(), truth(0.5), lj.LikelihoodRatio(smaller), nsim=600, key=3)
    assert abs(found.power - exact_power(0.5)) < 0.08  # chi² is a little too generous
    frame["other"] = np.random.default_rng(0).normal(size=len(frame))
    for formula, weights in (("y ~ 0 + other + (1 | id)", None), ("y ~ 1 + (1 | id)", "other")):
        less = lj.Design.from_formula(
            formula, frame.assign(other=frame.other.abs()), weights=weights
        )
        with pytest.raises(lj.LmmError, match="not nested" if weights is None else "weights"):
            lj.power(intercepts(), truth(0.5), lj.LikelihoodRatio(less), nsim=10)
    null = lj.TrueParameters.for_design(smaller, sd=TAU, sigma=SIGMA)
    with pytest.raises(lj.LmmError, match="give the larger one first"):
        lj.power(smaller, null, lj.LikelihoodRatio(intercepts()), nsim=10)


def test_a_likelihood_ratio_needs_nested_random_effects():
    frame = lj.simulate_design({"id": GROUPS}, within={"time": range(ROWS)})
    frame["site"] = [f"s{code % 4}" for code in frame["id"].cat.codes]
    slopes = lj.Design.from_formula("y ~ time + (1 + time | id)", frame)
    sites = lj.Design.from_formula("y ~ time + (1 | site)", frame)
    what = lj.TrueParameters.for_design(slopes, sd=[TAU, 1.0], sigma=SIGMA)
    with pytest.raises(lj.LmmError, match="not nested: the small model's random effects"):
        lj.power(slopes, what, lj.LikelihoodRatio(sites), nsim=10)


def test_a_ratio_of_one_variance_has_its_size():
    """A slope variance of zero: the mixture rejects 5 %, the plain chi-square 2 %."""
    frame = lj.simulate_design({"id": 30}, within={"time": range(ROWS)})
    large = lj.Design.from_formula("y ~ time + (time || id)", frame)
    small = lj.Design.from_formula("y ~ time + (1 | id)", frame)
    null = lj.TrueParameters.for_design(large, sd=[TAU, 0.0], sigma=SIGMA)
    pair = nested_pair(large, small)
    assert (pair.df, pair.variances) == (1, 1)
    nsim = 2048
    found = lj.power(large, null, lj.LikelihoodRatio(small), nsim=nsim, key=2)
    assert "mixture of chi-squares, 0 and 1 df" in str(found)
    assert abs(found.power - 0.05) < 0.01 + 3 * np.sqrt(0.05 * 0.95 / nsim)
    # A fixed effect has no boundary, several variances have no known mixture.
    fixed = lj.Design.from_formula("y ~ 1 + (time || id)", frame)
    assert nested_pair(large, fixed).label == "likelihood ratio"
    slopes = lj.Design.from_formula("y ~ time + (1 + time | id)", frame)
    assert "2 and 3 df" not in nested_pair(slopes, small).label
    assert "1 and 2 df" in nested_pair(slopes, small).label


def test_unidentified_variances_are_refused_alike():
    """One cluster in each arm: what differs between clusters is what differs between arms."""
    frame = lj.simulate_design({"id": 2}, 10, between={"arm": 2})
    design = lj.Design.from_formula("y ~ arm + (1 | id)", frame)
    what = lj.TrueParameters.for_design(design, sd=TAU, sigma=SIGMA)
    for ask in (lj.power, lj.analytic_power):
        with pytest.raises(lj.LmmError, match="do not determine the variance of"):
            ask(design, what, "arm2")
    with pytest.raises(lj.LmmError, match="do not determine the variance of"):
        lj.power_curve(design, what, "arm2", along={"per_group": [5, 10]}, nsim=10)
    with pytest.raises(lj.LmmError, match="do not determine the variance of"):
        lj.optimize_design(design, what, "arm2", budget=99, cost_per_group=1, cost_per_row=1)
    with pytest.raises(lj.LmmError, match="do not determine the variance of"):
        lj.fit_simulated(design, what, 10)
    with pytest.warns(lj.errors.DesignWarning, match="do not determine the variance of"):
        many = lj.fit_many(design, np.random.default_rng(1).normal(size=(3, len(frame))))
    assert np.isnan(many.pvalues).all()


def test_a_narrow_interval_is_found_early():
    design, what = intercepts(), truth(0.5)
    stopped = lj.power(design, what, "time", nsim=20_000, key=1, stop_width=0.1)
    assert 256 <= stopped.tally.done <= 1024
    low, high = stopped.interval
    assert high - low < 0.1
    # The first data sets are those of a study that does not stop.
    whole = lj.power(design, what, "time", nsim=stopped.tally.done, key=1)
    assert whole.tally == stopped.tally


def test_a_killed_study_goes_on(tmp_path, monkeypatch):
    design, what, file = intercepts(), truth(0.5), tmp_path / "study.json"
    whole = lj.power(design, what, "time", nsim=9000, key=4)
    add, calls = Tally.add, []

    def killed(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        add(self, *args)

    monkeypatch.setattr(Tally, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        lj.power(design, what, "time", nsim=9000, key=4, checkpoint=file)
    monkeypatch.setattr(Tally, "add", add)
    kept = json.loads(file.read_text())["cells"]["study"]["tally"]["done"]
    assert 0 < kept < 9000
    again = lj.power(design, what, "time", nsim=9000, key=4, checkpoint=file)
    assert again.tally.rejected == whole.tally.rejected
    assert again.tally.error_sum == pytest.approx(whole.tally.error_sum, rel=1e-12)
    with pytest.raises(lj.LmmError, match="another study"):
        lj.power(design, truth(0.6), "time", nsim=9000, key=4, checkpoint=file)


def test_progress_tells_rate_and_time_left(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    bar = progress.Progress(10_000, "study", True, initial=4000)
    clock[0] += 2.0
    bar.add(1000)  # what an earlier run has done is no part of the rate
    assert capsys.readouterr().err == "study: 5,000 of 10,000 fits, 500 a second, 10 s left\n"
    bar.add(1000)
    assert capsys.readouterr().err == ""  # once a second at most


def other_p_values(fits):
    return fits.pvalues[:, 1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1.0, 0.0], [0.0, 1.0]),
        ("time = 0", "time = 1"),
        (lambda fits: fits.pvalues[:, 0], lambda fits: fits.pvalues[:, 1]),
        (lambda fits: fits.pvalues[:, 0], other_p_values),
    ],
)
def test_a_checkpoint_knows_tests_apart(tmp_path, one, other):
    design, what, file = intercepts(), truth(0.5), tmp_path / "study.json"
    lj.power(design, what, one, nsim=LANES, key=4, checkpoint=file)
    lj.power(design, what, one, nsim=LANES, key=4, checkpoint=file)
    with pytest.raises(lj.LmmError, match="another study"):
        lj.power(design, what, other, nsim=LANES, key=4, checkpoint=file)
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_a_checkpoint_knows_the_smaller_model_and_values_around_a_function(tmp_path):
    frame = lj.simulate_design({"id": GROUPS}, within={"time": range(ROWS)})
    design, what, file = intercepts(), truth(0.5), tmp_path / "study.json"
    for formula in ("y ~ 1 + (1 | id)", "y ~ 0 + time + (1 | id)"):
        test = lj.LikelihoodRatio(lj.Design.from_formula(formula, frame))
        if file.exists():
            with pytest.raises(lj.LmmError, match="another study"):
                lj.power(design, what, test, nsim=LANES, checkpoint=file)
        else:
            lj.power(design, what, test, nsim=LANES, checkpoint=file)

    def column(j):
        return lambda fits: fits.pvalues[:, j]

    assert code_identity(column(0)) != code_identity(column(1))
    assert code_identity(column(1)) == code_identity(column(1))


def test_a_finished_study_can_grow(tmp_path, monkeypatch):
    design, what, file = intercepts(), truth(0.5), tmp_path / "study.json"
    lj.power(design, what, "time", nsim=300, key=4, checkpoint=file)
    monkeypatch.setattr(studies, "WINDOW", 1)  # in other steps than before
    larger = lj.power(design, what, "time", nsim=600, key=4, checkpoint=file)
    whole = lj.power(design, what, "time", nsim=600, key=4)
    assert larger.tally.done == 600
    assert larger.tally.rejected == whole.tally.rejected


def test_fits_that_fail_in_the_smaller_model_are_counted():
    many = lj.fit_simulated(intercepts(), truth(0.5), LANES, key=1)
    tally, failed = Tally(), np.arange(LANES) < 3
    tally.add(
        many,
        Found(np.zeros(LANES), converged=~failed),
        Criterion("x", lambda fits: Found(fits.pvalues[:, 0])),
        0.05,
    )
    assert (tally.done, tally.failed, tally.rejected) == (LANES, 3, LANES - 3)


def test_the_memory_of_a_batch_is_bounded():
    # Data sets of a million rows: fewer at once, where they are simulated row by row at all.
    design, what = intercepts(), truth(0.5)
    prepared = lj.prepare_design(design)
    by_rows, by_statistics = (
        sources.simulated_source(design, prepared, what, 1, by) for by in ("rows", "statistics")
    )
    assert (by_rows.rows, by_statistics.rows) == (GROUPS * ROWS, 0)
    shared = sources.any_lane(prepared)
    assert runner.chunk_lanes(shared, 10**6, 0) == runner.chunk_lanes(shared, 10**6, 60) == LANES
    for rows in (10**5, 10**6):
        lanes = runner.chunk_lanes(shared, 10**6, rows)
        assert lanes * rows <= runner.CPU_CELLS < 2 * lanes * rows
    for wrong in ({"lanes": 0}, {"workers": 0}):
        with pytest.raises(lj.LmmError, match="at least 1, not 0"):
            lj.fit_simulated(design, what, 8, **wrong)


def test_it_stops_when_it_is_sure():
    found = lj.power(intercepts(), truth(0.5), "time", nsim=100_000, key=1, stop_width=0.04)
    low, high = found.interval
    assert high - low < 0.04
    assert found.tally.done < 100_000


@pytest.fixture
def compiled(monkeypatch):
    """Every program that XLA compiles, or JAX takes from its own cache, while the test runs."""
    monkeypatch.setenv("LMMJAX_CACHE", "0")
    names = []

    def listen(event, seconds, **more):
        if event.endswith("backend_compile_duration"):
            names.append(more.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def test_a_curve_compiles_once_for_all_sizes(compiled):
    along = {"groups": [12, 13, 14, 20, 40], "effect": [0.2, 0.4, 0.5, 0.6]}
    for kernel in (runner._fit_lanes, sources._lanes_of_simulated_statistics):
        kernel._loaded.clear()
    jax.clear_caches()
    lj.power(intercepts(), truth(0.5), "time", nsim=LANES, key=1)
    once = len(compiled)
    assert 2 <= once <= 6  # the statistics, the fits, and what makes a key
    curve = lj.power_curve(intercepts, truth(0.5), "time", along=along, nsim=LANES, key=1)
    assert len(compiled) == once, compiled[once:]
    assert len(curve.frame) == 20
    for at, found in curve.cells:
        assert near(found, exact_power(at["effect"], at["groups"]))
    assert "groups" in str(curve)
    assert curve.plot().get_ylabel() == "power of time"


def test_a_curve_from_rows_compiles_once_a_size(compiled):
    def design(groups):
        frame = lj.simulate_design({"id": groups}, crossed={"item": 3}, within={"time": [0, 1]})
        return lj.Design.from_formula("y ~ time + (1 | id) + (1 | item)", frame)

    what = lj.TrueParameters.for_design(design(8), {"time": 1}, {"id": 1, "item": 1}, sigma=1)
    runner._fit_lanes._loaded.clear()
    counts = []
    for groups in (8, 9):
        before = len(compiled)
        along = {"groups": [groups], "effect": [0.5, 1.0, 1.5]}
        curve = lj.power_curve(design, what, "time", along=along, nsim=16, key=1)
        counts.append(len(compiled) - before)
        assert np.all(np.diff(curve.frame.power) >= 0)
    # The rows of another size are simulated by another program; the fits share theirs.
    assert counts[0] >= 2
    assert counts[1] == 1


def test_a_curve_refuses_bad_axes_before_it_computes():
    for along, match in (
        ({"groups": [20, 1]}, "int of at least 2, not 1"),
        ({"effect": [0.5, "big"]}, "finite number, not 'big'"),
        ({"sizes": [3]}, "not 'sizes'"),
        ({"groups": []}, "at least one value"),
    ):
        with pytest.raises(lj.LmmError, match=match):
            lj.power_curve(intercepts(), truth(0.5), "time", along=along, nsim=10**9)


def test_extending_a_pilot(fits):
    fit = fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)")
    larger = lj.extend(fit, along="Subject", n=40)
    np.testing.assert_array_equal(larger.X[:180], fit.design.X)
    np.testing.assert_array_equal(larger.X[180:360], fit.design.X)
    assert len(set(larger.terms[0].levels)) == 40
    pilot = fits("sleepstudy", "Reaction ~ Days + (1 | Subject)")
    own = lj.TrueParameters.from_fit(pilot)
    for what in (None, own, own.with_fixed({"(Intercept)": 0})):
        with pytest.warns(lj.LmmWarning, match="observed power"):
            lj.power(pilot, what, nsim=LANES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lj.power(pilot, own.with_fixed(Days=1), nsim=LANES)
    assert lj.extend(fit, within="Subject", n=25).X.shape == (450, 2)
    with pytest.raises(lj.LmmError, match="grouping factor"):
        lj.extend(fit, along="Subjects", n=40)
    with pytest.raises(lj.LmmError, match="either"):
        lj.extend(fit, n=40)


def test_a_fit_keeps_its_structures():
    formula, data = "Reaction ~ {}1 + (1 + Days | Subject)", lj.datasets.load("sleepstudy")
    diagonal = {"Subject": lj.covariance.Diagonal}
    fit = lj.lmm(formula.format("Days + "), data, covariance=diagonal, method="ML")
    small = lj.lmm(formula.format(""), data, covariance=diagonal, method="ML")
    what = lj.TrueParameters.from_fit(fit).with_fixed(Days=4)
    found = lj.power(fit, what, lj.LikelihoodRatio(small), nsim=16, key=1)
    Y = lj.simulate(fit.design, what, 16, key=1)
    statistic = lj.fit_many(small, Y).criterion - lj.fit_many(fit, Y).criterion
    rejected = np.count_nonzero(chdtrc(1, statistic) < 0.05)
    assert 0 < found.tally.rejected == rejected < 16
    with pytest.warns(lj.LmmWarning, match="covariance structures"):
        lj.extend(fit, along="Subject", n=20)


def test_a_curve_keeps_the_method_of_its_pilot():
    frame = lj.simulate_design({"id": GROUPS}, within={"time": range(ROWS)})
    y = lj.simulate(intercepts(), truth(0.5), 1, key=1)[0]
    fit = lj.lmm("y ~ time + (1 | id)", frame.assign(y=y), method="ML")
    options = {"test": "time", "nsim": LANES, "key": 1}
    curve = lj.power_curve(fit, truth(0.5), along={"groups": [GROUPS, 20]}, **options)
    by = [lj.power(intercepts(), truth(0.5), method=m, **options).power for m in ("ML", "REML")]
    assert curve.frame.power[0] == by[0] > by[1]


def test_bad_arguments():
    for options, match in (
        ({"alpha": 5}, "alpha"),
        ({"nsim": 0}, "nsim"),
        ({"ddf": "exact"}, "ddf"),
        ({"test": "tim"}, "tim"),
        ({"alpha": "5%"}, "alpha"),
        ({"stop_width": -1}, "stop_width"),
        ({"checkpoint": "/"}, "folder"),
        ({"test": [1.0]}, "2 coefficients"),
        ({"test": [0.0, 0.0]}, "zero"),
        ({"test": [np.nan, 1.0]}, "finite"),
        ({"test": [[1.0, 1.0], [2.0, 2.0]]}, "only 1"),
        ({"test": [[1.0], [2.0, 3.0]]}, "hypothes"),
    ):
        with pytest.raises(lj.LmmError, match=match):
            lj.power(intercepts(), truth(0.5), **{"nsim": LANES, **options})
    with pytest.raises(lj.LmmError, match="truth"):
        lj.power(intercepts())


def test_command_line(tmp_path, capsys):
    spec = tmp_path / "study.toml"
    spec.write_text(
        'formula = "y ~ time + (1 | id)"\ntest = "time"\n'
        "[design]\ngroups = { id = 12 }\nwithin = { time = [0, 1, 2, 3, 4] }\n"
        "[truth]\nfixed = { time = 0.5 }\nsd = 2\nsigma = 3\n"
        "[study]\nnsim = 500\nkey = 1\n[along]\ngroups = [12, 20]\n"
    )
    out, picture = tmp_path / "power.json", tmp_path / "power.png"
    assert main(["power", str(spec), "--json", str(out), "--plot", str(picture)]) == 0
    assert "Power of time" in capsys.readouterr().out
    rows = json.loads(out.read_text())["power"]
    assert [row["groups"] for row in rows] == [12, 20]
    assert picture.stat().st_size > 1000
    spec.write_text(spec.read_text().replace("sigma = 3", "sigmas = 3"))
    assert main(["power", str(spec)]) == 2
    assert "'sigmas', which means nothing" in capsys.readouterr().err
    assert studies.WINDOW >= 1
