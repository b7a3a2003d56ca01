"""How long something took, as the benchmarks print it."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """Milliseconds or seconds, in three digits."""
    if seconds is None:
        return ""
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
