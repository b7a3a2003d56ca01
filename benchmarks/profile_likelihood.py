"""How long profile intervals take, beside lme4's: ``python benchmarks/profile_likelihood.py``.

All parameters of the random-slope model of sleepstudy, from a fit in memory to intervals. lme4
works in a process of its own, and both are asked for a few repeats in turn, round after round, so
that a noisy minute of the machine falls on both. Given are the first call in the process
(compilation, with nothing cached on disk; imports and the fit itself are done before), the median
and the fastest of the later ones, and the largest difference between the limits, in parts of an
interval's width.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from durations import duration

HERE = Path(__file__).parent
DATA = HERE.parent / "lmmjax" / "datasets" / "data" / "sleepstudy.csv"


class Lme4:
    """R's process, and the conversation with it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["Rscript", str(HERE / "profile_peers.R"), str(DATA)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.version = self._answer()["version"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@@"):
                return json.loads(line[2:])
        raise RuntimeError("R ended before it answered")

    def ask(self, repeats: int) -> tuple[list[float], np.ndarray]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{repeats}\n")
        self.process.stdin.flush()
        answer = self._answer()
        return answer["seconds"], np.array(answer["intervals"])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


class Ours:
    """The same in this process."""

    def __init__(self) -> None:
        import lmmjax as lj

        self.fit = lj.lmm("Reaction ~ Days + (1 + Days | Subject)", lj.datasets.load("sleepstudy"))
        self.version = f"lmmjax (Python {platform.python_version()})"

    def ask(self, repeats: int) -> tuple[list[float], np.ndarray]:
        seconds, found = [], None
        for _ in range(repeats):
            before = time.perf_counter()
            found = self.fit.conf_int(method="profile")
            seconds.append(time.perf_counter() - before)
        assert found is not None
        return seconds, found.to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time profile intervals.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the report to this file too")
    options = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LMMJAX_CACHE_DIR"] = folder
        workers: dict[str, tuple[Any, int]] = {"lmmjax": (Ours(), 20)}
        if shutil.which("Rscript"):
            workers["lme4"] = (Lme4(), 1)
        times: dict[str, list[float]] = {name: [] for name in workers}
        intervals: dict[str, np.ndarray] = {}
        for turn in range(options.rounds + 1):  # turn 0 is the first call
            for name, (worker, repeats) in workers.items():
                seconds, intervals[name] = worker.ask(repeats if turn else 1)
                times[name] += seconds
    lines = [
        "# Profile benchmark: all intervals of `Reaction ~ Days + (1 + Days | Subject)`",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores; {platform.system()}; load average at the "
        f"start {load:.1f}; {'; '.join(worker.version for worker, _ in workers.values())}",
        "",
        "| who | first call | median | fastest | n | times lmmjax |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    middle = {name: median(each[1:]) for name, each in times.items()}
    for name, each in times.items():
        lines.append(
            f"| {name} | {duration(each[0])} | {duration(middle[name])} "
            f"| {duration(min(each[1:]))} | {len(each) - 1} "
            f"| {middle[name] / middle['lmmjax']:.3g} |"
        )
    if "lme4" in workers:
        workers["lme4"][0].stop()
        ours, theirs = intervals["lmmjax"], intervals["lme4"]
        gap = np.max(np.abs(ours - theirs) / np.diff(theirs, axis=1))
        lines += ["", f"Largest difference of a limit: {gap:.1e} of the interval's width."]
    else:
        lines += ["", "lme4 is absent: no Rscript."]
    print("\n".join(lines))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
