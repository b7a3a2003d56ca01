"""Frozen dataclasses as JAX pytrees: arrays are leaves, what is marked ``static`` is metadata."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """Field that is compile-time metadata (hashable), not a leaf."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


def register(cls: type[T]) -> type[T]:
    """Class decorator: make a frozen dataclass a pytree."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    jax.tree_util.register_dataclass(
        cls,
        data_fields=[f.name for f in fields if not f.metadata.get("static")],
        meta_fields=[f.name for f in fields if f.metadata.get("static")],
    )
    return cls
