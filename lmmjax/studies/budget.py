"""A budget for groups and rows, and where along it a test has the most power."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.errors import LmmError

if TYPE_CHECKING:
    from lmmjax.studies.analytic import AnalyticPower, PowerProblem

#: Places at which the search for the optimum begins.
GRID = 24
#: Its precision, in the logarithm of the rows in a group.
PRECISION = 1e-6


@dataclass(frozen=True)
class Budget:
    """What may be spent, and on what.

    Attributes
    ----------
    total : float
        Limit of ``groups * (per_group + rows * per_row)``.
    per_group, per_row : float
        What a group costs before its first row, and what each row costs.
    groups, rows : (float, float)
        Least and largest numbers of groups, and of rows in each.
    """

    total: float
    per_group: float
    per_row: float
    groups: tuple[float, float]
    rows: tuple[float, float]

    def cost(self, groups: float, rows: float) -> float:
        """Of so many groups with so many rows each."""
        return groups * (self.per_group + rows * self.per_row)

    def groups_with(self, rows: float) -> float:
        """Number of groups that can be had with so many rows each."""
        return min(self.groups[1], self.total / (self.per_group + rows * self.per_row))

    def rows_with(self, groups: float) -> float:
        """Number of rows in each of so many groups."""
        left = self.total / groups - self.per_group
        return min(self.rows[1], left / self.per_row) if self.per_row else self.rows[1]

    def range_of_rows(self) -> tuple[float, float]:
        """Least and largest number of rows in a group that leave enough groups.

        Raises
        ------
        LmmError
            The smallest study costs more than there is, or nothing bounds the largest one.
        """
        (few, most), (low, _) = self.groups, self.rows
        if self.cost(few, low) > self.total * (1 + 1e-12):
            raise LmmError(
                f"the budget of {self.total:,g} is too small: {few:g} groups of {low:g} rows, the "
                f"least that is allowed, cost {self.cost(few, low):,g}"
            )
        high = self.rows_with(few)
        if not (np.isfinite(high) and np.isfinite(min(most, self.groups_with(low)))):
            raise LmmError(
                "groups or rows cost nothing, so the budget does not limit them: give the largest "
                "number (groups=, per_group=)"
            )
        return low, max(low, high)


def best_on_budget(problem: PowerProblem, budget: Budget, share: float = 1.0) -> AnalyticPower:
    """Power where its derivative along the budget is 0, at sizes that need not be whole.

    Parameters
    ----------
    problem : PowerProblem
    budget : Budget
    share : float, default 1
        Rows in a group for each that is paid for.

    Returns
    -------
    AnalyticPower

    Raises
    ------
    LmmError
        Nowhere can the model be estimated.

    Notes
    -----
    All is spent, or the largest number of groups is reached: one number is left to find, the rows
    of a group. The derivative is ``dP/dm + dP/dG dG/dm``.
    """
    from scipy.optimize import brentq

    low, high = np.log(budget.range_of_rows())

    def power(log_rows: float) -> AnalyticPower:
        rows = float(np.exp(log_rows))
        return problem.evaluate(problem.inputs(budget.groups_with(rows), share * rows))

    def slope(log_rows: float) -> float:
        rows = float(np.exp(log_rows))
        groups = budget.groups_with(rows)
        slopes = problem.gradient(problem.inputs(groups, share * rows))
        fewer = groups * budget.per_row / (budget.per_group + rows * budget.per_row)
        along = share * slopes.per_group - (slopes.groups * fewer if groups < most else 0.0)
        return float(rows * along)

    most = budget.groups[1]
    places = np.unique(np.linspace(low, high, GRID))
    found = [power(x) for x in places]
    misses = np.array([1.0 if np.isnan(x.power) else x.miss for x in found])
    best = int(np.argmin(misses))
    if np.isnan(found[best].power):
        raise LmmError(
            "the budget buys no study whose model can be estimated: its variances are not told "
            "apart, or no degrees of freedom are left"
        )
    left, right = places[max(best - 1, 0)], places[min(best + 1, len(places) - 1)]
    if not slope(left) > 0.0 > slope(right):
        return found[best]
    return power(float(brentq(slope, left, right, xtol=PRECISION)))  # type: ignore[arg-type]
