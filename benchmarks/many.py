"""How many fits a second, beside the peers, in one run: ``python benchmarks/many.py``.

The worked example's design is fitted: 50 subjects x 5 times, a random slope, REML. "fit" is the
fit alone from the cross-products on, with standard errors and Satterthwaite's df; "end to end"
simulates the data too and ends with p values, from simulated rows or from simulated sufficient
statistics. Then come the same with more groups, every group a design of its own, crossed factors,
and a curve of cost against replicates, groups, and random effects. Peers fit the same responses
one after the other. Compile times (a fresh cache) are apart. Medians of rounds in turn.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).parent
SLOPE = "y ~ time + (1 + time | id)"
CROSSED = "y ~ 1 + (1 | subject) + (1 | item)"


@dataclass
class Study:
    """A design with true parameters, ready to make and fit lanes."""

    name: str
    design: Any
    truth: Any

    def __post_init__(self) -> None:
        import lmmjax as lj
        from lmmjax.many.runner import chunk_lanes
        from lmmjax.many.sources import any_lane

        self.prepared = lj.prepare_design(self.design)
        self.shared = any_lane(self.prepared)
        self.lanes = chunk_lanes(self.shared, 1 << 20)

    def source(self, by: str = "auto") -> Callable[[int, int], Any]:
        from lmmjax.many.sources import simulated_source

        return simulated_source(self.design, self.prepared, self.truth, 1, by)  # type: ignore[arg-type]

    def fit(self, source: Callable[[int, int], Any], replicates: int) -> Any:
        """All the way to p values; returns rates that should not be zero unnoticed."""
        from lmmjax.many.fits import ManyFits
        from lmmjax.many.runner import fit_chunks

        rejected = failed = 0
        for chunk in fit_chunks(self.prepared, self.shared, source, replicates):
            fits = ManyFits(self.design, self.prepared, True, chunk.estimate)
            rejected += int(np.count_nonzero(fits.pvalues[:, -1] < 0.05))
            failed += int(np.count_nonzero(~fits.converged))
        return rejected, failed

    def ready(self, source: Callable[[int, int], Any], batches: int) -> Callable[[int, int], Any]:
        """Lanes made beforehand, so that the fit alone is timed."""
        from lmmjax.many.sources import Source

        made = [source(i * self.lanes, self.lanes) for i in range(batches)]
        return Source(lambda first, lanes: made[(first // lanes) % batches], 0)


def slope(groups: int, *, jitter: float = 0.0, effects: int = 2, rows: int = 5) -> Study:
    import lmmjax as lj

    frame = lj.simulate_design({"id": groups}, within={"time": range(rows)})
    frame["time"] += jitter * np.random.default_rng(1).normal(size=len(frame))
    frame["time2"] = frame.time**2
    formula = {
        1: "y ~ time + (1 | id)",
        2: SLOPE,
        3: "y ~ time + time2 + (1 + time + time2 | id)",
    }[effects]
    design = lj.Design.from_formula(formula, frame)
    truth = lj.TrueParameters.for_design(
        design,
        {"(Intercept)": 50, "time": 3},
        sd={"id": [10.0, 2.0, 1.0][:effects]},
        correlation={"id": 0.25 if effects == 2 else 0.0},
        sigma=5,
    )
    kind = "each its own design" if jitter else "balanced"
    return Study(f"{groups} groups x {rows}, {effects} effects a group, {kind}", design, truth)


def crossed() -> Study:
    import lmmjax as lj

    frame = lj.simulate_design({"subject": 30}, crossed={"item": 40})
    design = lj.Design.from_formula(CROSSED, frame)
    truth = lj.TrueParameters.for_design(
        design, {"(Intercept)": 3}, sd={"subject": 2.0, "item": 1.0}, sigma=3
    )
    return Study("crossed 30 x 40", design, truth)


def rate(run: Callable[[], Any], count: int, rounds: int) -> tuple[float, float]:
    """Median and best of fits a second."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return count / median(times), count / min(times)


def show(label: str, rates: tuple[float, float], note: str = "") -> None:
    middle, best = rates
    print(f"| {label} | {middle:,.0f} | {best:,.0f} | {1e6 / middle:,.1f} | {note} |", flush=True)


def compile_times() -> None:
    """Each in a process of its own with an empty cache."""
    print("\n| first call, compiled from nothing | source, s | fit, s |\n|---|---|---|")
    for what in ("slope", "three", "own", "crossed"):
        env = {**os.environ, "LMMJAX_CACHE": "0"}
        env.pop("JAX_COMPILATION_CACHE_DIR", None)
        command = [sys.executable, __file__, "--compile", what]
        out = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        print(out.stdout.strip(), flush=True)


def compile_once(what: str) -> None:
    from lmmjax.many.sources import Source

    study = {
        "slope": lambda: slope(50),
        "three": lambda: slope(50, effects=3),
        "own": lambda: slope(50, jitter=0.3),
        "crossed": crossed,
    }[what]()
    begin = time.perf_counter()
    own = study.source()(0, study.lanes)
    middle = time.perf_counter()
    study.fit(Source(lambda first, lanes: own, 0), study.lanes)
    end = time.perf_counter()
    print(f"| {study.name} | {middle - begin:.1f} | {end - middle:.1f} |")


def responses(study: Study, count: int) -> np.ndarray:
    from lmmjax.simulation.rows import RowDesign, simulate_rows

    return simulate_rows(RowDesign.of(study.design), study.truth, count, 1)


