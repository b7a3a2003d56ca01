"""Extreme inputs, what lmmjax makes of them, and the truth: one list for the page and the tests.

A case ends in numbers that are right to the accuracy it states, or in an error (or a warning) that
says what was found. Truths: closed forms in 50 digits, optima found in 100-digit decimals
(tests/brute_force.py), an identical problem that is not extreme, or lme4.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import brute_force as bf
import mpmath
import numpy as np
import pandas as pd

import lmmjax as lj


@dataclass(frozen=True)
class Found:
    """Numbers of a fit beside their truth, by name; the first is shown."""

    value: dict[str, float]
    truth: dict[str, Any]
    source: str
    said: str = ""

    @property
    def error(self) -> float:
        """The largest relative error."""
        with mpmath.workdps(50):
            return max(
                float(abs(mpmath.mpf(float(v)) - t) / abs(t) if t else abs(v))
                for v, t in ((self.value[k], mpmath.mpf(self.truth[k])) for k in self.truth)
            )


@dataclass(frozen=True)
class Case:
    """An extreme input: its name, what makes of it, and what is promised.

    Attributes
    ----------
    run : callable
        ``() -> Found``, or raises.
    accuracy : float
        Relative; 0 where an error is promised.
    words : str
        What the error or the warning says (a regular expression).
    cheap : bool
        Whether it runs in the tests.
    """

    name: str
    run: Callable[[], Found]
    accuracy: float = 0.0
    words: str = ""
    cheap: bool = True


@dataclass(frozen=True)
class Result:
    """What became of a case."""

    case: Case
    found: Found | None
    said: str

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        case = self.case
        if case.words and not re.search(case.words, self.said):
            return False
        if case.accuracy:
            return self.found is not None and self.found.error <= case.accuracy
        return self.found is None

    def row(self) -> str:
        """A line of the table."""
        cells = [self.case.name, self.said or "fitted"]
        if self.found is None:
            return "| " + " | ".join([*cells, "", "", "", ""]) + " |"
        name = next(iter(self.found.truth))
        value, truth = float(self.found.value[name]), self.found.truth[name]
        # As many digits as are promised: others may differ between processors.
        digits = min(12, max(2, round(-math.log10(self.case.accuracy))))
        cells += [
            f"{name} {value:.{digits}g}",
            mpmath.nstr(mpmath.mpf(truth), digits),
            f"below {self.case.accuracy:.0e}",
            self.found.source,
        ]
        return "| " + " | ".join(cells) + " |"


def run(case: Case) -> Result:
    """Run a case; only errors of the package count as answers."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = case.run()
        except lj.LmmError as error:
            return Result(case, None, f"{type(error).__name__}: {one_line(error)}")
    said = " ".join(
        f"{w.category.__name__}: {one_line(w.message)}"
        for w in caught
        if issubclass(w.category, lj.LmmWarning)
    )
    return Result(case, found, said)


def one_line(message: Any) -> str:
    """The first sentence of a message, short enough for a cell."""
    text = " ".join(str(message).split())
    text = text if len(text) < 200 else text[:197] + "..."
    return text.replace("|", "\\|")


# --- truths --------------------------------------------------------------------------------------


def balanced(y: np.ndarray) -> dict[str, Any]:
    """REML of ``y ~ 1 + (1 | g)``, groups in rows: mean squares, in 50 digits."""
    with mpmath.workdps(50):
        groups, size = y.shape
        rows = [[mpmath.mpf(float(v)) for v in row] for row in y]
        means = [mpmath.fsum(row) / size for row in rows]
        mean = mpmath.fsum(means) / groups
        within = mpmath.fsum((v - m) ** 2 for row, m in zip(rows, means, strict=True) for v in row)
        between = size * mpmath.fsum((m - mean) ** 2 for m in means)
        within_ms = within / (groups * (size - 1))
        between_ms = between / (groups - 1)
        if between_ms < within_ms:
            within_ms = between_ms = (within + between) / (groups * size - 1)
        return {
            "sd": mpmath.sqrt((between_ms - within_ms) / size),
            "sigma": mpmath.sqrt(within_ms),
            "mean": mean,
            "se": mpmath.sqrt(between_ms / (groups * size)),
        }


