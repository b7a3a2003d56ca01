"""Sums by group, for NumPy on the host and for JAX inside a trace: one spelling."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def namespace(*arrays: Any) -> Any:
    """``jax.numpy`` if any array is JAX's (traced or not), else ``numpy``."""
    return jnp if any(isinstance(a, jax.Array) for a in arrays) else np


def varying_like(constant: Any, reference: Any) -> Any:
    """Return a constant that a loop starts with, typed as what the loop makes of it.

    Inside of ``shard_map`` a type says over which axes of the devices a value varies, and a loop
    must keep it.
    """
    missing = tuple(_varying_axes(reference) - _varying_axes(constant))
    if not missing:
        return constant
    if hasattr(lax, "pcast"):
        return lax.pcast(constant, missing, to="varying")
    return lax.pvary(constant, missing)  # pyright: ignore[reportAttributeAccessIssue]


def _varying_axes(x: Any) -> frozenset[str]:
    # By the names that versions of JAX have for it; without any there is nothing to keep.
    kind = jax.typeof(x) if hasattr(jax, "typeof") else None
    manual = getattr(kind, "manual_axis_type", None)
    return getattr(kind, "vma", frozenset()) if manual is None else manual.varying


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
