"""What is known of each data set: its file, columns, level order and source."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

# The levels of a factor whose labels are whole numbers in their numeric order, too many to list.
NUMERIC_ORDER = "numeric order"


@dataclass(frozen=True)
class Column:
    """One column: what it holds, its unit, and, of a factor, its levels in order."""

    about: str
    unit: str = ""
    levels: tuple[str, ...] | str | None = None  # None: a number

    @property
    def is_factor(self) -> bool:
        """Whether the column is read as a categorical."""
        return self.levels is not None


@dataclass(frozen=True)
class Entry:
    """One data set."""

    file: str
    rows: int
    about: str
    source: str
    columns: dict[str, Column]


def _factor(about: str, *levels: str | int) -> Column:
    return Column(about, levels=tuple(str(level) for level in levels))


_DAVIES = "Davies and Goldsmith (1972), Statistical Methods in Research and Production, 4th ed."
_BATCH = _factor("batch of the intermediate product", *"ABCDEF")

CATALOGUE: dict[str, Entry] = {
    "sleepstudy": Entry(
        file="sleepstudy.csv",
        rows=180,
        about=(
            "Average reaction time per day of 18 subjects who were allowed 3 hours in bed a night. "
            "Days 0 and 1 were adaptation and training, day 2 the baseline; the deprivation began "
            "after day 2."
        ),
        source=(
            "Belenky et al. (2003), Patterns of performance degradation and restoration during "
            "sleep restriction and subsequent recovery, Journal of Sleep Research 12, 1-12"
        ),
        columns={
            "Reaction": Column("average reaction time", "ms"),
            "Days": Column("day of the study, 0 to 9", "days"),
            "Subject": _factor(
                "the subject's number",
                *(308, 309, 310, 330, 331, 332, 333, 334, 335),
                *(337, 349, 350, 351, 352, 369, 370, 371, 372),
            ),
        },
    ),
    "Dyestuff": Entry(
        file="Dyestuff.csv",
        rows=30,
        about=(
            "Yield of five preparations of a dyestuff (Naphthalene Black 12B) from each of six "
            "batches of an intermediate product (H-acid)."
        ),
        source=f"{_DAVIES}, section 6.4",
        columns={
            "Batch": _BATCH,
            "Yield": Column("yield of dyestuff", "grams of standard colour"),
        },
    ),
    "Dyestuff2": Entry(
        file="Dyestuff2.csv",
        rows=30,
        about=(
            "Constructed data laid out as Dyestuff, with less variation between batches than "
            "within them: the estimated variance between batches is zero, a singular fit."
        ),
        source="Box and Tiao (1973), Bayesian Inference in Statistical Analysis, section 5.1.2",
        columns={"Batch": _BATCH, "Yield": Column("constructed response")},
    ),
    "Pastes": Entry(
        file="Pastes.csv",
        rows=60,
        about=(
            "Strength of a chemical paste: ten deliveries, three casks from each, two assays of "
            "each cask's sample. Casks are nested in deliveries: cask 'a' of delivery A and cask "
            "'a' of delivery B have nothing in common."
        ),
        source=f"{_DAVIES}, section 6.5",
        columns={
            "strength": Column("paste strength, its unit not stated in the source"),
            "batch": _factor("delivery batch", *ascii_uppercase[:10]),
            "cask": _factor("cask within the delivery", *"abc"),
            "sample": _factor(
                "delivery and cask together",
                *(f"{batch}:{cask}" for batch in ascii_uppercase[:10] for cask in "abc"),
            ),
        },
    ),
    "Penicillin": Entry(
        file="Penicillin.csv",
        rows=144,
        about=(
            "Six samples of penicillin, each tested on the same 24 plates by the B. subtilis "
            "method: samples and plates are crossed."
        ),
        source=f"{_DAVIES}, section 6.6",
        columns={
            "diameter": Column("diameter of the zone without growth", "mm"),
            "plate": _factor("assay plate", *ascii_lowercase[:24]),
            "sample": _factor("penicillin sample", *"ABCDEF"),
        },
    ),
    "cake": Entry(
        file="cake.csv",
        rows=270,
        about=(
            "Angle at which chocolate cakes broke: three recipes, 15 replicates of each, baked at "
            "six temperatures. A split-plot design: replicates are nested in recipes."
        ),
        source=(
            "Cook (1938), Chocolate cake, I. Optimum baking temperature, Master's thesis, Iowa "
            "State College; Cochran and Cox (1957), Experimental Designs, 2nd ed., p. 300"
        ),
        columns={
            "replicate": _factor("replicate within the recipe", *range(1, 16)),
            "recipe": _factor("recipe", *"ABC"),
            "temperature": _factor("baking temperature, as a factor", *range(175, 226, 10)),
            "angle": Column("angle at which the cake broke", "degrees"),
            "temp": Column("baking temperature, as a number", "degrees Fahrenheit"),
        },
    ),
    "InstEval": Entry(
        file="InstEval.csv.gz",
        rows=73421,
        about=(
            "Ratings of lectures by students of ETH Zurich, anonymised: one row is one student's "
            "rating of one lecturer's lecture. Students and lecturers are crossed, incompletely."
        ),
        source="Data set InstEval of the R package lme4, where it was first published",
        columns={
            "s": Column("student, 2972 of them", levels=NUMERIC_ORDER),
            "d": Column("lecturer, 1128 of them", levels=NUMERIC_ORDER),
            "studage": _factor("semesters the student had been enrolled", 2, 4, 6, 8),
            "lectage": _factor("semesters since the lecture was held", *range(1, 7)),
            "service": _factor("1 if held for another department than the lecturer's", 0, 1),
            "dept": _factor(
                "department, a random code", *(15, 5, 10, 12, 6, 7, 4, 8, 9, 14, 1, 3, 11, 2)
            ),
            "y": Column("rating, from 1 (poor) to 5 (very good)", "points"),
        },
    ),
}
