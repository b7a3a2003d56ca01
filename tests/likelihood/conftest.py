"""Everything here runs in 64 bits unless a test says otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmmjax as lj

sys.path.insert(0, str(Path(__file__).parents[1]))  # brute_force


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    with lj.double_precision():
        yield
