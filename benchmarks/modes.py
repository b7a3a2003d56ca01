"""How often a fit misses the best optimum: ``python benchmarks/modes.py``.

Hard data sets in five families are fitted once from the moment start ("one run"), by lmmjax as it
is, and by lme4 with its default optimizer. Each is compared with the best of 50 runs from random
starts: a miss ends more than 1e-4 above it. "in doubt" are the fits that were tried from other
starts, "not doubted" the misses of one run that were not.

The designs have groups that say very different amounts of an effect, and effects from heavy tails
or with outliers: where a criterion has more than one optimum. Those of ordinary data are the last
line. lme4 needs ``Rscript``; without it its column is empty.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

#: A criterion higher by more is a miss.
MISS = 1e-4
#: Random starts' standard deviations, relative to the residual's.
LOW, HIGH = 0.01, 30.0

Made = tuple[str, pd.DataFrame]


def information(rng: np.random.Generator, groups: int) -> np.ndarray:
    """Spread of a covariate in each group: alike in all, or very different."""
    kind = rng.integers(4)
    if kind == 0:
        return np.ones(groups)
    if kind == 1:
        return np.exp(rng.normal(0, 1.5, groups))
    if kind == 2:
        return rng.choice([0.0, 0.02, 1.0], groups, p=[0.25, 0.5, 0.25])
    return rng.choice([0.05, 1.0, 5.0], groups)


def effects(rng: np.random.Generator, groups: int) -> np.ndarray:
    """Random effects from heavy or light tails, often with one outlier."""
    found = rng.standard_t(rng.choice([1, 2, 30]), groups) * rng.choice([0.0, 0.3, 1.0, 5.0])
    if rng.random() < 0.6:
        sign = rng.choice([-1, 1])
        found[rng.integers(groups)] = sign * np.exp(rng.uniform(np.log(3), np.log(300)))
    return found


def outlying(rng: np.random.Generator) -> Made:
    """One or two groups with steep slopes, where the covariate hardly varies."""
    groups, times = int(rng.integers(17, 33)), int(rng.integers(5, 10))
    spread = np.repeat([0.0, 0.02, 1.0], [groups // 4, groups // 2, groups])[:groups]
    spread = rng.permutation(spread)
    g = np.repeat(np.arange(groups), times)
    x = rng.uniform(0, rng.choice([1.0, 10.0]), g.size) * spread[g]
    slope = rng.normal(0, rng.choice([0.0, 1.0]), groups)
    out = rng.choice(np.flatnonzero(spread == 0.02), rng.integers(1, 3), replace=False)
    slope[out] = np.exp(rng.uniform(np.log(20), np.log(300), out.size)) * rng.choice([-1, 1])
    noise = rng.normal(0, rng.choice([0.3, 1.0, 5.0]), g.size)
    y = rng.normal(0, 1, groups)[g] + slope[g] * x + noise
    return "y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": g})


def few(rng: np.random.Generator) -> Made:
    """Five to eight groups of very different size."""
    groups = int(rng.integers(5, 9))
    size = rng.integers(2, 12, groups)
    size[0] = 25
    g = np.repeat(np.arange(groups), size)
    x = rng.normal(size=g.size) * information(rng, groups)[g]
    x += rng.choice([0.0, 1.0]) * rng.normal(size=groups)[g]
    y = effects(rng, groups)[g] + effects(rng, groups)[g] * x + rng.normal(size=g.size)
    return "y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": g})


def singular(rng: np.random.Generator) -> Made:
    """Variances near zero, correlations near one, groups of one row and more."""
    groups = int(rng.integers(9, 17))
    g = np.repeat(np.arange(groups), rng.integers(1, 9, groups))
    x = rng.normal(size=g.size) * information(rng, groups)[g]
    x += rng.choice([0.0, 1.0]) * rng.normal(size=groups)[g]
    a, r = rng.normal(size=groups), rng.choice([0.0, 1.0, -1.0])
    b = r * a + (1 - abs(r)) * rng.normal(size=groups)
    y = rng.choice([0.0, 0.1, 0.5]) * a[g] + rng.choice([0.0, 0.1, 0.5, 2.0]) * b[g] * x
    y += rng.normal(size=g.size)
    return "y ~ x + (x | g)", pd.DataFrame({"y": y, "x": x, "g": g})


def crossed(rng: np.random.Generator) -> Made:
    """Twelve by six levels, cells of different size, some empty."""
    a, b = 12, 6
    cells = rng.poisson(rng.choice([1.2, 3.0]), (a, b))
    cells[0], cells[:, 0] = np.maximum(cells[0], 1), np.maximum(cells[:, 0], 1)
    g, h = (np.repeat(index.ravel(), cells.ravel()) for index in np.indices((a, b)))
    x = rng.normal(size=g.size) * information(rng, a)[g]
    y = effects(rng, a)[g] + effects(rng, b)[h] + effects(rng, a)[g] * x + rng.normal(size=g.size)
    return "y ~ x + (x | g) + (1 | h)", pd.DataFrame({"y": y, "x": x, "g": g, "h": h})


def three(rng: np.random.Generator) -> Made:
    """Three correlated effects."""
    groups = int(rng.integers(9, 17))
    g = np.repeat(np.arange(groups), rng.integers(4, 12, groups))
    x, z = (rng.normal(size=g.size) * information(rng, groups)[g] for _ in range(2))
    y = effects(rng, groups)[g] + rng.normal(size=g.size)
    y += effects(rng, groups)[g] * x + effects(rng, groups)[g] * z
    return "y ~ x + z + (x + z | g)", pd.DataFrame({"y": y, "x": x, "z": z, "g": g})


def ordinary(rng: np.random.Generator) -> Made:
    """What the model assumes, in unbalanced groups: for the price of the screening."""
    groups = int(rng.integers(17, 33))
    g = np.repeat(np.arange(groups), rng.integers(3, 9, groups))
    x = rng.normal(size=g.size)
    sd = rng.choice([0.1, 0.5, 1.0], 2)
    y = sd[0] * rng.normal(size=groups)[g] + sd[1] * rng.normal(size=groups)[g] * x
    return "y ~ x + (x | g)", pd.DataFrame({"y": y + rng.normal(size=g.size), "x": x, "g": g})


FAMILIES: dict[str, Callable[[np.random.Generator], Made]] = {
    "outlying groups": outlying,
    "few groups": few,
    "near-singular": singular,
    "crossed": crossed,
    "three effects": three,
    "ordinary": ordinary,
}


def random_starts(structures: Any, rng: np.random.Generator, count: int) -> np.ndarray:
    """Search parameters of random covariance matrices, shape (count, n_theta)."""
    from lmmjax.covariance import Diagonal

    out = []
    for _ in range(count):
        parts = []
        for s in (s for bars in structures for s in bars):
            sd = np.exp(rng.uniform(np.log(LOW), np.log(HIGH), s.size))
            turn = np.eye(s.size)
            if not isinstance(s, Diagonal):
                turn, _ = np.linalg.qr(rng.normal(size=(s.size, s.size)))
            parts.append(s.from_factor((turn * sd) @ turn.T))
        out.append(np.concatenate(parts))
    return np.array(out)


def runs_from(data: Any, starts: np.ndarray) -> np.ndarray:
    """Criteria at the ends of runs from each start; infinite where it is not finite."""
    import jax

    from lmmjax.fitting import fit_data
    from lmmjax.many.engine import Lanes, is_elementwise, split_lane
    from lmmjax.many.runner import EVALUATIONS, _fit_lanes

    if is_elementwise(data):
        size = 1 << (len(starts) - 1).bit_length()
        begin = np.concatenate([starts, np.repeat(starts[:1], size - len(starts), axis=0)])
        own = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], size, 0), split_lane(data))
        limit = np.int32(EVALUATIONS)
        fits = _fit_lanes(Lanes(data, own), begin, np.ones(size), np.int32(0), limit, reml=True)
        found = np.asarray(fits.estimate.criterion)[: len(starts)]
    else:
        fits = [fit_data(replace(data, start=start), reml=True) for start in starts]
        found = np.array([float(fit.criterion) for fit in fits])
    return np.where(np.isfinite(found), found, np.inf)


@dataclass
class Ends:
    """Criteria of a family's data sets, each of shape (sets,)."""

    one_run: np.ndarray
    now: np.ndarray
    best: np.ndarray
    doubted: np.ndarray
    lme4: np.ndarray