def one_way(y: np.ndarray) -> Found:
    """Our fit of the same."""
    groups, size = y.shape
    frame = pd.DataFrame({"y": y.ravel(), "g": np.repeat(np.arange(groups), size).astype(str)})
    fit = lj.lmm("y ~ 1 + (1 | g)", frame)
    value = {
        "sd": float(fit.tidy("ran_pars")["estimate"].iloc[0]),
        "sigma": fit.sigma,
        "mean": fit.beta[0],
        "se": float(fit.bse.iloc[0]),
    }
    return Found(value, balanced(y), "closed form, 50 digits")


def decimal_optimum(fit: Any, steps: int = 4) -> dict[str, Any]:
    """The optimum by Newton's method in 100-digit decimals, from where the fit ended."""
    design = fit.design
    problem = bf.Problem(
        design.X,
        design.y,
        tuple((t.Z, t.index, len(t.levels)) for t in design.terms),
        tuple(tuple(t.blocks) for t in design.terms),
        design.weights,
        design.offset,
    )
    exact = bf.Exact(problem)
    theta = np.asarray(fit.theta, float)
    for _ in range(steps):
        _, first, second = bf.derivatives(lambda t: exact.criterion(t, fit.reml), theta)
        step = np.linalg.solve(second, first)
        theta = theta - step
        if np.max(np.abs(step)) < 1e-14 * np.max(np.abs(theta)):
            break
    at = exact.at(theta)
    sigma = at.sigma(fit.reml)
    beta = at.beta()
    se = [sigma * v.sqrt() for v in np.diagonal(at.fixed_cov())]
    truth = {"criterion": at.criterion(fit.reml), "sigma": sigma}
    truth |= {f"beta {i}": b for i, b in enumerate(beta)}
    truth |= {f"se {i}": s for i, s in enumerate(se)}
    truth |= {f"theta {i}": float(t) for i, t in enumerate(theta)}
    return {k: mpmath.mpf(str(v)) for k, v in truth.items()}


def beside_decimals(fit: Any) -> Found:
    value = {"criterion": fit.criterion, "sigma": fit.sigma}
    value |= {f"beta {i}": b for i, b in enumerate(fit.beta)}
    value |= {f"se {i}": s for i, s in enumerate(fit.bse)}
    value |= {f"theta {i}": t for i, t in enumerate(fit.theta)}
    with mpmath.workdps(50):
        truth = decimal_optimum(fit)
    return Found(value, truth, "optimum in 100-digit decimals")


def beside(fit: Any, other: Any, source: str) -> Found:
    """Two fits that must be the same."""
    numbers = [
        {
            "criterion": f.criterion,
            "sigma": f.sigma,
            **{f"t {i}": t for i, t in enumerate(f.tvalues)},
            **{f"theta {i}": t for i, t in enumerate(f.theta)},
        }
        for f in (fit, other)
    ]
    return Found(*numbers, source)


@cache
def plain() -> pd.DataFrame:
    """Ten groups of six rows with two covariates."""
    rng = np.random.default_rng(20)
    g = np.repeat(np.arange(10), 6)
    x, z = rng.normal(size=(2, 60))
    y = 1 + x - z + rng.normal(size=10)[g] + 0.7 * rng.normal(size=10)[g] * x
    return pd.DataFrame({"y": y + rng.normal(size=60), "x": x, "z": z, "g": g.astype(str)})


