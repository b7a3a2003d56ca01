"""Sums by group, for NumPy on the host and for JAX inside a trace: one spelling."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def namespace(*arrays: Any) -> Any:
    """``jax.numpy`` if any array is JAX's (traced or not), else ``numpy``."""
    return jnp if any(isinstance(a, jax.Array) for a in arrays) else np


def segment_sum(values: Any, index: Any, count: int) -> Any:
    """Sum ``values``, shape (n,), over equal ``index``; result shape (count,)."""
    if namespace(values, index) is np:
        return np.bincount(index, weights=values, minlength=count)
    return jax.ops.segment_sum(values, index, count)


def group_gram(left: Any, right: Any, index: Any | None, count: int) -> Any:
    """``left_j' right_j`` of each group, shape (a, b, count); ``index`` None means one group."""
    xp = namespace(left, right)
    if index is None:
        return (left.T @ right)[..., None]
    if not (left.shape[1] and right.shape[1]):  # a model without fixed effects
        return xp.zeros((left.shape[1], right.shape[1], count), xp.result_type(left, right))
    return xp.stack(
        [
            xp.stack([segment_sum(left[:, i] * right[:, j], index, count)
                      for j in range(right.shape[1])])
            for i in range(left.shape[1])
        ]
    )  # fmt: skip
