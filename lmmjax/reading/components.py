"""Variance components with standard errors, by the delta method from the exact Hessian."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.errors import LmmError
from lmmjax.inference.delta import delta
from lmmjax.inference.parameters import ModelParameters, independent_blocks

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
    found = delta(fit, _components, blocks, scale, level=level, scale=scales.tolist()).frame
    columns = {name: found[name].to_numpy() for name in ("se", "lower", "upper")}
    return frame[["grp", "var1", "var2"]].assign(estimate=estimate, **columns)


@partial(jax.jit, static_argnums=(1, 2))
def _components(p: ModelParameters, blocks: tuple[tuple[int, int, int], ...], scale: str) -> Array:
    """Block by block the rows of `varcorr`; the residual comes last."""
    out = []
    for t, at, size in blocks:
        cov = p.covariances[t][at : at + size, at : at + size]
        i, j = np.triu_indices(size, k=1)
        own = jnp.diagonal(cov)
        if scale == "sd":
            own = jnp.sqrt(own)
            cov = cov / (own[:, None] * own)
        out += [own, cov[i, j]]
    residual = p.sigma if scale == "sd" else p.sigma**2
    return jnp.concatenate([*out, residual[None]])
