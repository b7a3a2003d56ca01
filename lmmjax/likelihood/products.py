"""Products of small matrices, by the library or written out.

A library call for a 3 x 3 product costs more than the product. Written out, multiplied and summed
elementwise, it fuses with what comes before and after: right for one small fit. For a batch of fits
the library's batched product is the quicker one, and the default.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import jax.numpy as jnp
from jax import Array

#: Multiplications up to which a product is written out; 0 leaves all to the library.
_LIMIT: ContextVar[int] = ContextVar("multiplications", default=0)


@contextmanager
def written_out(limit: int = 4096) -> Iterator[None]:
    """Write out products of up to ``limit`` multiplications, in what is traced inside."""
    token = _LIMIT.set(limit)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def writes_out() -> bool:
    """Whether what is traced now has its products written out."""
    return bool(_LIMIT.get())


def matmul(left: Array, right: Array) -> Array:
    """``left @ right``, either of them a vector, a matrix, or a stack of matrices."""
    limit = _LIMIT.get()
    if not limit:
        return left @ right
    row, column = left.ndim == 1, right.ndim == 1
    count = (left.shape[0] if row else left.shape[-2] * left.shape[-1]) * (
        1 if column else right.shape[-1]
    )
    if count > limit:
        return left @ right
    a = left[None, :] if row else left
    b = right[:, None] if column else right
    product = jnp.sum(a[..., :, :, None] * b[..., None, :, :], axis=-2)
    if row:
        product = product[..., 0, :]
    return product[..., 0] if column else product
