"""Instances of a user's class as pytrees: its arrays are data, all else is configuration.

A compiled program may be shared by two objects that differ in their data, which are arguments of
it, and never by two that differ in their configuration, which is built in. So what an object holds
is divided here, whatever its class: an array anywhere among its attributes is a leaf, and the rest
is compared by type and value.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from lmmjax.errors import LmmError

#: Where an object that came out of a transformation keeps which of its parts are leaves: they may
#: have become anything, such as the axes of a ``vmap``.
DIVISION = "_division"


class _Leaf:
    """The mark of a part that is data."""

    def __repr__(self) -> str:
        return "*"


LEAF = _Leaf()


class Static:
    """A part that is configuration: equal to another of the same type and value."""

    __slots__ = ("key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        # 0.0 == -0.0, and NaN is not equal to itself: floats are compared by their digits.
        self.key = type(value), value.hex() if isinstance(value, float) else value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"{type(self.value).__name__}({self.value!r})"


class Division(NamedTuple):
    """Which parts of an object are leaves, and what the others are.

    Attributes
    ----------
    treedef : PyTreeDef
        Of its attributes by name.
    parts : tuple
        For each leaf of these: the mark of data, or what it is.
    places : tuple of int
        Where the marks are.
    """

    treedef: Any
    parts: tuple[Any, ...]
    places: tuple[int, ...]


def attributes(instance: Any) -> dict[str, Any]:
    """All that an object holds by name, and its class's arrays, without what is only cached."""
    cls = type(instance)
    held = {name: x for base in cls.__mro__ for name, x in vars(base).items() if _is_array(x)}
    held |= getattr(instance, "__dict__", {})
    held |= {name: getattr(instance, name) for name in _slots(cls) if hasattr(instance, name)}
    return {
        name: value
        for name, value in held.items()
        if name != DIVISION and not isinstance(getattr(cls, name, None), cached_property)
    }


@cache
def _slots(cls: type) -> tuple[str, ...]:
    found: list[str] = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        found += (slots,) if isinstance(slots, str) else slots
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))


def divide(instance: Any) -> tuple[list[Any], Division]:
    """An object's data, as a list of arrays, and its configuration, hashable.

    Raises
    ------
    LmmError
        A part is neither an array nor hashable, so that nobody could tell when it changes.
    """
    held = getattr(instance, "__dict__", {})
    if DIVISION in held:
        division = held[DIVISION]
        if not division.places:
            return [], division
        leaves = division.treedef.flatten_up_to(attributes(instance))
        return [leaves[at] for at in division.places], division
    if len(held) == 1 and "size" in held and type(instance).__module__.startswith("lmmjax."):
        return [], _sized(type(instance), held["size"])
    return _divide(instance)


@cache
def _sized(cls: type, size: int) -> Division:
    """Of a structure of the package that has no more than a size: this runs at every fit."""
    return _divide(cls(size))[1]


def _divide(instance: Any) -> tuple[list[Any], Division]:
    leaves, treedef = jax.tree.flatten(attributes(instance))
    places = tuple(at for at, x in enumerate(leaves) if _is_array(x))
    parts = tuple(LEAF if at in places else _static(x, instance) for at, x in enumerate(leaves))
    return [leaves[at] for at in places], Division(treedef, parts, places)


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array) or (isinstance(x, np.ndarray) and x.dtype.kind in "biufc")


def _static(x: Any, instance: Any) -> Static:
    part = Static(x)
    try:
        hash(part)
    except TypeError:
        held = next((n for n, v in attributes(instance).items() if v is x), "one of its attributes")
        raise LmmError(
            f"{type(instance).__name__} holds a {type(x).__name__} in {held!r}, which is neither "
            "an array of numbers nor hashable, so that a compiled program could not tell when it "
            "changes: convert it to an array or to a tuple in __init__"
        ) from None
    return part


def assemble(cls: type, division: Division, data: Any) -> Any:
    """The object again, without calling its ``__init__``."""
    data = iter(data)
    held = division.treedef.unflatten(
        [next(data) if part is LEAF else part.value for part in division.parts]
    )
    instance = object.__new__(cls)
    for name, value in (held | {DIVISION: division}).items():
        object.__setattr__(instance, name, value)
    return instance


def register(cls: type) -> None:
    """Make a class a pytree; its instances are divided when they are flattened."""
    jax.tree_util.register_pytree_node(
        cls, divide, lambda division, data: assemble(cls, division, data)
    )


def alike(left: Any, right: Any) -> bool:
    """Whether two objects are of one class and hold the same configuration and the same data."""
    if type(left) is not type(right):
        return False
    (a, own), (b, others) = divide(left), divide(right)
    return own == others and all(map(_equal, a, b))


def _equal(a: Any, b: Any) -> bool:
    return np.shape(a) == np.shape(b) and a.dtype == b.dtype and bool(np.array_equal(a, b))


def fingerprint(instance: Any) -> int:
    """A hash that goes with :func:`alike`."""
    data, division = divide(instance)
    content = tuple((np.shape(x), np.asarray(x).tobytes()) for x in data)
    return hash((type(instance), division, content))
