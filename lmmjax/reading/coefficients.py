"""The fixed effects' table: t values, p values and Wald intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.satterthwaite import FREE_TOL

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.estimates import Estimates
    from lmmjax.inference.satterthwaite import FixedInference


def two_sided_p(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Two-sided p values of t statistics; the normal distribution's where df is infinite."""
    from scipy.special import stdtr

    return 2.0 * stdtr(df, -np.abs(t))


def t_quantile(level: float, df: np.ndarray) -> np.ndarray:
    """Half width, in standard errors, of a two-sided interval from Student's t."""
    from scipy.special import ndtri, stdtrit

    upper = 0.5 + 0.5 * level
    return np.where(np.isinf(df), ndtri(upper), stdtrit(df, upper))


def check_level(level: float) -> float:
    """A confidence level, or an error."""
    if isinstance(level, bool) or not isinstance(level, (int, float, np.number)):
        raise LmmError(f"level must be a number between 0 and 1, not {level!r}")
    if not 0.0 < level < 1.0:
        hint = f"; {level:g}% is level={level / 100:g}" if 1 < level < 100 else ""
        raise LmmError(f"level must lie between 0 and 1, not {level!r}{hint}")
    return float(level)


def moved_rows(contrasts: np.ndarray, inference: FixedInference) -> np.ndarray:
    """Return rows of which products are the contrasts' covariances, shape (..., q, p).

    On the host; of one fit or of many, whose axis then comes first.
    """
    return contrasts @ np.swapaxes(np.asarray(inference.root), -1, -2)


def covariance_of(contrasts: np.ndarray, inference: FixedInference) -> np.ndarray:
    """Return the contrasts' covariance matrix, shape (..., q, q)."""
    moved = moved_rows(contrasts, inference)
    return moved @ np.swapaxes(moved, -1, -2)


def covariance_slopes(moved: np.ndarray, inference: FixedInference) -> np.ndarray:
    """Return derivatives of ``moved moved'`` in (theta, sigma), shape (..., m + 1, q, q)."""
    across = np.swapaxes(moved, -1, -2)
    rows = moved[..., None, :, :]
    by_theta = -(rows @ np.asarray(inference.inner) @ across[..., None, :, :])
    by_sigma = (2.0 / np.asarray(inference.sigma)[..., None, None]) * (moved @ across)
    return np.concatenate([by_theta, by_sigma[..., None, :, :]], axis=-3)


def contrast_df(contrasts: np.ndarray, inference: FixedInference) -> np.ndarray:
    """Satterthwaite's degrees of freedom of each row of `contrasts`, shape (..., q, p).

    On the host; of one fit or of many, whose axis then comes first.
    """
    moved = moved_rows(contrasts, inference)
    variance = np.sum(moved * moved, axis=-1)
    rows = moved[..., None, :, :]
    by_theta = -np.sum((rows @ np.asarray(inference.inner)) * rows, axis=-1)
    by_sigma = (2.0 / np.asarray(inference.sigma)[..., None]) * variance
    gradient = np.swapaxes(np.concatenate([by_theta, by_sigma[..., None, :]], axis=-2), -1, -2)
    spread = np.sum((gradient @ np.asarray(inference.parameter_cov)) * gradient, axis=-1)
    moved = np.max(np.abs(gradient @ np.asarray(inference.free)), axis=-1, initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(moved > FREE_TOL * variance, np.nan, 2.0 * variance**2 / spread)


def coefficient_table(fit: Estimates) -> pd.DataFrame:
    """Estimate, standard error, degrees of freedom, t and p of each coefficient."""
    import pandas as pd

    beta, se, df = fit.beta, fit.standard_errors, np.asarray(fit.raw.estimate.df)
    t = beta / se
    return pd.DataFrame(
        {
            "Estimate": beta,
            "Std. Error": se,
            "df": df,
            "t value": t,
            "Pr(>|t|)": two_sided_p(t, df),
        },
        index=fit.x_index,
    )


def wald_interval(fit: Estimates, level: float, method: str) -> pd.DataFrame:
    """Wald intervals of the fixed effects."""
    import pandas as pd

    level = check_level(level)
    if method not in ("wald", "wald-z"):
        raise LmmError(f"method must be 'wald' or 'wald-z', not {method!r}")
    beta, se = fit.beta, fit.standard_errors
    df = np.asarray(fit.raw.estimate.df) if method == "wald" else np.full(beta.shape, np.inf)
    half = t_quantile(level, df) * se
    return pd.DataFrame({"lower": beta - half, "upper": beta + half}, index=fit.x_index)
