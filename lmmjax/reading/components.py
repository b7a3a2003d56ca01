"""Variance components with standard errors, by the delta method from the exact Hessian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.components import components_with_jacobian
from lmmjax.inference.delta import delta_of
from lmmjax.inference.parameters import independent_blocks, model_parameters

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.estimates import Estimates


def variance_component_intervals(
    fit: Estimates, level: float = 0.95, scale: str = "sd"
) -> pd.DataFrame:
    """Do the work of :meth:`LinearMixedModelResult.variance_components`, which documents it."""
    if scale not in ("sd", "variance"):
        raise LmmError(f"scale must be 'sd' or 'variance', not {scale!r}")
    frame = fit.varcorr.to_frame()
    second = frame["var2"].notna().to_numpy()
    blocks = tuple(independent_blocks(fit.raw.prepared.structures))
    # Symmetric intervals on these scales, transformed back, respect the parameters' ranges.
    if scale == "sd":
        scales, estimate = np.where(second, "atanh", "log"), frame["sdcor"]
    else:
        scales, estimate = np.where(second, "identity", "log"), frame["vcov"]
    values, jacobian = components_with_jacobian(model_parameters(fit), blocks=blocks, scale=scale)
    found = delta_of(fit, values, jacobian, level, scales.tolist()).frame
    columns = {name: found[name].to_numpy() for name in ("se", "lower", "upper")}
    return frame[["grp", "var1", "var2"]].assign(estimate=estimate, **columns)
