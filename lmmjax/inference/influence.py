"""How much single rows or whole groups decide a fit.

Rows are left out with the variances held, in closed form: the mixed model equations without row i
differ from those with it by a matrix of rank one, so that

    beta - beta_(i) = w_i Cov(beta_hat, l_i) / sigma^2  e_i / (1 - h_i),

``l_i = x_i'beta_hat + z_i'(b_hat - b)``, e the residual and h the leverage. Groups are left out by
fitting again.

Source: Belsley, Kuh & Welsch (1980), Regression Diagnostics, chapter 2; Christensen, Pearson &
Johnson (1992), Technometrics 34, 38-45, and Demidenko & Stukel (2005), Stat. Med. 24, 893-909, for
mixed models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmmjax.errors import DataError, LmmError
from lmmjax.inference.deletion import Deletions, delete_units
from lmmjax.inference.parameters import independent_blocks
from lmmjax.optimize.solution import Status
from lmmjax.reading.tidy import cooks_distance, leverage

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from lmmjax.result import LinearMixedModelResult

#: How many units a printed influence shows.
SHOWN = 6


@dataclass(frozen=True, eq=False)
class Influence:
    """What the fit would be without each row, or without each group; prints the most influential.

    Attributes
    ----------
    unit : str
        ``"row"``, or the name of what was left out.
    refitted : bool
        Whether the variances were estimated again without each unit, or held.
    frame : pandas.DataFrame
        One row a unit. Variances held: ``hat`` (leverage), ``cooksd`` (Cook's distance, of fixed
        and random effects together, as in lme4), ``rstandard`` and ``rstudent`` (residuals over
        their standard error, with sigma of all rows and of the others), ``dffits``. Refitted:
        ``n`` (rows left out), ``cooksd`` (of the fixed effects), ``covratio``, ``sigma``,
        ``converged``.
    dfbeta : pandas.DataFrame
        For each unit and coefficient the estimate less that without the unit.
    dfbetas : pandas.DataFrame
        The same over the standard errors without the unit.
    components : pandas.DataFrame or None
        Refitted: standard deviations and correlations without each unit.
    change : pandas.DataFrame or None
        Refitted: how they differ from those of all data; relative for standard deviations (0.1 is
        10 % more without the unit), as they are for correlations.
    """

    unit: str
    refitted: bool
    frame: pd.DataFrame
    dfbeta: pd.DataFrame
    dfbetas: pd.DataFrame
    components: pd.DataFrame | None = None
    change: pd.DataFrame | None = None

    def __str__(self) -> str:
        how = "by fitting again" if self.refitted else "with the variances held"
        order = np.argsort(-np.nan_to_num(self.frame["cooksd"].to_numpy()), kind="stable")
        table = self.frame.iloc[order[:SHOWN]].round(4).to_string()
        return f"Influence of each {self.unit}, {how}; the largest Cook's distances:\n{table}"

    __repr__ = __str__

    def plot(
        self,
        kind: Literal["cooksd", "dfbetas"] = "cooksd",
        *,
        ax: Axes | None = None,
        label: int = 3,
    ) -> Axes:
        """Draw it: see :func:`lmmjax.plot.influence`."""
        from lmmjax.plot.influence import index_plot

        return index_plot(self, kind, ax=ax, label=label)


def influence(
    fit: LinearMixedModelResult, groups: str | Sequence[str] | np.ndarray | None = None
) -> Influence:
    """Do the work of :meth:`LinearMixedModelResult.influence`, which documents it."""
    if groups is None:
        return _of_rows(fit)
    name, unit, labels = _units(fit, groups)
    if len(labels) < 2:
        raise LmmError(f"{name!r} has one level: nothing is left without it")
    return _of_units(fit, name, labels, unit, delete_units(fit.raw, fit.design, unit, len(labels)))


# --- rows, variances held ------------------------------------------------------------------------


def _of_rows(fit: LinearMixedModelResult) -> Influence:
    import pandas as pd

    hat = leverage(fit)
    scaled = fit.scaled_residuals
    rstandard = scaled / np.sqrt(1.0 - hat)
    # r^2 without the row, and the sigma that goes with it
    df = fit.nobs - (fit.design.p if fit.reml else 0)
    sigma_ratio = np.sqrt(np.maximum(df - rstandard**2, 0.0) / (df - 1))
    with np.errstate(divide="ignore"):
        rstudent = rstandard / sigma_ratio
    change = _beta_change(fit, hat)
    with np.errstate(divide="ignore"):
        relative = change / (fit.standard_errors * sigma_ratio[:, None])
    frame = pd.DataFrame(
        {
            "hat": hat,
            "cooksd": cooks_distance(fit, hat),
            "rstandard": rstandard,
            "rstudent": rstudent,
            "dffits": rstudent * np.sqrt(hat / (1.0 - hat)),
        },
        index=fit.index,
    )
    return Influence(
        unit="row",
        refitted=False,
        frame=frame,
        dfbeta=pd.DataFrame(change, index=fit.index, columns=fit.x_index),
        dfbetas=pd.DataFrame(relative, index=fit.index, columns=fit.x_index),
    )


def _beta_change(fit: LinearMixedModelResult, hat: np.ndarray) -> np.ndarray:
    """``beta - beta_(i)`` for every row, the variances held, shape (n, p)."""
    design = fit.design
    Z = [term.Z for term in design.terms]
    levels = [term.index for term in design.terms]
    size = np.sqrt(hat / design.weights) * fit.sigma
    weight = design.weights * (design.y - fit.conditional_mean) / (1.0 - hat) / fit.sigma**2
    out = np.empty(design.X.shape)
    for j, se in enumerate(fit.standard_errors):
        # Cov(l, beta_j) from the variances of l + c beta_j and l - c beta_j, of like sizes.
        c = np.where(size > 0, size / se, 1.0)
        step = np.zeros_like(design.X)
        step[:, j] = c
        plus = fit.raw.linear_variances(design.X + step, Z, levels)
        minus = fit.raw.linear_variances(design.X - step, Z, levels)
        out[:, j] = weight * (plus - minus) / (4.0 * c)
    return out


# --- groups, by fitting again --------------------------------------------------------------------


def _units(
    fit: LinearMixedModelResult, groups: str | Sequence[str] | np.ndarray
) -> tuple[str, np.ndarray, list[Any]]:
    """Name of what is left out, the unit of each row, and the units' labels."""
    if isinstance(groups, str) and groups == "rows":
        return "row", np.arange(fit.nobs), list(fit.index)
    if isinstance(groups, str):
        for term in fit.design.terms:
            if term.group == groups:
                # Levels without rows have nothing to leave out.
                present, unit = np.unique(term.index, return_inverse=True)
                return groups, unit.reshape(-1), [term.levels[i] for i in present]
    if isinstance(groups, np.ndarray):
        name, values = "group", [_of_used_rows(fit, groups)]
    else:
        names = [groups] if isinstance(groups, str) else list(groups)
        name, values = ":".join(names), [_column(fit, each) for each in names]
    codes = np.zeros(fit.nobs, np.int64)
    for each in values:
        _, own = np.unique(each, return_inverse=True)
        codes = codes * (int(own.max()) + 1) + own.reshape(-1)
    _, first, unit = np.unique(codes, return_index=True, return_inverse=True)
    labels = [":".join(str(each[i]) for each in values) for i in first]
    return name, unit.reshape(-1), labels


