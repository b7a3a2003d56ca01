"""Random effects by level: conditional modes, their covariances, and cluster coefficients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lmmjax.errors import UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult

V = TypeVar("V")


class ByGroup(dict[str, V]):
    """A dict by grouping factor that tells, for a name it does not have, which ones it has."""

    def __missing__(self, group: object) -> V:
        by_case = {name.lower(): name for name in self}
        close = get_close_matches(str(group).lower(), by_case, 1, 0.75)
        there = f"did you mean {by_case[close[0]]!r}?" if close else f"there are {list(self)}"
        raise UnknownNameError(f"no grouping factor is called {group!r}: {there}")


@dataclass(frozen=True, eq=False)
class RandomEffects(Mapping[str, "pd.DataFrame"]):
    """Conditional modes by grouping factor.

    A mapping: ``ranef["Subject"]`` is a frame with one row a level and one column an effect.

    Attributes
    ----------
    frames : dict of str to pandas.DataFrame
    condvar : dict of str to ndarray, each (L, k, k), or None
        Conditional covariance matrices of the levels' effects (lme4's ``postVar``), if asked for.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> effects = fit.ranef(condvar=True)
    >>> effects["Subject"].head(2).round(3)
             (Intercept)   Days
    Subject
    308            2.259  9.199
    309          -40.399 -8.620
    >>> effects.condvar["Subject"].shape
    (18, 2, 2)
    >>> effects.to_frame().head(2).round(3)
         grpvar         term  grp  condval  condsd
    0   Subject  (Intercept)  308    2.259  12.071
    1   Subject  (Intercept)  309  -40.399  12.071
    """

    frames: dict[str, pd.DataFrame]
    condvar: dict[str, np.ndarray] | None = None

    def __getitem__(self, group: str) -> pd.DataFrame:
        return self.frames[group]

    def __iter__(self) -> Iterator[str]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def to_frame(self) -> pd.DataFrame:
        """One row an effect, as R's ``as.data.frame(ranef(fit))``.

        Returns
        -------
        pandas.DataFrame
            Columns ``grpvar``, ``term``, ``grp``, ``condval``, and ``condsd`` if the covariances
            were asked for.
        """
        import pandas as pd

        parts = []
        for group, frame in self.frames.items():
            for j, column in enumerate(frame.columns):
                part = {
                    "grpvar": group,
                    "term": column,
                    "grp": frame.index.to_numpy(),
                    "condval": frame[column].to_numpy(),
                }
                if self.condvar is not None:
                    part["condsd"] = np.sqrt(self.condvar[group][:, j, j])
                parts.append(pd.DataFrame(part))
        return pd.concat(parts, ignore_index=True)

    def __repr__(self) -> str:
        return "\n\n".join(f"${group}\n{frame!r}" for group, frame in self.frames.items())


def random_effects(fit: LinearMixedModelResult, condvar: bool) -> RandomEffects:
    """Conditional modes of a fit."""
    import pandas as pd

    frames = ByGroup(
        (
            term.group,
            pd.DataFrame(
                modes, index=pd.Index(term.levels, name=term.group), columns=list(term.columns)
            ),
        )
        for term, modes in zip(fit.design.terms, fit.raw.modes, strict=True)
    )
    if not condvar:
        return RandomEffects(frames)
    covariances = ByGroup(
        (term.group, fit.raw.conditional_covariances(t)) for t, term in enumerate(fit.design.terms)
    )
    return RandomEffects(frames, covariances)


def cluster_coefficients(fit: LinearMixedModelResult) -> dict[str, pd.DataFrame]:
    """Fixed plus random effects of every level."""
    import pandas as pd

    fixed = dict(zip(fit.design.x_names, fit.beta.tolist(), strict=True))
    # As in lme4: effects without a fixed counterpart come first, on zero.
    extra = dict.fromkeys(c for term in fit.design.terms for c in term.columns if c not in fixed)
    base = {**dict.fromkeys(extra, 0.0), **fixed}
    out: ByGroup[pd.DataFrame] = ByGroup()
    for term, modes in zip(fit.design.terms, fit.raw.modes, strict=True):
        values = np.tile(np.array(list(base.values())), (len(term.levels), 1))
        place = {name: i for i, name in enumerate(base)}
        for j, column in enumerate(term.columns):
            values[:, place[column]] += modes[:, j]
        out[term.group] = pd.DataFrame(
            values, index=pd.Index(term.levels, name=term.group), columns=list(base)
        )
    return out
