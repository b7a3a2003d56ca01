"""Tables with broom.mixed's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.reading.coefficients import check_level, t_quantile, wald_interval

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult

EFFECTS = ("fixed", "ran_pars", "ran_vals")


def tidy(
    fit: LinearMixedModelResult, effects: str | Sequence[str], *, conf_int: bool, level: float
) -> pd.DataFrame:
    """Do the work of :meth:`LinearMixedModelResult.tidy`, which documents it."""
    import pandas as pd

    level = check_level(level)
    wanted = [effects] if isinstance(effects, str) else list(effects)
    for name in wanted:
        if name not in EFFECTS:
            raise LmmError(f"effects must be among {', '.join(map(repr, EFFECTS))}, not {name!r}")
    makers = {"fixed": _fixed, "ran_pars": _parameters, "ran_vals": _values}
    columns = ["effect", "group"]
    columns += ["level"] if "ran_vals" in wanted else []
    columns += ["term", "estimate", "std.error", "statistic", "df", "p.value"]
    columns += ["conf.low", "conf.high"] if conf_int else []
    parts = [makers[name](fit, level if conf_int else None) for name in wanted]
    rows = [row for part in parts for row in part]
    frame = pd.DataFrame(rows, columns=columns)
    text = {name: object for name in ("effect", "group", "level", "term") if name in columns}
    number = {name: float for name in columns if name not in text}
    frame = frame.astype({**text, **number})
    for name in text:
        frame[name] = frame[name].where(frame[name].notna(), None)
    return frame


def _fixed(fit: LinearMixedModelResult, level: float | None) -> list[dict[str, Any]]:
    table = fit.coefficients.to_numpy()
    rows = [
        {
            "effect": "fixed",
            "group": None,
            "term": name,
            "estimate": row[0],
            "std.error": row[1],
            "statistic": row[3],
            "df": row[2],
            "p.value": row[4],
        }
        for name, row in zip(fit.design.x_names, table, strict=True)
    ]
    if level is not None:
        for row, (low, high) in zip(
            rows, wald_interval(fit, level, "wald").to_numpy(), strict=True
        ):
            row |= {"conf.low": low, "conf.high": high}
    return rows


def _parameters(fit: LinearMixedModelResult, level: float | None) -> list[dict[str, Any]]:
    # Wald intervals of standard deviations are poor: none are given.
    rows = []
    for block in fit.varcorr.blocks:
        sd, corr = block.sd, block.correlation
        k = len(block.columns)
        names = [(f"sd__{block.columns[i]}", sd[i]) for i in range(k)]
        names += [
            (f"cor__{block.columns[i]}.{block.columns[j]}", corr[j, i])
            for i in range(k)
            for j in range(i + 1, k)
        ]
        rows += [
            {"effect": "ran_pars", "group": block.label, "term": name, "estimate": value}
            for name, value in names
        ]
    residual = {"group": "Residual", "term": "sd__Observation", "estimate": fit.sigma}
    return [*rows, {"effect": "ran_pars", **residual}]


def _values(fit: LinearMixedModelResult, level: float | None) -> list[dict[str, Any]]:
    frame = fit.ranef(condvar=True).to_frame()
    half = None if level is None else float(t_quantile(level, np.array(np.inf)))
    rows = []
    for group, term, label, value, sd in frame.itertuples(index=False):
        row = {
            "effect": "ran_vals",
            "group": group,
            "level": label,
            "term": term,
            "estimate": value,
            "std.error": sd,
        }
        if half is not None:
            row |= {"conf.low": value - half * sd, "conf.high": value + half * sd}
        rows.append(row)
    return rows


def glance(fit: LinearMixedModelResult) -> pd.DataFrame:
    """One row for the model."""
    import pandas as pd

    criterion = "REMLcrit" if fit.reml else "deviance"
    return pd.DataFrame(
        {
            "nobs": [fit.nobs],
            "sigma": [fit.sigma],
            "logLik": [fit.llf],
            "AIC": [fit.aic],
            "BIC": [fit.bic],
            criterion: [fit.criterion],
            "df.residual": [fit.df_resid],
        }
    )


def leverage(fit: LinearMixedModelResult) -> np.ndarray:
    """Diagonal of the matrix that takes y to the fitted values, shape (n,).

    It is ``w Var(x'beta_hat + z'(b_hat - b)) / sigma**2``: the inverse of the mixed model
    equations between the weighted rows.
    """
    design = fit.design
    variance = fit.raw.linear_variances(
        design.X, [term.Z for term in design.terms], [term.index for term in design.terms]
    )
    return design.weights * variance / fit.sigma**2


def cooks_distance(fit: LinearMixedModelResult, hat: np.ndarray) -> np.ndarray:
    """Cook's distance of each row, shape (n,), with the variances held (as lme4 gives it)."""
    # Without fixed effects there is none.
    return (fit.scaled_residuals / (1.0 - hat)) ** 2 * hat / (fit.design.p or np.nan)


def augment(fit: LinearMixedModelResult) -> pd.DataFrame:
    """The data used, and what the fit says of each row."""
    import pandas as pd

    from lmmjax.frames import Frame

    design = fit.design
    data = fit.data
    if not isinstance(data, pd.DataFrame):
        frame = Frame(data)
        data = pd.DataFrame({name: frame.column(name).series() for name in frame.names})
    out = data.iloc[design.row_index].copy()
    out.index = fit.index
    if design.y_name in out.columns:
        # After refit() the given frame holds the old response.
        out[design.y_name] = design.y
    hat = leverage(fit)
    out[".fitted"] = fit.conditional_mean
    out[".resid"] = design.y - fit.conditional_mean
    out[".fixed"] = fit.marginal_mean
    out[".hat"] = hat
    out[".cooksd"] = cooks_distance(fit, hat)
    out[".offset"] = design.offset
    out[".weights"] = design.weights
    return out