def _column(fit: LinearMixedModelResult, name: str) -> np.ndarray:
    from lmmjax.frames import Frame

    frame = Frame(fit.data)
    if name not in frame:
        known = ", ".join(repr(term.group) for term in fit.design.terms)
        raise DataError(
            f"{name!r} is neither a grouping factor of the model ({known}) nor a column of the "
            "data; for single rows, groups='rows'"
        )
    return _of_used_rows(fit, np.asarray(frame.column(name).series()))


def _of_used_rows(fit: LinearMixedModelResult, values: np.ndarray) -> np.ndarray:
    design = fit.design
    if values.shape == (design.n + design.n_dropped,):
        values = values[design.row_index]
    if values.shape != (design.n,):
        raise DataError(f"groups have shape {values.shape}; the fit has {design.n} rows")
    missing = np.array([v is None or v != v for v in values.tolist()])
    if missing.any():
        raise DataError(f"groups are missing at row {int(np.argmax(missing))} of the fit")
    return values if values.dtype.kind in "iufb" else values.astype(str)


def _of_units(
    fit: LinearMixedModelResult, name: str, labels: list[Any], unit: np.ndarray, without: Deletions
) -> Influence:
    import pandas as pd

    index = pd.Index(labels, name=name)
    change = fit.beta - without.beta
    p = change.shape[1]
    # vcov = root'root: its inverse would lose twice the digits where an origin is far away.
    root = np.asarray(fit.raw.estimate.fixed.root)
    with np.errstate(invalid="ignore"):
        relative = change / np.linalg.norm(without.root, axis=1)
        ratio = np.exp(2.0 * (np.linalg.slogdet(without.root)[1] - np.linalg.slogdet(root)[1]))
    distance = np.sum(np.linalg.solve(root.T, change.T) ** 2, axis=0) / (p or np.nan)
    frame = pd.DataFrame(
        {
            "n": np.bincount(unit, minlength=len(labels)),
            "cooksd": distance,
            "covratio": ratio,
            "sigma": without.sigma,
            "converged": without.status == Status.CONVERGED,
        },
        index=index,
    )
    full = fit.sigma**2
    estimates, names, is_sd = _components(
        fit, [full * factor @ factor.T for factor in fit.raw.factors], np.asarray(fit.sigma)
    )
    left, _, _ = _components(fit, list(without.covariances), without.sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(is_sd, left / estimates - 1.0, left - estimates)
    return Influence(
        unit=name,
        refitted=True,
        frame=frame,
        dfbeta=pd.DataFrame(change, index=index, columns=fit.x_index),
        dfbetas=pd.DataFrame(relative, index=index, columns=fit.x_index),
        components=pd.DataFrame(left, index=index, columns=names),
        change=pd.DataFrame(moved, index=index, columns=names),
    )


def _components(
    fit: LinearMixedModelResult, covariances: list[np.ndarray], sigma: np.ndarray
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Standard deviations and correlations, shape (..., c), their names, and which are sds."""
    values, names, is_sd = [], [], []
    for t, at, size in independent_blocks(fit.raw.prepared.structures):
        term = fit.design.terms[t]
        cov = covariances[t][..., at : at + size, at : at + size]
        columns = term.columns[at : at + size]
        sd = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
        for i in range(size):
            values.append(sd[..., i])
            names.append(f"sd_{columns[i]}|{term.group}")
            for j in range(i + 1, size):
                with np.errstate(divide="ignore", invalid="ignore"):
                    values.append(cov[..., i, j] / (sd[..., i] * sd[..., j]))
                names.append(f"cor_{columns[j]}.{columns[i]}|{term.group}")
    is_sd = [not name.startswith("cor_") for name in names]
    return np.stack([*values, sigma], axis=-1), [*names, "sigma"], np.array([*is_sd, True])