def made(groups: int, size: int, sd: float = 1.0, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 5 + sd * rng.normal(size=(groups, 1)) + rng.normal(size=(groups, size))


def nearly_constant(part: float) -> np.ndarray:
    """Groups that repeat themselves but for a part of their spread."""
    return made(8, 1) + part * np.random.default_rng(8).normal(size=(8, 4))


def centred_within(y: np.ndarray) -> np.ndarray:
    """The same residuals with equal group means: no variance between groups."""
    return y - y.mean(axis=1, keepdims=True)


# --- cases ---------------------------------------------------------------------------------------


#: Letters that are composed in two ways, that look alike, that are spaces.
ALPHABETS = ["\u00e9", "e\u0301", "日本", "🙂", "א", "ß", "ss", " a", "a", "\n"]


def labels(names: list[str]) -> Found:
    frame = plain()
    other = frame.assign(g=np.array(names, object)[frame.g.astype(int)])
    formula = "y ~ x + z + (1 | g)"
    return beside(lj.lmm(formula, other), lj.lmm(formula, frame), "the same fit with plain names")


def units(size: float) -> Found:
    frame = plain().assign(y=plain().y * size)
    return beside_decimals(lj.lmm("y ~ x + z + (1 | g)", frame))


def fit(formula: str, **columns: Any) -> Any:
    return lj.lmm(formula, plain().assign(**columns))


def condition() -> Found:
    frame = plain()
    return beside_decimals(fit("y ~ x + w + (1 | g)", w=frame.x + 1e-10 * frame.z))


def many_columns() -> Found:
    """Two hundred treatments in five complete blocks: mean squares, in 50 digits."""
    treatments, blocks = 200, 5
    y = made(blocks, treatments) + np.random.default_rng(3).normal(size=treatments)
    frame = pd.DataFrame(
        {
            "y": y.ravel(),
            "t": np.tile([f"t{i:03d}" for i in range(treatments)], blocks),
            "g": np.repeat([f"g{i}" for i in range(blocks)], treatments),
        }
    )
    found = lj.lmm("y ~ t + (1 | g)", frame)
    with mpmath.workdps(50):
        rows = [[mpmath.mpf(float(v)) for v in row] for row in y]
        mean = [mpmath.fsum(column) / blocks for column in zip(*rows, strict=True)]
        block = [mpmath.fsum(row) / treatments for row in rows]
        all_ = mpmath.fsum(block) / blocks
        between = treatments * mpmath.fsum((b - all_) ** 2 for b in block) / (blocks - 1)
        within = mpmath.fsum(
            (v - m - b + all_) ** 2
            for row, b in zip(rows, block, strict=True)
            for v, m in zip(row, mean, strict=True)
        ) / ((blocks - 1) * (treatments - 1))
        truth = {
            "sd": mpmath.sqrt((between - within) / treatments),
            "sigma": mpmath.sqrt(within),
            "difference": mean[199] - mean[0],
            "its error": mpmath.sqrt(2 * within / blocks),
        }
    value = {
        "sd": float(found.tidy("ran_pars")["estimate"].iloc[0]),
        "sigma": found.sigma,
        "difference": found.beta[199],
        "its error": float(found.bse.iloc[199]),
    }
    return Found(value, truth, "closed form, 50 digits")


def twelve_slopes() -> Found:
    rng = np.random.default_rng(4)
    groups, size, k = 20, 20, 12
    g = np.repeat(np.arange(groups), size)
    x = rng.normal(size=(g.size, k))
    b = rng.normal(size=(groups, k + 1)) @ (np.eye(k + 1) + 0.2 * rng.normal(size=(k + 1, k + 1)))
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(1, k + 1)])
    frame["y"] = b[g, 0] + np.sum(b[g, 1:] * x, axis=1) + rng.normal(size=g.size)
    frame["g"] = g.astype(str)
    names = " + ".join(frame.columns[:k])
    found = lj.lmm(f"y ~ 1 + (1 + {names} | g)", frame)
    design = found.design
    problem = bf.Problem(
        design.X, design.y, tuple((t.Z, t.index, len(t.levels)) for t in design.terms)
    )
    exact = bf.Exact(problem).at(list(map(float, found.theta)))
    with mpmath.workdps(50):
        truth = {"criterion": mpmath.mpf(str(exact.criterion(True)))}
    return Found({"criterion": found.criterion}, truth, "100-digit decimals at the fit's theta")


def product_of_levels() -> Found:
    """Two factors of 50,000 levels each: 2.5e9 combinations, of which 60,000 occur."""
    rng = np.random.default_rng(5)
    n = 60_000
    a, b = rng.permutation(n) % 50_000, rng.permutation(n) % 50_000
    cells = pd.Series(a.astype(str)) + "_" + b.astype(str)
    a, b, cells = (np.concatenate([v, v]) for v in (a, b, cells))
    y = np.tile(rng.normal(size=n), 2) + rng.normal(size=2 * n)
    frame = pd.DataFrame({"y": y, "a": a.astype(str), "b": b.astype(str), "cell": cells})
    return beside(
        lj.lmm("y ~ 1 + (1 | a:b)", frame),
        lj.lmm("y ~ 1 + (1 | cell)", frame),
        "the same fit with combinations named",
    )


def duplicated_names() -> Found:
    frame = plain()
    frame = pd.concat([frame, frame[["x"]] + 1], axis=1)
    return beside(lj.lmm("y ~ x + (1 | g)", frame), fit("y ~ x + (1 | g)"), "")


def duplicated_columns() -> Found:
    other = fit("y ~ x + w + (1 | g)", w=plain().x)
    return beside(other, fit("y ~ x + (1 | g)"), "the same fit without the copy")


