"""Which test to trust: how often each rejects a true null hypothesis at 5 %.

``python benchmarks/calibration.py`` simulates data sets of many designs in which the tested effect
is zero, fits them all, and tests by Satterthwaite's and Kenward and Roger's degrees of freedom, by
Wald's z, and by the likelihood-ratio test (chi², ML). It prints a table with exact Monte Carlo
intervals and writes it to docs/calibration.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import betaincinv, chdtrc

import lmmjax as lj

OUT = Path(__file__).parent.parent / "docs" / "calibration.md"
METHODS = ("Satterthwaite", "Kenward-Roger", "Wald z", "likelihood ratio")
ALPHA = 0.05
HEAD = """# Which test to trust

How often a test of a fixed effect rejects at 5 % although the effect is zero, over {replicates:,}
simulated data sets a design. A Monte Carlo error of two standard errors is {error:.1f} percentage
points: what lies further from 5.0 is a property of the test. `python benchmarks/calibration.py`
makes this table.

{table}

Rejections in per cent, with their exact 95 % Monte Carlo interval. "Singular" are fits with a
variance estimated as zero or a correlation as 1 or -1.

{words}
"""
WORDS = """What to take from it:

- **Satterthwaite** (the default, `ddf="satterthwaite"`) lies between 3.5 and 5.4 % in all of these
  designs, with six groups too. Where many fits are singular it errs on the safe side.
- **Kenward-Roger** (`ddf="kenward-roger"`) is at 5 % or below in all of them, within Monte Carlo
  error, and does not reject more often than Satterthwaite in any. With few groups and many singular
  fits it is the more cautious of the two, and loses power there.
- **Wald z** (`ddf="asymptotic"`) rejects too often wherever the effect varies between groups or is
  one of groups: 9 to 12 % with six groups, 8 % with ten, 6.5 % with twenty. It takes fifty groups
  to be nearly right.
- The **likelihood-ratio test** by chi² is no better than Wald's z for effects between groups, and a
  little better for an effect with a random slope. `lj.pb_test` gives it a distribution of its own
  by a parametric bootstrap.
