"""Whole numbers of groups and rows within a budget, each a real design with its own power."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.studies.analytic import AnalyticPower, PowerProblem
from lmmjax.studies.budget import Budget

if TYPE_CHECKING:
    from lmmjax.design import Design

#: Designs, from few rows in a group to many, at which the search begins.
LADDER = 6
#: How many steps of groups, and of rows, around the best one are compared.
REACH = 3


class Whole(NamedTuple):
    """A design of the search.

    Attributes
    ----------
    groups, rows : int
        Groups, and rows paid for in each.
    cost : float
    problem : PowerProblem
    analytic : AnalyticPower
    design : Design
    """

    groups: int
    rows: int
    cost: float
    problem: PowerProblem
    analytic: AnalyticPower
    design: Any

    @property
    def share(self) -> float:
        """Rows in the design for each that is paid for."""
        return float(self.problem.patterns.per_group) / self.rows


class WholeSearch:
    """Looks for the best whole allocation.

    Parameters
    ----------
    build : callable
        ``(groups, rows) -> (Design, PowerProblem)``.
    budget : Budget
    group_step, row_step : int
        Numbers are multiples of these.
    """

    def __init__(
        self,
        build: Callable[[int, int], tuple[Design, PowerProblem]],
        budget: Budget,
        group_step: int,
        row_step: int,
    ) -> None:
        self.build = build
        self.budget = budget
        self.group_step = group_step
        self.row_step = row_step
        self.error: LmmError | None = None
        self._seen: dict[tuple[int, int], Whole | None] = {}

    def look(self, places: Iterable[tuple[int, int]]) -> None:
        """Evaluate the designs at these numbers of groups and rows."""
        for groups, rows in places:
            if (groups, rows) not in self._seen:
                self._seen[groups, rows] = self._evaluate(groups, rows)

    def ranked(self) -> list[Whole]:
        """Everything that was looked at and can be estimated, the best first, then the cheapest."""
        found = [each for each in self._seen.values() if each is not None]
        return sorted(found, key=lambda each: (each.analytic.miss, each.cost))

    def ladder(self) -> list[tuple[int, int]]:
        """Allocations from few rows in a group to many."""
        low, high = self.budget.range_of_rows()
        rows = np.geomspace(low, high, LADDER)
        least, most = _down(low, self.row_step), _down(high, self.row_step)
        least += self.row_step if least < low else 0
        whole = {min(max(_down(m, self.row_step), least), most) for m in rows.tolist()}
        places = [self._with_rows(m) for m in sorted(whole)]
        return [place for place in places if place is not None]

    def around(self, groups: float, rows: float) -> list[tuple[int, int]]:
        """Allocations that spend the budget near these numbers."""
        steps = range(-REACH, REACH + 1)
        G = round(groups / self.group_step) * self.group_step
        m = round(rows / self.row_step) * self.row_step
        places = [self._with_rows(m + i * self.row_step) for i in steps]
        places += [self._with_groups(G + i * self.group_step) for i in steps]
        return [place for place in places if place is not None]

    def climb(self) -> None:
        """Compare what is around the best one, until that is the best of them."""
        while True:
            best = self.ranked()[0]
            self.look(self.around(best.groups, best.rows))
            if self.ranked()[0] is best:
                return

    def _with_rows(self, rows: int) -> tuple[int, int] | None:
        """The largest number of groups with so many rows."""
        low, high = self.budget.rows
        if not low <= rows <= high:
            return None
        groups = _down(self.budget.groups_with(rows), self.group_step)
        return (groups, rows) if groups >= self.budget.groups[0] else None

    def _with_groups(self, groups: int) -> tuple[int, int] | None:
        """So many groups, with the largest number of rows."""
        low, high = self.budget.groups
        if not low <= groups <= high:
            return None
        rows = _down(self.budget.rows_with(groups), self.row_step)
        return (groups, rows) if rows >= self.budget.rows[0] else None

    def _evaluate(self, groups: int, rows: int) -> Whole | None:
        try:
            design, problem = self.build(groups, rows)
        except LmmError as error:  # A small design may lose a level, and with it a coefficient.
            self.error = error
            return None
        analytic = problem.evaluate(problem.inputs())
        if np.isnan(analytic.power):
            return None
        cost = self.budget.cost(groups, rows)
        return Whole(groups, rows, cost, problem, analytic, design)


def _down(number: float, step: int) -> int:
    """To a multiple of ``step``; what rounding took is given back."""
    return int(np.floor(number * (1 + 1e-12) / step)) * step
