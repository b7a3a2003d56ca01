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


def orthonormal_rows(
    columns: np.ndarray, index: np.ndarray, count: int, tol: float = 1e-11
) -> tuple[np.ndarray, np.ndarray]:
    """QR of every group's rows at once, by Gram-Schmidt with reorthogonalisation.

    Parameters
    ----------
    columns : ndarray, shape (n, k)
    index : ndarray of int, shape (n,)
    count : int
        Number of groups.
    tol : float
        A column whose remainder is below ``tol`` times its norm in the group counts as dependent
        there: its row of ``R`` and its column of ``Q`` are zero.

    Returns
    -------
    q : ndarray, shape (n, k)
        Orthonormal (or zero) columns within each group.
    root : ndarray, shape (k, k, count)
        Upper-triangular ``R`` with ``Z_j = Q_j R_j``.

    Notes
    -----
    Works on rows, not on the Gram matrix, so the condition number is not squared
    (Golub & Van Loan 2013, section 5.2.9).
    """
    n, k = columns.shape
    q = np.zeros((n, k))
    root = np.zeros((k, k, count))
    for a in range(k):
        v = columns[:, a].copy()
        norm = np.sqrt(segment_sum(v * v, index, count))
        for _ in range(2 if a else 0):
            for b in range(a):
                r = segment_sum(q[:, b] * v, index, count)
                v -= r[index] * q[:, b]
                root[b, a] += r
        length = np.sqrt(segment_sum(v * v, index, count))
        length = np.where(length > tol * norm, length, 0.0)
        root[a, a] = length
        inverse = np.divide(1.0, length, out=np.zeros(count), where=length > 0)
        q[:, a] = v * inverse[index]
    return q, root
