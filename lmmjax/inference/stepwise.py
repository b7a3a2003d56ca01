"""Backward elimination: of random-effects terms first, then of fixed-effects terms.

Source: Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13), section 2.5 and
lmerTest's `step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.anova import METHOD_NAMES, AnovaTable
from lmmjax.inference.contrasts import check_method
from lmmjax.inference.drop_terms import droppable, f_deletions, least_squares_deletions
from lmmjax.inference.linear_model import LinearModel
from lmmjax.inference.random_terms import delete_random_terms, notes_on
from lmmjax.inference.reduction import Model, rebuild, without_fixed_term

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult


@dataclass(frozen=True, eq=False)
class Elimination:
    """What a backward elimination did; prints as lmerTest's ``step``.

    Attributes
    ----------
    random_table, fixed_table : AnovaTable
        The terms in the order in which they went, then those that stayed (``Eliminated`` 0), each
        with its test in the model that it was last part of.
    final : LinearMixedModelResult or LinearModel
        The model found; the latter where no random effects are left.
    """

    random_table: AnovaTable
    fixed_table: AnovaTable
    final: LinearMixedModelResult | LinearModel

    @property
    def random(self) -> pd.DataFrame:
        """The random-effects terms' frame."""
        return self.random_table.frame

    @property
    def fixed(self) -> pd.DataFrame:
        """The fixed-effects terms' frame."""
        return self.fixed_table.frame

    @property
    def model(self) -> LinearMixedModelResult | LinearModel:
        """Same as `final`."""
        return self.final

    @property
    def formula(self) -> str:
        """Formula of the model found."""
        return str(self.final.design.formula)

    def __str__(self) -> str:
        return f"{self.random_table}\n\n{self.fixed_table}\n\nModel found:\n{self.formula}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        tables = self.random_table._repr_html_() + self.fixed_table._repr_html_()
        return f"<div>{tables}<p>Model found: {escape(self.formula)}</p></div>"


def _table(
    heading: tuple[str, ...],
    parts: tuple[list[pd.DataFrame], list[pd.DataFrame], pd.DataFrame],
    notes: tuple[str, ...] = (),
) -> AnovaTable:
    """The rows of the model itself, of the terms that went (a frame each), of those that stayed."""
    import pandas as pd

    first, went, stayed = parts
    counts = [np.nan] * len(first) + list(range(1, len(went) + 1)) + [0] * len(stayed)
    frame = pd.concat([part for part in (*first, *went, stayed) if len(part)] or [stayed])
    frame.insert(0, "Eliminated", np.array(counts, np.float64))
    return AnovaTable(heading, frame, {}, notes)


def _least_certain(p: np.ndarray, alpha: float) -> int | None:
    """Position of the largest p value, if it is above `alpha`."""
    if not np.any(p > alpha):
        return None
    return int(np.nanargmax(p))


def eliminate_random(fit: LinearMixedModelResult, alpha: float) -> tuple[Model, AnovaTable]:
    """Drop the random term of the largest p value until none is above `alpha`."""
    model: Model = fit
    found = delete_random_terms(fit)
    first, went = found.frame.iloc[:1], []
    stayed = found.frame.iloc[1:]
    notes = notes_on(found)
    while (worst := _least_certain(stayed["Pr(>Chisq)"].to_numpy(float), alpha)) is not None:
        went.append(stayed.iloc[[worst]])
        model = found.models[worst]
        if isinstance(model, LinearModel):
            stayed = stayed.iloc[:0]
            break
        found = delete_random_terms(model)
        stayed = found.frame.iloc[1:]
    heading = ("Backward reduced random-effect table:", "")
    return model, _table(heading, ([first], went, stayed), notes)


def eliminate_fixed(
    model: Model, ddf: str, alpha: float, keep: Sequence[str]
) -> tuple[Model, AnovaTable]:
    """Drop the fixed term of the largest p value until none but those kept is above `alpha`."""

    def tests(of: Model) -> pd.DataFrame:
        if isinstance(of, LinearModel):
            return least_squares_deletions(of, droppable(of)).frame
        return f_deletions(of, droppable(of), ddf).frame

    went = []
    stayed = tests(model)
    while True:
        considered = stayed.drop(index=[name for name in keep if name in stayed.index])
        worst = _least_certain(considered["Pr(>F)"].to_numpy(float), alpha)
        if worst is None:
            break
        went.append(considered.iloc[[worst]])
        model = rebuild(model, without_fixed_term(model, str(considered.index[worst])))
        stayed = tests(model)
    method = "least squares" if isinstance(model, LinearModel) else METHOD_NAMES[ddf]
    heading = (
        "Backward reduced fixed-effect table:",
        f"Degrees of freedom method: {method.removesuffix(chr(39) + 's method')}",
        "",
    )
    return model, _table(heading, ([], went, stayed))


def step(
    fit: LinearMixedModelResult,
    *,
    ddf: str = "satterthwaite",
    alpha_random: float = 0.1,
    alpha_fixed: float = 0.05,
    keep: str | Sequence[str] = (),
) -> Elimination:
    """Backward elimination; :meth:`LinearMixedModelResult.step` documents it."""
    from lmmjax.messages import warn_about

    ddf = check_method(ddf)
    for name, alpha in (("alpha_random", alpha_random), ("alpha_fixed", alpha_fixed)):
        if not 0.0 <= alpha <= 1.0:
            raise LmmError(f"{name} must lie between 0 and 1, not {alpha!r}")
    kept = [keep] if isinstance(keep, str) else list(keep)
    names = fit.design.coding.term_names
    for name in kept:
        if name not in names:
            raise LmmError(
                f"keep names {name!r}, which is no term of the fixed part: they are "
                + ", ".join(map(repr, names))
            )
    model, random = eliminate_random(fit, alpha_random)
    model, fixed = eliminate_fixed(model, ddf, alpha_fixed, kept)
    if not isinstance(model, LinearModel) and model is not fit:
        warn_about(model)
    return Elimination(random, fixed, model)
