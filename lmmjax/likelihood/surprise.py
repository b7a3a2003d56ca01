"""Whether some group is further out than a fit can explain: the sign of an optimum missed.

Where a fit ends in the wrong one of two optima, some groups' data are most unlikely under it: one
group with a steep slope, say, where the variance of slopes was found to be small. Under the fit,
a group's squared Mahalanobis distance

    d_j^2 = c_j(r)' (I + R_j Lambda Lambda' R_j')^-1 c_j(r) / sigma^2,    r = y - X beta,

is about chi-squared on the rank of ``R_j``. It comes from sums that the fit has made anyway.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import jax.numpy as jnp
from jax import Array

from lmmjax.likelihood import smallblock
from lmmjax.likelihood.crossproducts import CrossProducts
from lmmjax.likelihood.jets import FixedPart
from lmmjax.likelihood.moments import MomentBlocks
from lmmjax.likelihood.products import matmul
from lmmjax.likelihood.segments import namespace

#: Chance that any group of an ordinary data set is called surprising.
CHANCE = 0.02


def chi_squared_limit(df: Any, count: int) -> Any:
    """Value that the largest of `count` chi-squared variables exceeds by chance only.

    Wilson & Hilferty (1931), Proc. Natl. Acad. Sci. 17, 684-688, for the quantile.
    """
    xp = namespace(df)
    z = NormalDist().inv_cdf(1.0 - CHANCE / count)
    spread = 2.0 / (9.0 * xp.maximum(df, 1.0))
    return df * (1.0 - spread + z * xp.sqrt(spread)) ** 3


def has_surprise(
    data: CrossProducts, factors: tuple[Array, ...], fixed: FixedPart, df: float | Array
) -> Array:
    """Whether groups of some pattern are further out than the fit can explain, scalar bool.

    Of designs with one grouping factor in moment form. Where all groups share one design the answer
    is no: the criterion is then a function of one mean square matrix, and has one optimum.
    """
    engine = data.elimination
    if not isinstance(engine, MomentBlocks) or engine.rest_levels or engine.root.shape[-1] == 1:
        return jnp.zeros((), bool)
    root = jnp.asarray(engine.root)
    size, width = root.shape[-1], engine.within.shape[-1]
    kept, _ = smallblock.kept_share(root, factors[0])
    residual = jnp.append(-fixed.beta, 1.0)
    square = (residual[:, None] * residual[None, :]).reshape(width * width)
    along = matmul(jnp.asarray(engine.moments), square).reshape(-1, size)
    distance = jnp.sum(kept * along, axis=0) * (df / fixed.rss)
    rank = sum((root[a, a] > 0.0).astype(root.dtype) for a in range(root.shape[0]))
    return jnp.any(distance > chi_squared_limit(jnp.asarray(engine.count) * rank, size))