def collapsed() -> Found:
    """Slopes twice the intercepts, residuals orthogonal to both in every group: correlation 1."""
    rng = np.random.default_rng(6)
    frame = plain()
    g = frame.g.astype(int)
    b, noise = 3 * rng.normal(size=10)[g], rng.normal(size=60)
    for group in range(10):
        own = np.flatnonzero(g == group)
        Z = np.column_stack([np.ones(6), frame.x[own]])
        noise[own] -= Z @ np.linalg.lstsq(Z, noise[own], rcond=None)[0]
    found = fit("y ~ x + (x | g)", y=b + 2 * b * frame.x + noise)
    value = {"correlation": float(found.tidy("ran_pars")["estimate"].iloc[2])}
    return Found(value, {"correlation": 1.0}, "by construction")


def one_group() -> Found:
    frame = plain()[plain().g == "0"]
    return beside_decimals(lj.lmm("y ~ x + (1 | g)", frame))


def singles(n: int) -> Found:
    rng = np.random.default_rng(7)
    return one_way(rng.normal(size=(n, 1)))


def weights() -> Found:
    frame = plain()
    w = 10.0 ** np.linspace(-6, 6, 60)
    return beside_decimals(lj.lmm("y ~ x + (1 | g)", frame, weights=w))


def origin(size: float) -> Found:
    frame = plain()
    far = frame.x + size
    near = far - size  # exactly
    fits = [fit("y ~ z + x + (1 | g)", x=x) for x in (far, near)]
    numbers = [
        {
            "t": f.tvalues["x"],
            "df": f.raw.estimate.df[2],
            "criterion": f.criterion,
            "theta": f.theta[0],
            "mean's error": f.emmeans("~ 1").frame["SE"].iloc[0],
            "its df": f.emmeans("~ 1").frame["df"].iloc[0],
        }
        for f in fits
    ]
    return Found(*numbers, "the same fit from the data's own origin")


def few_rows() -> Found:
    frame = plain().groupby("g").head(2)
    return beside_decimals(lj.lmm("y ~ x + (1 + x | g)", frame))


CASES = (
    Case("y times 1e150", lambda: units(1e150), 1e-8),
    Case("y times 1e-150", lambda: units(1e-150), 1e-8),
    Case("one row a group", lambda: singles(30), words="g"),
    Case("one group", one_group, words="g"),
    Case("groups of 100,000 rows", lambda: one_way(made(5, 100_000)), 1e-8, cheap=False),
    Case("100,000 groups of one row", lambda: singles(100_000), words="g"),
    Case("100,000 groups of two rows", lambda: one_way(made(100_000, 2)), 1e-8, cheap=False),
    Case(
        "constant response in groups",
        lambda: one_way(np.repeat(made(8, 1), 4, 1)),
        words="'g' account for the response",
    ),
    Case("residuals 1e-3 of the groups", lambda: one_way(nearly_constant(1e-3)), 1e-6),
    Case(
        "residuals 1e-6 of the groups", lambda: one_way(nearly_constant(1e-6)), 1e-5, "'g' account"
    ),
    Case("a perfect fit", lambda: beside_decimals(fit("y ~ x + (1 | g)", y=plain().x)), words="x"),
    Case("variance zero", lambda: one_way(centred_within(made(10, 6)) + 5), 1e-8, "singular"),
    Case("correlation of one", collapsed, 1e-6, "singular"),
    Case("X of condition 1e10", condition, 1e-8, "to one part in 10 million"),
    Case("200 fixed effects", many_columns, 1e-8, cheap=False),
    Case("12 random slopes", twelve_slopes, 1e-10, cheap=False),
    Case("as many random effects as rows", few_rows, words="rows"),
    Case(
        "level names of 100,000 letters",
        lambda: labels(["a" * (10**5 + i) for i in range(10)]),
        1e-12,
    ),
    Case("level names in all scripts", lambda: labels(ALPHABETS), 1e-12),
    Case("a level without a name", lambda: labels(["", *"abcdefghi"]), 1e-12),
    Case("two columns of one name", duplicated_names, words="x"),
    Case("a column twice among the predictors", duplicated_columns, 1e-12, "w"),
    Case("2,500,000,000 combinations of levels", product_of_levels, 1e-10, cheap=False),
    Case("weights from 1e-6 to 1e6", weights, 1e-6),
    Case("x at an origin of 1e6", lambda: origin(1e6), 1e-7),
    Case("x at an origin of 1e9", lambda: origin(1e9), 1e-4),
)
