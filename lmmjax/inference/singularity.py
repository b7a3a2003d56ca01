"""Which directions of the random effects carry variance, which have none, and what to fit instead.

Source: Bates, Kliegl, Vasishth & Baayen (2015), Parsimonious mixed models, arXiv:1506.04967, for
principal components of the random effects; lme4's `rePCA` for the definitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.inference.boundary import SINGULAR_TOL, singular_bars
from lmmjax.inference.reduction import (
    RandomPart,
    has_default_covariance,
    marginal_terms,
    random_parts,
    rewrite,
)
from lmmjax.reading.numbers import same_decimals, table
from lmmjax.reading.varcorr import ZERO_SD

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.estimates import Estimates
    from lmmjax.result import LinearMixedModelResult


@dataclass(frozen=True, eq=False)
class RandomEffectsPCA(Mapping[str, "pd.DataFrame"]):
    """Principal components of each grouping factor's relative covariance; prints as in R.

    Maps a grouping factor's name to a frame: components ``PC1``, ... by ``sd`` (relative to the
    residual's), ``proportion`` of the variance, and ``cumulative`` proportion.

    Attributes
    ----------
    frames : dict of str to pandas.DataFrame
    rotation : dict of str to pandas.DataFrame
        The components' directions: effects by components.
    """

    frames: dict[str, pd.DataFrame]
    rotation: dict[str, pd.DataFrame]

    def __getitem__(self, group: str) -> pd.DataFrame:
        return self.frames[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __str__(self) -> str:
        lines: list[str] = []
        for group, frame in self.frames.items():
            rows = [
                ["Standard deviation", *same_decimals(frame["sd"], 4)],
                ["Proportion of Variance", *same_decimals(frame["proportion"], 4)],
                ["Cumulative Proportion", *same_decimals(frame["cumulative"], 4)],
            ]
            lines += [f"{group}: importance of components (sd relative to the residual's)"]
            lines += [*table(["", *frame.index], rows, "l" + "r" * len(frame)), ""]
        return "\n".join(lines[:-1])

    __repr__ = __str__


def random_effects_pca(fit: Estimates) -> RandomEffectsPCA:
    """Principal components; :meth:`LinearMixedModelResult.repca` documents them."""
    import pandas as pd

    frames, rotation = {}, {}
    for term, factor in zip(fit.design.terms, fit.raw.factors, strict=True):
        directions, sd, _ = np.linalg.svd(factor)
        # What is zero up to rounding is said to be zero, as in the table of variances.
        size = np.sqrt(np.mean(term.Z**2, axis=0)).max()
        sd = np.where((sd * size < ZERO_SD) | (sd < 1e-9 * sd[0]), 0.0, sd)
        names = pd.Index([f"PC{i + 1}" for i in range(len(sd))])
        total = np.sum(sd**2)
        # Of no variance at all there are no shares.
        share = sd**2 / total if total > 0 else np.full(len(sd), np.nan)
        frames[term.group] = pd.DataFrame(
            {"sd": sd, "proportion": share, "cumulative": np.cumsum(share)}, index=names
        )
        rotation[term.group] = pd.DataFrame(directions, index=pd.Index(term.columns), columns=names)
    return RandomEffectsPCA(frames, rotation)


@dataclass(frozen=True, eq=False)
class Direction:
    """A combination of random effects that does not vary.

    Attributes
    ----------
    group : str
        Grouping factor.
    weights : dict of str to float
        The combination: what each effect is multiplied by.
    words : str
    """

    group: str
    weights: dict[str, float]
    words: str


@dataclass(frozen=True, eq=False)
class SingularityReport:
    """What of a fit's random effects has collapsed; prints in words.

    Attributes
    ----------
    directions : tuple of Direction
        Empty where nothing is singular.
    simpler : str or None
        A formula without what collapsed; None where there is nothing to leave out, or where no
        random effects would remain.
    advice : str
        One sentence.
    """

    directions: tuple[Direction, ...]
    simpler: str | None
    advice: str

    @property
    def singular(self) -> bool:
        """Whether anything is."""
        return bool(self.directions)

    def __bool__(self) -> bool:
        return self.singular

    def __str__(self) -> str:
        if not self.directions:
            return self.advice
        return "\n".join(["Singular fit:", *(f"- {d.words}" for d in self.directions), self.advice])

    __repr__ = __str__


def _combination(weights: Mapping[str, float]) -> str:
    """A linear combination in words: ``Days - 0.243 (Intercept)``."""
    out = ""
    for name, weight in weights.items():
        size = "" if abs(abs(weight) - 1.0) < 5e-4 else f"{abs(weight):.3g} "
        sign = ("-" if weight < 0 else "") if not out else (" - " if weight < 0 else " + ")
        out += f"{sign}{size}{name}"
    return out


def collapsed_directions(
    fit: Estimates, t: int, start: int, size: int
) -> tuple[list[Direction], list[int]]:
    """What does not vary in one singular block, and its columns whose variance is zero.

    Directions are found for columns of unit root mean square, and given for the data's.
    """
    term = fit.design.terms[t]
    own = slice(start, start + size)
    names = term.columns[own]
    scale = np.sqrt(np.mean(term.Z[:, own] ** 2, axis=0))
    root = np.asarray(fit.raw.factors[t])[own, own] * scale[:, None]
    sd = np.linalg.norm(root, axis=1)
    zero = [i for i in range(size) if not sd[i] >= SINGULAR_TOL]
    out = [
        Direction(
            term.group,
            {names[i]: 1.0},
            f"{term.group}: the variance of {names[i]} is zero: it is the same at every level",
        )
        for i in zero
    ]
    alive = [i for i in range(size) if i not in zero]
    if len(alive) < 2:
        return out, zero
    directions, spread, _ = np.linalg.svd(root[alive])
    # The test of singular fits is of pivots, for orthogonal columns: at least one has collapsed.
    count = int(np.sum(spread < SINGULAR_TOL * max(1.0, spread[0])))
    count = max(count, 0 if zero else 1)
    for direction in directions.T[len(alive) - count :]:
        weights = direction * scale[alive]
        said = [i for i in range(len(alive)) if abs(direction[i]) > 1e-3]
        weights = weights / weights[said[-1]]
        combination = {names[alive[i]]: float(weights[i]) for i in reversed(said)}
        words = f"{term.group}: {_combination(combination)} has no variance"
        if len(said) == 2:
            first, second = (names[alive[i]] for i in said)
            ratio = -weights[said[0]]
            words += (
                f": the effects of {second} are {ratio:.3g} times those of {first}, a correlation "
                f"of {'+1' if ratio > 0 else '-1'}"
            )
        else:
            words += ": any one of these effects follows from the others"
        out.append(Direction(term.group, combination, words))
    return out, zero


def _without_columns(part: RandomPart, zero: set[int]) -> RandomPart | None:
    """A part without the terms whose columns have no variance; itself where there are none."""
    dead = {
        t
        for t in set(part.assign)
        if all(c in zero for c, own in zip(part.columns, part.assign, strict=True) if own == t)
    }
    keep = set(range(len(part.terms)))
    # A term stays while another contains it.
    while True:
        kept = sorted(keep)
        gone = [
            kept[i] for i in marginal_terms([part.terms[t] for t in kept]) if kept[i] + 1 in dead
        ]
        if not gone:
            break
        keep -= set(gone)
    # Without its intercept a factor would get all of its levels back: only numbers go on alone.
    numbers = len(part.columns) == len(part.terms) + part.intercept
    intercept = part.intercept and not (0 in dead and (numbers or not keep))
    return part.keep(keep, intercept)


def simpler_part(part: RandomPart, zero: set[int], collapsed: bool) -> RandomPart | None:
    """A part without what collapsed in it; None if nothing remains."""
    smaller = _without_columns(part, zero)
    if smaller != part or not collapsed:
        return smaller
    if len(part.columns) == 1:
        return smaller
    if part.correlated:
        # All have variances: it is their correlations that the data do not support.
        return replace(part, correlated=False)
    hit = {t - 1 for c, t in zip(part.columns, part.assign, strict=True) if c in zero and t}
    dropped = hit & set(marginal_terms(part.terms))
    return part.keep(set(range(len(part.terms))) - dropped)


def singularity(fit: LinearMixedModelResult) -> SingularityReport:
    """What collapsed and what to fit; :meth:`LinearMixedModelResult.singularity` documents it."""
    bars = singular_bars(fit.raw)
    if not bars:
        advice = "Not singular: every variance is above zero and no correlation is ±1."
        return SingularityReport((), None, advice)
    found: list[Direction] = []
    zero: dict[int, set[int]] = {}
    blocks: dict[int, set[int]] = {}
    for t, start, size in bars:
        directions, columns = collapsed_directions(fit, t, start, size)
        found += directions
        zero.setdefault(t, set()).update(start + i for i in columns)
        blocks.setdefault(t, set()).update(range(start, start + size))
    parts = random_parts(fit)
    smaller: list[RandomPart] = []
    changed = False
    for part in parts:
        hit = bool(blocks.get(part.owner, set()) & set(part.columns))
        dead = zero.get(part.owner, set())
        left: RandomPart | None = part
        if not has_default_covariance(fit, part.owner):
            # Of a structure of its own only the whole can go.
            left = None if hit and set(part.columns) <= dead else part
        elif hit:
            collapsed = part.correlated or bool(dead & set(part.columns))
            left = simpler_part(part, dead, collapsed)
        changed |= left != part
        if left is not None:
            smaller.append(left)
    if not changed:
        advice = "Fit a covariance structure of fewer parameters, or keep this one and say so."
        return SingularityReport(tuple(found), None, advice)
    spec = rewrite(fit.design.formula, bars=[part.label for part in smaller])
    if not smaller:
        advice = (
            f"Nothing varies between groups: least squares is the same fit, {spec}. Or keep the "
            "random effects and say so."
        )
        return SingularityReport(tuple(found), None, advice)
    advice = f"A simpler model (compare the two by anova): {spec}"
    return SingularityReport(tuple(found), str(spec), advice)