def measure(family: str, sets: int, starts: int, seed: int, folder: Path | None) -> Ends:
    """Fit a family's data sets in every way."""
    import lmmjax as lj
    from lmmjax.fitting import fit_data, fit_response
    from lmmjax.modes import screen_of

    rows, frames, formula = [], [], ""
    for i in range(sets):
        rng = np.random.default_rng([seed, list(FAMILIES).index(family), i])
        formula, frame = FAMILIES[family](rng)
        frames.append(frame.assign(set=i))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lj.LmmWarning)
            design = lj.build_design(formula, frame)
        prepared = lj.prepare_design(design)
        data = lj.cross_products(prepared, design.y)
        first = fit_data(data, reml=True)
        doubted = screen_of(prepared).doubts(first, data.level_sums, data.scale)
        now = fit_response(prepared, design.y).estimate
        random = runs_from(data, random_starts(data.search_structures, rng, starts))
        rows.append([float(first.criterion), float(now.criterion), random.min(), float(doubted)])
    one, now, best, doubted = np.array(rows).T
    lme4 = np.full(sets, np.nan)
    if folder is not None:
        lme4 = fit_in_r(formula, pd.concat(frames), sets, folder)
    return Ends(one, now, best, doubted > 0, lme4)


R = """
suppressMessages(library(lme4))
args <- commandArgs(TRUE)
frame <- read.csv(args[1])
control <- lmerControl(check.nobs.vs.nRE = "ignore", check.nobs.vs.nlev = "ignore",
                       check.nobs.vs.rankZ = "ignore", calc.derivs = FALSE)
crit <- sapply(split(frame, frame$set), function(d) tryCatch(
    suppressMessages(suppressWarnings(REMLcrit(lmer(as.formula(args[2]), d, control = control)))),
    error = function(e) NA))
write.csv(data.frame(set = names(crit), crit = crit), args[3], row.names = FALSE)
"""