def r_peers(kind: str, Y: np.ndarray, frame: Any, folder: Path) -> list[tuple[str, float]]:
    """Seconds a fit of lme4's refit, and with lmerTest's table."""
    if shutil.which("Rscript") is None:
        return []
    frame.to_csv(folder / "design.csv", index=False)
    np.savetxt(folder / "y.csv", Y, delimiter=",", fmt="%.10g")
    command = ["Rscript", str(HERE / "many_peers.R"), kind, str(folder)]
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode:
        print(f"(R: {out.stderr.strip().splitlines()[-1]})")
        return []
    lines = [line.split("\t") for line in out.stdout.splitlines() if "\t" in line]
    return [(name, float(seconds)) for name, seconds in lines]


def python_peers(Y: np.ndarray, frame: Any) -> list[tuple[str, float]]:
    found = []
    if importlib.util.find_spec("glmm"):
        import glmm  # type: ignore[import-not-found]

        frames = [dict(frame.assign(y=y).items()) for y in Y]
        glmm.fit(frames[0], SLOPE)
        begin = time.perf_counter()
        for each in frames:
            glmm.fit(each, SLOPE)
        seconds = (time.perf_counter() - begin) / len(Y)
        found.append((f"glmm {importlib.metadata.version('glmm')}, SE and df", seconds))
    if importlib.util.find_spec("lme_python"):
        import lme_python  # type: ignore[import-not-found]
        import polars as pl

        data = pl.from_pandas(frame.assign(y=Y[0], id=frame.id.astype(str)))
        fit = lme_python.lmer(SLOPE, data)
        lme_python.boot_lmer(SLOPE, data, fit, nsim=20)
        begin = time.perf_counter()
        lme_python.boot_lmer(SLOPE, data, fit, nsim=500)
        seconds = (time.perf_counter() - begin) / 500
        version = importlib.metadata.version("lme-python")
        found.append((f"lme-python {version}, boot_lmer, estimates only", seconds))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="without compile times and the curve")
    parser.add_argument("--compile", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compile:
        compile_once(options.compile)
        return
    count, rounds = options.replicates, options.rounds
    import jax

    print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} processors; JAX {jax.__version__}")
    print(
        "\n| fits | a second (median) | best round | microseconds a fit | |\n|---|---|---|---|---|"
    )
    base, rows_too = slope(50), []
    batches = max(1, min(count // base.lanes, 64))
    whole = batches * base.lanes
    ready = base.ready(base.source(), batches)
    base.fit(ready, whole)
    alone = rate(lambda: base.fit(ready, whole), whole, rounds)
    show(f"{base.name}: fit, SE, df, p", alone)
    for by in ("statistics", "rows"):
        source = base.source(by)
        base.fit(source, whole)
        found = rate(lambda s=source: base.fit(s, whole), whole, rounds)
        show(f"{base.name}: end to end, simulated {by}", found)
        rows_too.append(found)
    large = slope(1000)
    ready = large.ready(large.source(), batches)
    large.fit(ready, whole)
    found = rate(lambda: large.fit(ready, whole), whole, rounds)
    show(f"{large.name}: fit, SE, df, p", found, f"{alone[0] / found[0]:.2f} x the cost of 50")
    for study in (slope(50, jitter=0.3), crossed()):
        source, few = study.source(), min(count, 2048)
        lanes = study.ready(source, max(1, few // study.lanes))
        study.fit(lanes, few)
        found = rate(lambda s=study, a=lanes, n=few: s.fit(a, n), few, rounds)
        show(f"{study.name}: fit, SE, df, p", found)
        if study.name.startswith("crossed"):
            cross, cross_rate = study, found[0]

    print("\n| peers, one fit after the other | milliseconds a fit | lmmjax end to end is |")
    print("|---|---|---|")
    import lmmjax as lj

    frame = lj.simulate_design({"id": 50}, within={"time": range(5)})
    Y = responses(base, 100)
    with tempfile.TemporaryDirectory() as folder:
        peers = r_peers("slope", Y, frame, Path(folder)) + python_peers(Y, frame)
        for name, seconds in peers:
            times = seconds * rows_too[-1][0]
            print(f"| {name} | {seconds * 1e3:.2f} | {times:,.0f} x as fast |", flush=True)
        frame = lj.simulate_design({"subject": 30}, crossed={"item": 40})
        for name, seconds in r_peers("crossed", responses(cross, 20), frame, Path(folder)):
            print(
                f"| {name}, crossed 30 x 40 | {seconds * 1e3:.2f} | "
                f"{seconds * cross_rate:,.0f} x as fast (fit alone) |"
            )
    if options.quick:
        return
    compile_times()
    print("\n| cost by | microseconds a fit, end to end |\n|---|---|")
    curve = [(f"{n} replicates", slope(50), n) for n in (100, 1000, 10_000, 100_000)]
    curve += [(f"{g} groups", slope(g), 10_000) for g in (10, 100, 1000, 10_000)]
    curve += [(f"{k} effects a group", slope(50, effects=k), 4096) for k in (1, 2, 3)]
    for label, study, n in curve:
        source = study.source()
        study.fit(source, n)
        middle, _ = rate(lambda s=study, a=source, n=n: s.fit(a, n), n, 3)
        print(f"| {label} | {1e6 / middle:,.1f} |", flush=True)


if __name__ == "__main__":
    main()
