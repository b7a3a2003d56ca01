"""How far a study is, at what rate, and when it will be done."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """A tqdm bar where tqdm is installed, else a line on standard error now and then.

    Parameters
    ----------
    total : int
    label : str
    wanted : bool
        Whether to show anything.
    initial : int
        What an earlier run has done already: no part of the rate.
    """

    def __init__(self, total: int, label: str, wanted: bool, initial: int = 0) -> None:
        self.total, self.label, self.wanted = total, label, wanted
        self.initial = self.done = initial
        self.began, self.said = time.monotonic(), 0.0
        self.bar: Any = None
        if wanted:
            try:
                from tqdm.auto import tqdm  # type: ignore[import-not-found]

                self.bar = tqdm(total=total, desc=label, unit=" fits", initial=initial)
            except ImportError:
                pass

    def add(self, count: int) -> None:
        """So many more are done."""
        self.done += count
        if not self.wanted:
            return
        if self.bar is not None:
            self.bar.update(count)
            return
        now = time.monotonic()
        if now - self.said < 1.0 and self.done < self.total:
            return
        self.said = now
        rate = (self.done - self.initial) / max(now - self.began, 1e-9)
        left = (self.total - self.done) / max(rate, 1e-9)
        print(
            f"{self.label}: {self.done:,} of {self.total:,} fits, {rate:,.0f} a second, "
            f"{left:,.0f} s left",
            file=sys.stderr,
        )

    def close(self) -> None:
        """No more."""
        if self.bar is not None:
            self.bar.close()