"""


@dataclass
class Case:
    """A design with a true null hypothesis about the last predictor of ``formula``."""

    name: str
    frame: Callable[[], Any]
    formula: str
    smaller: str
    truth: dict[str, Any]


def _study(groups: int, **more: Any) -> Callable[[], Any]:
    return lambda: lj.simulate_design({"id": groups}, seed=1, **more)


def cases() -> list[Case]:
    """6 to 50 groups, effects between and within, slopes, unbalanced, crossed, nested, tiny."""
    time_, arm = {"time": range(5)}, {"arm": ["a", "b"]}
    between = ("y ~ arm + (1 | id)", "y ~ 1 + (1 | id)", {"sd": 2.0, "sigma": 2.0})
    slopes = {"sd": [2.0, 1.0], "correlation": 0.2, "sigma": 2.0}
    slope = ("y ~ time + (1 + time | id)", "y ~ 1 + (1 + time | id)", slopes)
    by_arm = ("y ~ time * arm + (1 + time | id)", "y ~ time + arm + (1 + time | id)", slopes)
    within = ("y ~ time + (1 | id)", "y ~ 1 + (1 | id)", {"sd": 2.0, "sigma": 2.0})
    tiny = (*between[:2], {"sd": 0.3, "sigma": 2.0})
    sizes = [2, 2, 3, 3, 4, 5, 6, 8, 10, 12]
    made = [
        Case(f"{g} groups x 5, between groups", _study(g, within=time_, between=arm), *between)
        for g in (6, 10, 20, 50)
    ]
    made += [
        Case(f"{g} groups x 5, random slope", _study(g, within=time_), *slope)
        for g in (6, 10, 20, 50)
    ]
    made += [
        Case(f"{g} groups x 5, slope by arm", _study(g, within=time_, between=arm), *by_arm)
        for g in (8, 20)
    ]
    arms = {"arm": ["a", "b", "c"]}
    made += [
        Case(f"{g} groups x 5, three arms", _study(g, within=time_, between=arms), *between)
        for g in (9, 30)
    ]
    made += [
        Case("6 groups x 5, within groups", _study(6, within=time_), *within),
        Case(
            "8 schools x 4 classes x 3, between schools",
            lambda: lj.simulate_design({"school": 8}, 3, between=arm, nested={"class": 4}, seed=1),
            "y ~ arm + (1 | school) + (1 | class)",
            "y ~ 1 + (1 | school) + (1 | class)",
            {"sd": {"school": 1.5, "class": 1.0}, "sigma": 2.0},
        ),
        Case(
            "10 groups of 2 to 12, between groups",
            _study(10, per_group=sizes, between=arm),
            *between,
        ),
        Case("8 groups x 5, tiny variance, between", _study(8, within=time_, between=arm), *tiny),
        Case(
            "12 groups, dropout, random slope",
            _study(12, within=time_, dropout=0.15),
            *slope,
        ),
        Case(
            "crossed 10 x 8, between subjects",
            lambda: lj.simulate_design({"id": 10}, crossed={"item": 8}, between=arm, seed=1),
            "y ~ arm + (1 | id) + (1 | item)",
            "y ~ 1 + (1 | id) + (1 | item)",
            {"sd": {"id": 1.5, "item": 1.0}, "sigma": 2.0},
        ),
    ]
    return made


def run(case: Case, replicates: int) -> dict[str, Any]:
    """Rejections of each method, and how the fits went."""
    frame = case.frame()
    design = lj.Design.from_formula(case.formula, frame)
    smaller = lj.Design.from_formula(case.smaller, frame)
    tested = [f"{name} = 0" for name in design.x_names if name not in smaller.x_names]
    truth = lj.TrueParameters.for_design(design, {"(Intercept)": 1.0}, **case.truth)
    Y = lj.simulate(design, truth, replicates, key=1000)
    many = lj.fit_many(design, Y)
    above, below = lj.fit_many(design, Y, method="ML"), lj.fit_many(smaller, Y, method="ML")
    ratio = np.maximum(below.criterion - above.criterion, 0.0)
    pvalues = {
        "Satterthwaite": many.contest(tested)["Pr(>F)"],
        "Kenward-Roger": many.contest(tested, ddf="kenward-roger")["Pr(>F)"],
        "Wald z": many.contest(tested, ddf="asymptotic")["Pr(>F)"],
        "likelihood ratio": chdtrc(len(tested), ratio),
    }
    good = many.converged & above.converged & below.converged
    rejected = {
        name: int(np.count_nonzero(good & (np.asarray(p) < ALPHA))) for name, p in pvalues.items()
    }
    return {
        "rejected": rejected,
        "singular": float(many.singular.mean()),
        "failed": int(np.count_nonzero(~good)),
        "n": replicates,
    }


def cell(x: int, n: int) -> str:
    """A share with its exact interval (Clopper & Pearson 1934), in per cent."""
    low = betaincinv(x, n - x + 1, 0.025) if x else 0.0
    high = betaincinv(x + 1, n - x, 0.975) if x < n else 1.0
    return f"{100 * x / n:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="How often each test rejects a true null.")
    parser.add_argument("--replicates", type=int, default=10_000)
    parser.add_argument("--designs", nargs="*", help="parts of names")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    chosen = [
        case
        for case in cases()
        if not options.designs or any(part in case.name for part in options.designs)
    ]
    lines = [
        "| design | " + " | ".join(METHODS) + " | singular |",
        "| --- |" + " ---: |" * (len(METHODS) + 1),
    ]
    for line in lines:
        print(line)
    for case in chosen:
        began = time.perf_counter()
        with warnings.catch_warnings():
            # Each case fits singular and rank-deficient data sets on purpose.
            warnings.simplefilter("ignore", lj.LmmWarning)
            found = run(case, options.replicates)
        n = found["n"]
        shares = " | ".join(cell(found["rejected"][name], n) for name in METHODS)
        note = f"{100 * found['singular']:.0f} %"
        if found["failed"]:
            note += f", {found['failed']} not converged"
        lines.append(f"| {case.name} | {shares} | {note} |")
        print(lines[-1], f"<!-- {time.perf_counter() - began:.0f} s -->", flush=True)
    if not options.designs:
        error = 200 * np.sqrt(ALPHA * (1 - ALPHA) / options.replicates)
        text = HEAD.format(
            replicates=options.replicates, error=error, table="\n".join(lines), words=WORDS
        )
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
