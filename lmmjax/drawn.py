"""What of a data frame was drawn at random, by :func:`lmmjax.simulate_design`."""

from collections.abc import Collection
from typing import Any

#: Where a frame tells it: a name in its ``attrs``.
DRAWN = "drawn"


def drawn_parts(data: Any, variables: Collection[str]) -> tuple[str, ...]:
    """Parts of the data that were drawn, without columns that a model does not use."""
    parts = (getattr(data, "attrs", None) or {}).get(DRAWN, ())
    columns = set(data.columns) if parts else set()
    return tuple(part for part in parts if part not in columns or part in variables)
