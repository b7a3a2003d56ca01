"""1,000 bootstrap draws beside lme4's bootMer in one run: ``python benchmarks/bootstrap.py``.

sleepstudy's random-slope model by REML; fixed effects, standard deviations, correlation and sigma
of every draw. bootMer is timed on fewer draws (``--draws``) and scaled: its cost is proportional to
their number.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from statistics import median

SCRIPT = """
suppressMessages(library(lme4))
d <- sleepstudy
fit <- lmer(Reaction ~ Days + (1 + Days | Subject), d)
all <- function(f) c(fixef(f), as.data.frame(VarCorr(f))$sdcor)
n <- as.integer(commandArgs(TRUE)[1])
took <- system.time(suppressWarnings(suppressMessages(bootMer(fit, all, nsim = n))))[["elapsed"]]
cat(took / n)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=100, help="of bootMer")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    import lmmjax as lj

    fit = lj.lmm("Reaction ~ Days + (1 + Days | Subject)", lj.datasets.load("sleepstudy"))
    times = []
    for i in range(options.rounds + 1):
        begin = time.perf_counter()
        fit.bootstrap(1000, key=i).frame  # noqa: B018
        times.append(time.perf_counter() - begin)
    ours = median(times[1:])
    print("| 1,000 draws | seconds | |\n|---|---|---|")
    print(f"| lmmjax, first call (compiles, or reads what was compiled) | {times[0]:.2f} | |")
    print(f"| lmmjax | {ours:.4f} | |")
    if shutil.which("Rscript"):
        command = ["Rscript", "-e", SCRIPT, str(options.draws)]
        out = subprocess.run(command, capture_output=True, text=True, check=True)
        theirs = float(out.stdout) * 1000
        name = f"lme4, bootMer ({options.draws} draws, scaled)"
        print(f"| {name} | {theirs:.1f} | {theirs / ours:,.0f} x |")


if __name__ == "__main__":
    main()
