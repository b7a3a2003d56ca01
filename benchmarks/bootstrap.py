"""1,000 bootstrap draws beside lme4's bootMer in one run: ``python benchmarks/bootstrap.py``.

sleepstudy's random-slope model by REML; fixed effects, standard deviations, correlation and sigma
of every draw. Both make all the draws (``--draws``); bootMer in one process, and in as many as
there are processors, which is what it has for more than one. Rounds in turn. The first call is
timed in new processes: with nothing compiled before, and with the compiled functions on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

import numpy as np

FORMULA = "Reaction ~ Days + (1 + Days | Subject)"
SCRIPT = """
suppressMessages(library(lme4))
draws <- as.integer(commandArgs(TRUE)[1]); cores <- as.integer(commandArgs(TRUE)[2])
fit <- lmer(Reaction ~ Days + (1 + Days | Subject), sleepstudy)
all <- function(f) c(as.data.frame(VarCorr(f), order = "lower.tri")$sdcor, fixef(f))
how <- if (cores > 1) "multicore" else "no"
took <- system.time(b <- suppressWarnings(suppressMessages(
  bootMer(fit, all, nsim = draws, parallel = how, ncpus = cores))))[["elapsed"]]
cat(sprintf('{"seconds": %f, "version": "lme4 %s (R %s)", "error": [%s]}', took,
  packageVersion("lme4"), getRversion(), paste(apply(b$t, 2, sd, na.rm = TRUE), collapse = ", ")))
"""


def ours(fit: Any, draws: int, key: int) -> tuple[float, np.ndarray]:
    """Seconds that the draws and their table take, and the standard errors in it."""
    begin = time.perf_counter()
    frame = fit.bootstrap(draws, key=key).frame
    return time.perf_counter() - begin, frame["std_error"].to_numpy()


def make_fit() -> Any:
    import lmmjax as lj

    return lj.lmm(FORMULA, lj.datasets.load("sleepstudy"))


def first_call(draws: int, folder: str) -> float:
    """Seconds of the first bootstrap in a new process, the model fitted before."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, __file__, "--first", "--draws", str(draws)]
    out = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"LMMJAX_CACHE_DIR": folder},
    )
    return float(out.stdout)


def boot_mer(draws: int, cores: int) -> dict[str, Any]:
    """What lme4 takes."""
    command = ["Rscript", "-e", SCRIPT, str(draws), str(cores)]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a parametric bootstrap.")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    draws = options.draws
    if options.first:
        print(ours(make_fit(), draws, 0)[0])
        return
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = first_call(draws, folder), first_call(draws, folder)
    fit = make_fit()
    ours(fit, draws, 0)
    processors = os.cpu_count() or 1
    counts = sorted({1, processors}) if shutil.which("Rscript") else []
    times: list[float] = []
    theirs: dict[int, list[dict[str, Any]]] = {cores: [] for cores in counts}
    error = np.zeros(0)
    for turn in range(options.rounds):
        for each in range(7):
            seconds, error = ours(fit, draws, 1 + each + 7 * turn)
            times.append(seconds)
        for cores, found in theirs.items():
            found.append(boot_mer(draws, cores))
    middle = median(times)
    versions = {found[0]["version"] for found in theirs.values()}
    print(
        f"# Bootstrap benchmark: {draws:,} draws of `{FORMULA}`\n\n"
        f"{platform.machine()}, {processors} cores; load average at the start {load:.1f}; "
        f"{'; '.join(['lmmjax', *versions])}\n\n"
        "| who | seconds | times lmmjax |\n| --- | --- | --- |\n"
        f"| lmmjax, median of {len(times)} | {middle:.4f} | 1 |\n"
        f"| lmmjax, first call, nothing compiled | {cold:.2f} | |\n"
        f"| lmmjax, first call of a process, compiled before | {warm:.2f} | |"
    )
    for cores, found in theirs.items():
        took = median(one["seconds"] for one in found)
        processes = "one process" if cores == 1 else f"{cores} processes"
        name = f"lme4, bootMer, {processes}, median of {len(found)}"
        print(f"| {name} | {took:.1f} | {took / middle:,.0f} |")
    if not theirs:
        print("\nlme4 is absent: no Rscript.")
        return
    gap = np.max(np.abs(error / np.array(theirs[1][-1]["error"]) - 1))
    print(
        f"\nLargest difference of a standard error: {gap:.1%} (Monte Carlo error of each "
        f"{1 / np.sqrt(2 * draws):.1%})."
    )


if __name__ == "__main__":
    main()
