"""A prepared design with rows taken out, differently for each response; pure.

For a batch of data sets that do not share a design (dropout, missing responses), with one grouping
factor: every group is a pattern of its own, and all lanes have the same shapes.
"""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from lmmjax.likelihood.crossproducts import CrossProducts, Prepared, pattern_moments
from lmmjax.likelihood.moments import MomentBlocks
from lmmjax.likelihood.products import matmul
from lmmjax.likelihood.rowgroups import RowGroups, orthonormal_rows
from lmmjax.likelihood.smallblock import inverse_factor
from lmmjax.likelihood.start import moment_start


def masked_cross_products(prepared: Prepared, y: Array, present: Array) -> CrossProducts:
    """Cross-products of the rows that are present.

    Parameters
    ----------
    prepared : Prepared
        Of all rows, with one grouping factor.
    y : Array, shape (n,)
        What it holds where a row is absent does not matter, as long as it is finite.
    present : Array of bool, shape (n,)

    Returns
    -------
    CrossProducts
        Those of the smaller design, with every group as a pattern; not finite where the rows left
        do not determine the fixed effects.
    """
    groups = prepared.own_groups
    count, L = groups.count, jnp.arange(groups.count)
    root_weights = jnp.asarray(prepared.root_weights)
    here = (present & (root_weights > 0)).astype(y.dtype)
    fixed = here[:, None] * prepared.basis.q
    weighted = here * root_weights * (y - prepared.offset)
    # Least squares on what is left of the basis, which is not orthonormal any more.
    half, _ = inverse_factor(matmul(fixed.T, fixed))
    coefficient = jnp.zeros(fixed.shape[1], y.dtype)
    residual = weighted
    for _ in range(2):
        step = matmul(matmul(half, matmul(residual, fixed)), half)
        coefficient = coefficient + step
        residual = residual - matmul(fixed, step)
    scale = jnp.sqrt(jnp.sum(residual * residual))
    residual = residual / scale

    q, root = orthonormal_rows(here[:, None] * prepared.term_rows[0], groups)
    k = q.shape[1]
    columns = jnp.concatenate([fixed, residual[:, None]], axis=1)
    c = jnp.stack([jnp.stack([groups.sum(q[:, a] * x) for x in columns.T]) for a in range(k)])
    inner = columns - sum(
        q[:, [a]] * jnp.stack([groups.spread(x) for x in c[a]], axis=1) for a in range(k)
    )
    within = matmul(inner.T, inner)
    own = RowGroups(L, None, count, True)
    moments = pattern_moments(c, c, own)
    n_obs = jnp.sum(here)
    rank = sum(jnp.sum(root[a, a] > 0) for a in range(k)) + fixed.shape[1]
    variance = jnp.maximum(within[-1, -1] / jnp.maximum(n_obs - rank, 1.0), 0.02 / n_obs)
    template = prepared.template
    assert isinstance(template, MomentBlocks)
    return CrossProducts(
        elimination=replace(
            template,
            root=root,
            count=jnp.ones(count, y.dtype),
            moments=moments.reshape(moments.shape[0], -1),
            within=within,
        ),
        fixed_factor=prepared.basis.factor,
        fixed_inverse=prepared.basis.inverse,
        beta_ols=matmul(jnp.asarray(prepared.basis.inverse), coefficient),
        scale=scale,
        transforms=prepared.transforms,
        sum_log_weights=2.0 * jnp.sum(jnp.where(here > 0, jnp.log(root_weights), 0.0)),
        start=moment_start(
            prepared.equations,
            prepared.search_structures,
            [jnp.sum(root * c[:, None, -1], axis=0)],
            jnp.asarray(prepared.n_obs, y.dtype),
            variance,
        ),
        n_obs=n_obs,
        level_sums=(),
        structures=prepared.structures,
    )
