"""Power studies: exact power where it is known, the same data sets whatever happens on the way."""

from __future__ import annotations

import json

import numpy as np
import pytest

import lmmjax as lj
from lmmjax.cli import main
from lmmjax.many import runner
from lmmjax.studies import study as studies
from lmmjax.studies.tally import Tally

GROUPS, ROWS, SIGMA, TAU = 12, 5, 3.0, 2.0


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


def test_the_same_as_a_loop_of_single_fits():
    design, what = intercepts(), truth(0.5)
    many = lj.fit_simulated(design, what, 200, key=5)
    found = lj.power(design, what, "time", nsim=200, key=5)
    assert found.tally.rejected == np.count_nonzero(many.pvalues[:, 1] < 0.05)
    own = lj.power(design, what, lambda fits: fits.pvalues[:, 1], nsim=200, key=5)
    assert own.tally.rejected == found.tally.rejected
    by_weights = lj.power(design, what, [0.0, 1.0], nsim=200, key=5)
    assert by_weights.tally.rejected == found.tally.rejected
    shifted = lj.power(design, what, "time = 0.5", nsim=200, key=5)
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
    from lmmjax.studies.criteria import criterion

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


def test_it_stops_when_it_is_sure():
    found = lj.power(intercepts(), truth(0.5), "time", nsim=100_000, key=1, stop_width=0.04)
    low, high = found.interval
    assert high - low < 0.04
    assert found.tally.done < 100_000


def test_a_curve_compiles_once_for_all_sizes():
    along = {"groups": [12, 13, 20, 40], "effect": [0.2, 0.5]}
    lj.power(intercepts(), truth(0.5), "time", nsim=500, key=1)
    before = len(runner._fit_lanes._loaded)
    curve = lj.power_curve(intercepts, truth(0.5), "time", along=along, nsim=500, key=1)
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
        lj.power(fit, nsim=10)
    with pytest.raises(lj.LmmError, match="grouping factor"):
        lj.extend(fit, along="Subjects", n=40)
    with pytest.raises(lj.LmmError, match="either"):
        lj.extend(fit, n=40)


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
            lj.power(intercepts(), truth(0.5), **{"nsim": 20, **options})
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
