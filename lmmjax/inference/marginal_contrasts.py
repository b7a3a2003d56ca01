"""Contrasts between means, or between whatever linear functions of the fixed effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.columns import label
from lmmjax.errors import LmmError
from lmmjax.inference.contrast_families import contrast_family
from lmmjax.inference.multiplicity import check_adjustment

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.inference.marginal_estimates import MarginalEstimates


def contrasts_of(
    estimates: MarginalEstimates,
    method: Any,
    *,
    by: str | Sequence[str] | None,
    adjust: str | None,
    ref: str | int | None,
    named: bool = True,
) -> MarginalEstimates:
    """Contrasts of estimates; :meth:`MarginalEstimates.contrast` documents them.

    Numbers among the levels have their variable's name before them where `named`.
    """
    import pandas as pd

    within = estimates.by if by is None else tuple([by] if isinstance(by, str) else by)
    for name in within:
        if name not in estimates.labels.columns:
            raise LmmError(
                f"by names {name!r}; the columns are "
                f"{', '.join(map(repr, estimates.labels.columns))}"
            )
    groups = estimates.groups(within)
    if len({len(rows) for rows in groups}) > 1:
        raise LmmError(f"the levels of {', '.join(within)} do not have equally many rows")
    own = [c for c in estimates.labels.columns if c not in within]
    parts, sums, names, adjust_by_default = [], [], [], "none"
    pairwise, size = False, 0
    for rows in groups:
        family = contrast_family(method, _level_names(estimates.labels, own, rows, named), ref)
        parts.append(weighted_sums(family.weights, estimates.functions[rows]))
        sums.append(family.weights.sum(axis=1))
        names += family.names
        adjust_by_default, pairwise, size = family.adjust, family.pairwise, family.size
    if not names:
        raise LmmError("there is one mean only: nothing to contrast it with")
    count = len(parts[0])
    column = "contrast"
    while column in within:
        column += "1"
    labels = pd.DataFrame({column: names})
    for name in within:
        first = [rows[0] for rows in groups]
        labels[name] = np.repeat(estimates.labels[name].to_numpy()[first], count)
    differences = bool(np.all(np.abs(np.concatenate(sums)) < 1e-6))
    scale = (
        estimates.scale if estimates.scale and estimates.scale.logarithmic and differences else None
    )
    notes = ()
    if estimates.scale and not scale:
        notes = (f"Note: contrasts are still on the {estimates.scale.name} scale",)
    back = estimates.back and scale is not None
    if back:
        labels[column] = [name.replace(" - ", " / ") for name in names]
    return replace(
        estimates,
        functions=np.concatenate(parts),
        labels=labels,
        by=within,
        estimate_name="ratio" if back else "estimate",
        notes=notes,
        scale=scale,
        back=back,
        adjust=adjust_by_default if adjust is None else check_adjustment(adjust),
        null=0.0,
        side=0,
        interval=False,
        tested=True,
        pairwise=pairwise,
        size=size,
    )


def weighted_sums(weights: np.ndarray, functions: np.ndarray) -> np.ndarray:
    """Return ``weights @ functions``, exactly zero where all but rounding cancels.

    Parameters
    ----------
    weights : ndarray, shape (c, m)
    functions : ndarray, shape (m, w)
        Rows that are not finite make those NaN that give them weight, and no others.
    """
    finite = np.isfinite(functions)
    known = np.where(finite, functions, 0.0)
    made = weights @ known
    # Coefficients may be in any units: what is small is told column by column.
    made[np.abs(made) < 1e-13 * np.abs(known).max(axis=0, initial=0.0)] = 0.0
    made[(weights != 0.0) @ ~np.all(finite, axis=1)] = np.nan
    return made


def _level_names(
    labels: pd.DataFrame, columns: Sequence[str], rows: np.ndarray, named: bool
) -> list[str]:
    """Each row's levels in one text; a number has its variable's name before it where `named`."""
    if not columns:
        return ["overall"] * len(rows)
    texts = []
    for name in columns:
        values = [label(v) for v in labels[name]]
        prefix = name if named and all(map(_is_number, values)) else ""
        texts.append([prefix + values[row] for row in rows])
    return [" ".join(parts) for parts in zip(*texts, strict=True)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
