"""Write docs/extremes.md: what lmmjax makes of extreme inputs, beside the truth.

The cases stand in tests/extreme_cases.py. Takes some minutes:

    python docs/make_extremes.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "extremes.md"

HEAD = """# Extreme inputs

What becomes of data at the end of what a fit can take: numbers that are right to the accuracy
stated, or an error or a warning that says what was found. `python docs/make_extremes.py` makes this
table; the tests run its quick rows and hold this page to them.

| case | what happens | value | truth | relative error | source of truth |
| --- | --- | --- | --- | --- | --- |
{rows}

The error is the largest of all numbers that were compared (criterion, standard deviations, fixed
effects and their standard errors, as far as the source gives them), of which the first is shown.
"""


def main() -> None:
    """Run all cases."""
    sys.path.insert(0, str(ROOT / "tests"))
    from extreme_cases import CASES, run

    rows = []
    for case in CASES:
        result = run(case)
        error = "" if result.found is None else f" (error {result.found.error:.1e})"
        print(f"{'kept' if result.kept else 'BROKEN'}: {case.name}{error}", flush=True)
        rows.append(result.row())
    OUT.write_text(HEAD.format(rows="\n".join(rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
