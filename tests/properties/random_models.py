"""Random models of a few shapes: every design has the same rows, levels and columns.

What is compiled for one shape serves all examples of it, so hypothesis may vary what is in the
arrays as it likes: values, units, origins, orders, labels, codings, weights, empty cells.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
from hypothesis import HealthCheck, Phase, settings

import lmmjax as lj

#: All the checks that time allows, with examples that differ from run to run.
THOROUGH = os.environ.get("LMMJAX_PROPERTIES") == "thorough"

N, GROUPS = 72, 12
#: The random part, by name. Levels are shared among them: a reduced model is another's shape.
BARS = {
    "one": "(1 | g)",
    "slope": "(x | g)",
    "nested": "(1 | a / b)",
    "crossed": "(1 | g) + (1 | h)",
}
#: The fixed part: six coefficients each. Levels of factors: k 2, f 3, q 4, r 5, s 6.
FIXED = (
    "f * k",
    "s",
    "r + k",
    "x + u + v + w + z",
    "f + x + u + v",
    "f * x",
    "k * x + u + v",
    "x + I(x ** 2) + u + v + w",
    "q * k",  # two of the eight cells are empty
)
LEVELS = {"k": 2, "f": 3, "q": 4, "r": 5, "s": 6}
COVARIATES = ("x", "u", "v", "w", "z")


def examples(few: int, many: int | None = None) -> settings:
    """Settings of a property: so many examples in a short run, and in a thorough one."""
    return settings(
        max_examples=(many or 25 * few) if THOROUGH else few,
        deadline=None,
        derandomize=not THOROUGH,
        database=None,
        print_blob=THOROUGH,
        # Seeds do not shrink to anything simpler: the model as it was drawn says enough.
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


@dataclass(frozen=True, repr=False)
class Model:
    """A formula's parts, its data, and arguments of ``lmm()``."""

    fixed: str
    bars: str
    frame: pd.DataFrame
    method: str = "REML"
    arguments: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    ratio: float = 1.0

    def __repr__(self) -> str:
        own = f"seed={self.seed}, ratio={self.ratio}, {self.method}, {self.arguments}"
        return f"{self.formula}: {own}\n{self.frame.head(3)}"

    @property
    def formula(self) -> str:
        return f"y ~ {self.fixed} + {self.bars}"

    def fit(self, **arguments: Any) -> lj.LinearMixedModelResult:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lj.LmmWarning)
            return lj.lmm(
                self.formula, self.frame, method=self.method, **(self.arguments | arguments)
            )

    def but(self, **changes: Any) -> Model:
        return replace(self, **changes)

    def with_frame(self, **columns: Any) -> Model:
        return self.but(frame=self.frame.assign(**columns))

    @property
    def factors(self) -> tuple[str, ...]:
        return tuple(name for name in LEVELS if name in self.words)

    @property
    def covariates(self) -> tuple[str, ...]:
        return tuple(name for name in COVARIATES if name in self.words or f"({name} |" in self.bars)

    @property
    def words(self) -> set[str]:
        return set(self.fixed.replace("*", " ").replace("(", " ").split())

    @property
    def free_origins(self) -> tuple[str, ...]:
        """Covariates of which nothing but the intercept changes with their origin."""
        bound = {"x"} if {"f * x", "k * x + u + v"} & {self.fixed} or "I(" in self.fixed else set()
        return tuple(name for name in self.covariates if name not in bound)


def build(
    grouping: str, fixed: str, seed: int, ratio: float, between: bool, weighted: bool, method: str
) -> Model:
    """A model with data: groups' standard deviation is `ratio` times the residuals'."""
    rng = np.random.default_rng(seed)
    g, h = np.arange(N) % GROUPS, (np.arange(N) // GROUPS) % 4
    columns: dict[str, Any] = {name: rng.normal(size=N) for name in COVARIATES}
    for name, count in LEVELS.items():
        index = (
            rng.permutation(GROUPS)[g] % count
            if between and name == "f"
            else rng.permutation(N) % count
        )
        columns[name] = pd.Categorical.from_codes(index, [f"{name}{i}" for i in range(count)])
    if fixed == "q * k":  # move the rows of two cells to the other level of k
        q, k = columns["q"].codes, columns["k"].codes.copy()
        k[(q == 1) | (q == 2)] = (q[(q == 1) | (q == 2)] == 1).astype(k.dtype)
        columns["k"] = pd.Categorical.from_codes(k, columns["k"].categories)
    for name, index in {"g": g, "h": h, "a": g % 4, "b": g // 4}.items():
        columns[name] = [f"{name}{i:02d}" for i in index]
    mean = columns["x"] - 0.5 * columns["u"] + 0.7 * columns["f"].codes + 0.4 * columns["k"].codes
    own = rng.normal(size=(4, GROUPS))
    effects = own[0][g] + own[1][h] + own[2][g % 4] + 0.6 * own[3][g] * columns["x"]
    columns["y"] = mean + ratio * effects + rng.normal(size=N)
    columns["weight"] = rng.uniform(0.5, 2.0, N)
    arguments = {"weights": "weight"} if weighted else {}
    frame = pd.DataFrame(columns)
    return Model(fixed, BARS[grouping], frame, method, arguments, seed, ratio)


def models(grouping: str, fixed: tuple[str, ...] = FIXED, **kept: Any) -> st.SearchStrategy[Model]:
    """Models of one random part; `kept` holds arguments of :func:`build` fixed."""
    choices = {
        "fixed": st.sampled_from(fixed),
        "seed": st.integers(0, 2**32 - 1),
        "ratio": st.sampled_from((0.3, 1.0, 3.0, 30.0)),
        "between": st.booleans(),
        "weighted": st.booleans(),
        "method": st.sampled_from(("REML", "ML")),
    }
    choices |= {name: st.just(value) for name, value in kept.items()}
    return st.builds(build, st.just(grouping), **choices)
