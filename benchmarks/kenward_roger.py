"""Type III anova by Kenward-Roger, beside lmerTest's: ``python benchmarks/kenward_roger.py``.

Two kinds of design, from a fit in memory to the table:

- random slopes, ``y ~ arm * time + (1 + time | id)``, 5 rows a group, one group in seven without
  its last row, so that the df are not whole;
- crossed, ``y ~ arm * kind + (1 | subject) + (1 | item)``, arms of subjects and kinds of items.

Designs grow until R, which asks pbkrtest for matrices of rows x rows (sparse among the groups of
one factor, full where factors cross), fails or takes longer than ``--limit`` seconds; both fit the
same response, R in a process of its own. The last size of each kind only lmmjax is asked for.
"first" is the first call in a process that has compiled nothing (an empty cache), "median" that of
later ones, each of another fit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from durations import duration

FORMULAS = {
    "slopes": "y ~ arm * time + (1 + time | id)",
    "crossed": "y ~ arm * kind + (1 | subject) + (1 | item)",
}
#: Groups, or subjects and as many items.
SIZES = {
    "slopes": (50, 500, 2000, 5000, 10_000, 20_000, 50_000),
    "crossed": (10, 30, 60, 80, 100, 200),
}
SCRIPT = """
suppressMessages({library(lmerTest); library(jsonlite)})
a <- commandArgs(TRUE)
d <- read.csv(a[1])
for (name in intersect(c("id", "arm", "subject", "item", "kind"), names(d)))
  d[[name]] <- factor(d[[name]])
fit <- lmer(as.formula(a[2]), d, control = lmerControl(calc.derivs = FALSE))
took <- system.time(a <- anova(fit, type = 3, ddf = "Kenward-Roger"))[["elapsed"]]
cat(toJSON(list(seconds = took, f = a[["F value"]], df = a[["DenDF"]],
  version = paste0("lmerTest ", packageVersion("lmerTest"), ", pbkrtest ",
                   packageVersion("pbkrtest"))), digits = 12, auto_unbox = TRUE))
"""


def study(kind: str, size: int) -> Any:
    """A data frame with a response."""
    import lmmjax as lj

    sd: Any
    if kind == "slopes":
        frame = lj.simulate_design({"id": size}, within={"time": range(5)}, between={"arm": 2})
        frame = frame[frame.index % 35 != 4].reset_index(drop=True)
        fixed, sd, correlation = {"(Intercept)": 50, "time": 3}, [10, 2], 0.25
    else:
        frame = lj.simulate_design({"subject": size}, crossed={"item": size}, between={"arm": 2})
        frame["kind"] = np.where(np.arange(len(frame)) % size < 0.4 * size, "word", "picture")
        fixed, sd, correlation = {"(Intercept)": 50}, {"subject": 5, "item": 3}, None
    design = lj.Design.from_formula(FORMULAS[kind], frame)
    truth = lj.TrueParameters.for_design(design, fixed, sd=sd, correlation=correlation, sigma=5)
    return frame.assign(y=lj.simulate(design, truth, 1, key=1)[0])


def ours(kind: str, size: int, repeats: int) -> dict[str, Any]:
    """Seconds of every call, and the table."""
    import lmmjax as lj

    fit = lj.lmm(FORMULAS[kind], study(kind, size))
    seconds = []
    for _ in range(repeats + 1):
        # A fit keeps Kenward and Roger's quantities: another has to find them again.
        fit = fit.refit(fit.design.y)
        begin = time.perf_counter()
        table = fit.anova(type="III", ddf="kenward-roger").frame
        seconds.append(time.perf_counter() - begin)
    return {
        "seconds": seconds,
        "f": table["F value"].tolist(),
        "df": table["DenDF"].tolist(),
        "rows": len(fit.fittedvalues),
    }


def ask_ours(kind: str, size: int, repeats: int) -> dict[str, Any]:
    """The same in a process of its own, with nothing compiled before."""
    env = {**os.environ, "LMMJAX_CACHE": "0"}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [sys.executable, __file__, "--ours", kind, "--size", str(size)]
    command += ["--repeats", str(repeats)]
    out = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return json.loads(out.stdout)


def ask_r(kind: str, size: int, limit: float, folder: str) -> dict[str, Any] | str:
    """R's seconds and table, or why there are none."""
    path = Path(folder) / "study.csv"
    study(kind, size).to_csv(path, index=False)
    command = ["Rscript", "-e", SCRIPT, str(path), FORMULAS[kind]]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"longer than {limit:.0f} s"
    if out.returncode:
        return (out.stderr.strip().splitlines() or [f"stopped ({out.returncode})"])[-1]
    return json.loads(out.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="*", default=list(FORMULAS), choices=list(FORMULAS))
    parser.add_argument("--limit", type=float, default=400, help="seconds that R may take")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(ours(options.ours, options.size, options.repeats)))
        return
    print("| design | rows | lmmjax, first | median | lmerTest | ratio | F and df differ by |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    version = "no R"
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            there = shutil.which("Rscript") is not None
            for size in SIZES[kind]:
                mine = ask_ours(kind, size, options.repeats)
                first, middle = mine["seconds"][0], median(mine["seconds"][1:])
                cells = ["", "", ""]
                if there and size != SIZES[kind][-1]:
                    theirs = ask_r(kind, size, options.limit, folder)
                    if isinstance(theirs, str):
                        cells[0], there = theirs, False
                    else:
                        version = theirs["version"]
                        gap = max(
                            float(np.max(np.abs(np.divide(mine[name], theirs[name]) - 1)))
                            for name in ("f", "df")
                        )
                        ratio = theirs["seconds"] / middle
                        cells = [duration(theirs["seconds"]), f"{ratio:,.0f} x", f"{gap:.1e}"]
                name = f"{size:,} groups" if kind == "slopes" else f"crossed {size} x {size}"
                row = [name, f"{mine['rows']:,}", duration(first), duration(middle), *cells]
                print("| " + " | ".join(row) + " |", flush=True)
    print(f"\n{version}; {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