def fit_in_r(formula: str, frame: pd.DataFrame, sets: int, folder: Path) -> np.ndarray:
    """lme4's REML criteria, with its default optimizer."""
    (folder / "fit.R").write_text(R)
    frame.to_csv(folder / "data.csv", index=False, float_format="%.17g")
    command = ["Rscript", "fit.R", "data.csv", formula, "out.csv"]
    subprocess.run(command, cwd=folder, check=True)
    out = pd.read_csv(folder / "out.csv").set_index("set")["crit"]
    return out.reindex(range(sets)).to_numpy()


def share(missed: np.ndarray) -> str:
    return f"{np.count_nonzero(missed)} ({100 * np.mean(missed):.2f} %)"


def report(name: str, ends: Ends) -> str:
    bar = ends.best + MISS
    one = ends.one_run > bar
    lme4 = "" if np.isnan(ends.lme4).all() else share(~(ends.lme4 <= bar))
    cells = (
        name,
        str(ends.best.size),
        share(one),
        share(ends.now > bar),
        lme4,
        share(ends.doubted),
        share(one & ~ends.doubted),
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=400, help="data sets of a family")
    parser.add_argument("--starts", type=int, default=50, help="random starts of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-r", action="store_true", help="leave lme4 out")
    args = parser.parse_args()
    began, hard = time.perf_counter(), []
    print("| | data sets | one run | lmmjax | lme4 | in doubt | not doubted |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if shutil.which("Rscript") and not args.no_r else None
        for family in FAMILIES:
            ends = measure(family, args.sets, args.starts, args.seed, folder)
            print(report(family, ends), flush=True)
            if family != "ordinary":
                hard.append(ends)
    every = (np.concatenate(parts) for parts in zip(*(vars(e).values() for e in hard), strict=True))
    print(report("hard, all", Ends(*every)))
    print(f"\n{time.perf_counter() - began:.0f} s, a miss is more than {MISS:g} above the best of")
    print(f"{args.starts} runs from random starts.")


if __name__ == "__main__":
    main()
