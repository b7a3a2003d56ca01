"""What of many fits a bootstrap follows: fixed effects, standard deviations, correlations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.many.fits import ManyFits

#: ``ManyFits -> array, shape (replicates,) or (replicates, s)``, or a mapping of such by name.
Statistic = Callable[[ManyFits], Any]


def all_parameters(many: ManyFits) -> dict[str, np.ndarray]:
    """Standard deviations and correlations in lme4's order, sigma, then fixed effects."""
    out: dict[str, np.ndarray] = {}
    for term, covariance in zip(many.design.terms, many.covariances, strict=True):
        sd = np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))
        at = 0
        for size in term.blocks:
            for j in range(at, at + size):
                out[f"sd_{term.columns[j]}|{term.group}"] = sd[:, j]
                for i in range(j + 1, at + size):
                    product = sd[:, i] * sd[:, j]
                    known = product > 0
                    value = covariance[:, i, j] / np.where(known, product, 1.0)
                    name = f"cor_{term.columns[i]}.{term.columns[j]}|{term.group}"
                    out[name] = np.where(known, value, np.nan)
            at += size
    out["sigma"] = many.sigma
    out.update(zip(many.names, many.beta.T, strict=True))
    return out


def evaluate(statistic: Statistic | None, many: ManyFits) -> dict[str, np.ndarray]:
    """Named columns, each of shape (replicates,).

    Raises
    ------
    LmmError
        The statistic gives something else.
    """
    found = all_parameters(many) if statistic is None else statistic(many)
    if isinstance(found, dict):
        columns = {str(name): np.asarray(x, np.float64) for name, x in found.items()}
    else:
        values = np.asarray(found, np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2:
            raise LmmError(
                f"the statistic gives an array of shape {values.shape}: it takes all fits at once "
                "(lj.ManyFits) and gives (replicates,), (replicates, s) or a dict of columns"
            )
        names = [f"statistic{i + 1}" for i in range(values.shape[1])]
        columns = dict(zip(names, values.T, strict=True))
    for name, x in columns.items():
        if x.shape != (len(many),):
            raise LmmError(f"the statistic's {name!r} has shape {x.shape}, not ({len(many)},)")
    return columns
