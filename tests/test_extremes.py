"""Extreme inputs end in right numbers or in clear words, and docs/extremes.md says what they do."""

from pathlib import Path

import pytest
from extreme_cases import CASES, run

PAGE = Path(__file__).parent.parent / "docs" / "extremes.md"


@pytest.mark.parametrize("case", [case for case in CASES if case.cheap], ids=lambda case: case.name)
def test_an_extreme_input_is_answered_or_refused(case):
    result = run(case)
    error = result.found and (result.found.error, result.found)
    assert result.kept, f"said {result.said!r}, relative error {error}"
    written = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if case.name in line]
    assert result.row() in written


def test_the_page_has_every_case():
    rows = [line.split(" | ")[0] for line in PAGE.read_text(encoding="utf-8").splitlines()]
    assert [f"| {case.name}" for case in CASES] == [row for row in rows if row[2:] in names()]


def names() -> set[str]:
    return {case.name for case in CASES}
