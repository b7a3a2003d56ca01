"""Standard deviations and correlations, or variances and covariances, of all effects."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax.compiled import Kernel
from lmmjax.inference.delta import with_jacobian
from lmmjax.inference.parameters import ModelParameters


def components(p: ModelParameters, blocks: tuple[tuple[int, int, int], ...], scale: str) -> Array:
    """Block by block the rows of `varcorr`, on the scale "sd" or "variance"; the residual last."""
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


components_with_jacobian = Kernel(with_jacobian(components))
