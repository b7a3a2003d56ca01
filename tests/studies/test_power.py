"""Power studies: exact power where it is known, the same data sets whatever happens on the way."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import chdtrc

import lmmjax as lj
from lmmjax.cli import main
from lmmjax.many import runner
from lmmjax.studies import study as studies
from lmmjax.studies.criteria import Criterion, Found, code_identity, criterion
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
    batches = studies._likelihood_ratio_batches(design, smaller, what, 6)
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
    with pytest.raises(lj.LmmError, match="no fewer parameters"):
        lj.power(smaller, truth(0.5), lj.LikelihoodRatio(intercepts()), nsim=10)


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


def test_it_stops_when_it_is_sure():
    found = lj.power(intercepts(), truth(0.5), "time", nsim=100_000, key=1, stop_width=0.04)
    low, high = found.interval
    assert high - low < 0.04
    assert found.tally.done < 100_000


def test_a_curve_compiles_once_for_all_sizes():
    along = {"groups": [12, 13, 20, 40], "effect": [0.2, 0.5]}
    lj.power(intercepts(), truth(0.5), "time", nsim=LANES, key=1)
    before = len(runner._fit_lanes._loaded)
    curve = lj.power_curve(intercepts, truth(0.5), "time", along=along, nsim=LANES, key=1)
    assert len(runner._fit_lanes._loaded) == before
    assert len(curve.frame) == 8
    for at, found in curve.cells:
        assert near(found, exact_power(at["effect"], at["groups"]))
    assert "groups" in str(curve)
    assert curve.plot().get_ylabel() == "power of time"


def test_extending_a_pilot(fits):
    fit = fits("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)")
    larger = lj.extend(fit, along="Subject", n=40)
    np.testing.assert_array_equal(larger.X[:180], fit.design.X)
    np.testing.assert_array_equal(larger.X[180:360], fit.design.X)
    assert len(set(larger.terms[0].levels)) == 40
    with pytest.warns(lj.LmmWarning, match="observed power"):
        lj.power(fits("sleepstudy", "Reaction ~ Days + (1 | Subject)"), nsim=LANES)
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
        ({"test": [1.0]}, "weights"),
        ({"test": lambda fits: 0.5}, "shape"),
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
