"""`optimize_design()`: groups against rows per group, within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lmmjax.arguments import check_share, check_whole
from lmmjax.errors import LmmError, LmmWarning, warn
from lmmjax.keywords import known_keywords
from lmmjax.simulation.parameters import TrueParameters
from lmmjax.studies.analytic import AnalyticPower, PowerProblem, resolved
from lmmjax.studies.budget import Budget, best_on_budget
from lmmjax.studies.extend import more_groups, more_rows
from lmmjax.studies.truth import warn_of_observed_power
from lmmjax.studies.whole import WholeSearch

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.design import Design
    from lmmjax.result import LinearMixedModelResult
    from lmmjax.studies.study import PowerResult

#: Sizes of the design by which a function's model is known before any is chosen.
TEMPLATE = (24, 12)
#: Probability of not rejecting below which allocations cannot be told apart.
CERTAIN = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class Allocation:
    """The best allocation of a budget; prints.

    Attributes
    ----------
    groups, per_group : int
        What to sample.
    cost, budget : float
    cost_per_group, cost_per_row : float
    design : Design
        With these sample sizes, for :func:`lmmjax.power` or :func:`lmmjax.simulate_responses`.
    analytic : AnalyticPower
        Its expected power; ``analytic.gradient`` has the derivative in all that is assumed.
    optimum : AnalyticPower
        Where the gradient along the budget is 0, with groups and rows in fractions: those of the
        design that the search began with, each counting so many times as often. Whole designs may
        stay below it where fewer rows are fewer occasions.
    optimum_sizes : tuple of float
        Groups, and rows in each, there.
    slopes : tuple of float
        Derivative of the power in the number of groups, and in rows per group.
    one_more : tuple of float
        What one more group adds to the power, and one more row in every group.
    compared : pandas.DataFrame
        Whole allocations that were looked at, best first: ``groups``, ``per_group``, ``cost``,
        ``power``.
    confirmed : PowerResult or None
        Power by simulation.
    """

    groups: int
    per_group: int
    cost: float
    budget: float
    cost_per_group: float
    cost_per_row: float
    design: Design
    analytic: AnalyticPower
    optimum: AnalyticPower
    optimum_sizes: tuple[float, float]
    slopes: tuple[float, float]
    one_more: tuple[float, float]
    compared: pd.DataFrame
    confirmed: PowerResult | None = None

    @property
    def power(self) -> float:
        """Expected power of the whole allocation."""
        return self.analytic.power

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self.groups} groups x {self.per_group} rows, "
            f"power {self.power:.3f}>"
        )

    def __str__(self) -> str:
        group_cost = self.cost_per_group + self.per_group * self.cost_per_row
        (some_groups, some_rows), best = self.optimum_sizes, self.optimum
        lines = [
            f"Best allocation of {self.budget:,g} for {self.analytic.test} "
            f"({self.cost_per_group:g} a group, {self.cost_per_row:g} a row): "
            f"{self.groups} groups x {self.per_group} rows",
            f"Cost {self.cost:,g}, expected power {self.power:.1%} "
            f"({self.analytic.df:.1f} df, alpha = {self.analytic.alpha:g})",
            f"By gradient, the same rows in fractions: {some_groups:.2f} groups x "
            f"{some_rows:.2f} rows, power {best.power:.1%}",
            f"One more group: {self.one_more[0]:+.1%} for {group_cost:,g}; one more row in each: "
            f"{self.one_more[1]:+.1%} for {self.groups * self.cost_per_row:,g}",
        ]
        if self.confirmed is not None:
            low, high = self.confirmed.interval
            lines.append(
                f"By simulation: {self.confirmed.power:.1%} (95% interval {low:.1%} to {high:.1%}; "
                f"{self.confirmed.tally.done:,} data sets)"
            )
        return "\n".join(lines)


@known_keywords
def optimize_design(
    model: Design | LinearMixedModelResult | Callable[..., Design],
    parameters: TrueParameters | Callable[[Design], TrueParameters] | None = None,
    test: Any = None,
    *,
    budget: float,
    cost_per_group: float,
    cost_per_row: float,
    groups: tuple[float, float] | None = None,
    per_group: tuple[float, float] | None = None,
    group_step: int = 1,
    row_step: int = 1,
    alpha: float = 0.05,
    method: Literal["REML", "ML"] | None = None,
    confirm: int = 0,
    key: Any = 0,
) -> Allocation:
    """Find the numbers of groups and of rows in each that a budget buys the most power with.

    Parameters
    ----------
    model : Design, LinearMixedModelResult or callable
        A design with one grouping factor, or a pilot fit, to be made larger or smaller by
        :func:`lmmjax.extend` (predictors of groups keep their shares); or a function
        ``model(groups=, per_group=)`` that makes a design of so many groups, which may hold nested
        factors, with so many rows in each (or fewer, of dropout: those planned are paid for).
    parameters : TrueParameters or callable, optional
        What is true, or a function of a design that says it; by default the fit's estimates.
    test : str, sequence of str or array, optional
        As in :func:`lmmjax.analytic_power`.
    budget : float
        Limit of ``groups * (cost_per_group + per_group * cost_per_row)``.
    cost_per_group, cost_per_row : float
        What a group costs before its first row, and what each row costs.
    groups, per_group : (float, float), optional
        Least and largest numbers allowed. By default at least one group more than coefficients,
        and one row more than a group has random effects.
    group_step, row_step : int, default 1
        Whole numbers allowed are multiples of these: 2 groups for two arms of the same size, as
        many rows as a group has occasions.
    alpha : float, default 0.05
    method : {"REML", "ML"}, optional
        By default that of the fit, or REML.
    confirm : int, default 0
        Data sets by which the result's power is simulated (:func:`lmmjax.power`).
    key : int or Array, default 0
        A seed, or a JAX random key, of that simulation.

    Returns
    -------
    Allocation

    Raises
    ------
    LmmError
        The budget buys nothing that can be estimated, or certainty; an argument is not possible.

    Warns
    -----
    LmmWarning
        The design found cannot keep the shares of a predictor of the pilot's groups; or what is
        tested has the true value that the fit has estimated.

    Notes
    -----
    Designs from few rows in a group to many are compared. From the best one, the gradient of the
    power leads to the optimum along the budget, where its groups and the rows of each count so many
    times as often. The whole allocations around are real designs, each with its own power; the best
    of them is the middle of the next comparison, until none around it is better. So a function
    whose rows are further occasions, which tell more than the same ones again, is served too.

    The classical case, an effect between groups, has its optimum at
    ``sqrt(cost_per_group (1 - rho) / (cost_per_row rho))`` rows whatever the effect, but for what
    groups add to the degrees of freedom (Snijders & Bosker 1993, J. Educ. Stat. 18, 237-259).

    Examples
    --------
    >>> import lmmjax as lj
    >>> def study(groups, per_group):
    ...     frame = lj.simulate_design({"school": groups}, per_group, between={"arm": 2})
    ...     return lj.Design.from_formula("score ~ arm + (1 | school)", frame)
    >>> def truth(design):
    ...     return lj.TrueParameters.for_design(design, {"armarm2": 3}, sd=2, sigma=6)
    >>> best = lj.optimize_design(
    ...     study, truth, budget=5000, cost_per_group=100, cost_per_row=5, group_step=2
    ... )
    >>> best
    <Allocation: 30 groups x 13 rows, power 0.862>
    """
    check_share("alpha", alpha)
    _check(budget, cost_per_group, cost_per_row, group_step, row_step, confirm)
    template, truth, reml, make, notes = _maker(model, parameters, method, group_step, row_step)

    def build(G: int, m: int) -> tuple[Design, PowerProblem]:
        design = make(G, m)
        own = parameters(design) if callable(parameters) else truth
        problem = PowerProblem.of(design, own, test, alpha, reml)
        _check_sizes(problem, G, m)
        return design, problem

    effects = max((term.Z.shape[1] for term in template.terms), default=0)
    limits = (
        _limits("groups", groups, template.p + 1, group_step),
        _limits("per_group", per_group, effects + 1, row_step),
    )
    money = Budget(float(budget), float(cost_per_group), float(cost_per_row), *limits)
    search = WholeSearch(build, money, group_step, row_step)
    search.look(search.ladder())
    if not search.ranked():
        raise LmmError(
            "no whole allocation is within the budget and the limits, or none can be estimated: "
            f"{search.error or 'change group_step, row_step or the limits'}"
        )
    start = search.ranked()[0]
    hypotheses = start.problem.hypotheses
    warn_of_observed_power(model, start.problem.parameters, hypotheses.L)  # type: ignore[arg-type]
    if start.analytic.noncentrality == 0.0:
        raise LmmError(
            f"the hypothesis {start.analytic.test} is true: every allocation rejects it with "
            "probability alpha. Give the smallest effect that would matter"
        )
    if start.analytic.miss < CERTAIN:
        raise LmmError(
            f"{start.groups} groups x {start.rows} rows already reject with certainty (power "
            f"1 - {start.analytic.miss:.0e}): nothing is left to choose. Lower the budget"
        )
    optimum = best_on_budget(start.problem, money, start.share)
    sizes = (optimum.groups, optimum.per_group / start.share)
    search.look(search.around(*sizes))
    search.climb()
    ranked = search.ranked()
    best = ranked[0]
    if said := notes.get((best.groups, best.rows)):
        warn(said, LmmWarning)
    at, analytic = best.problem, best.analytic
    slopes = at.gradient(at.inputs())
    more = (
        at.evaluate(at.inputs(best.groups + 1, None)),
        at.evaluate(at.inputs(None, best.share * (best.rows + 1))),
    )
    confirmed = None
    if confirm:
        from lmmjax.studies.study import power

        kind = "REML" if reml else "ML"
        own = at.parameters
        confirmed = power(best.design, own, test, alpha=alpha, nsim=confirm, method=kind, key=key)
    import pandas as pd

    rows = [(each.groups, each.rows, each.cost, each.analytic.power) for each in ranked]
    return Allocation(
        best.groups,
        best.rows,
        best.cost,
        money.total,
        money.per_group,
        money.per_row,
        best.design,
        analytic,
        optimum,
        sizes,
        (float(slopes.groups), best.share * float(slopes.per_group)),
        (more[0].power - analytic.power, more[1].power - analytic.power),
        pd.DataFrame(rows, columns=["groups", "per_group", "cost", "power"]),
        confirmed,
    )


def _maker(
    model: Any, parameters: Any, method: Any, group_step: int, row_step: int
) -> tuple[Design, TrueParameters, bool, Callable[[int, int], Design], dict[tuple[int, int], str]]:
    """A first design, what is true, whether by REML, how to make the others, and what to say."""
    notes: dict[tuple[int, int], str] = {}
    function: Callable[..., Any] | None = model if callable(model) else None
    truth: Callable[[Design], Any] = parameters if callable(parameters) else lambda _: parameters
    if function is not None:
        if parameters is None:
            raise LmmError("a design alone has no truth: give parameters (lj.TrueParameters)")

        def make(G: int, m: int) -> Design:
            return function(groups=G, per_group=m)

        few, short = (-(-n // s) * s for n, s in zip(TEMPLATE, (group_step, row_step), strict=True))
        template = make(few, short)
        return *resolved(template, truth(template), method), make, notes
    pilot: Any = model.design if hasattr(model, "raw") else model
    design, true, reml = resolved(model, truth(pilot), method)
    if len(design.terms) != 1:
        raise LmmError(
            f"a design with {len(design.terms)} grouping factors is made larger in more than one "
            "way: give a function model(groups=, per_group=) that makes it"
        )
    group = design.terms[0].group

    def enlarge(G: int, m: int) -> Design:
        longer, first = more_rows(design, group, m)
        larger, second = more_groups(longer, group, G)
        notes[G, m] = "; ".join(filter(None, (first, second)))
        return larger

    return design, true, reml, enlarge, notes


def _check_sizes(problem: PowerProblem, groups: int, rows: int) -> None:
    """Raise where a function's design is not of the sizes that it was asked for."""
    found, mean = problem.patterns.groups, problem.patterns.per_group
    if found != groups:
        raise LmmError(
            f"the design made for {groups} groups has {found:g} whose rows share no level of any "
            "factor (crossed factors join them): groups= must be their number"
        )
    if mean > rows * (1 + 1e-9):
        raise LmmError(
            f"the design made for per_group = {rows} has {mean:g} rows in a group: per_group= must "
            "be their number, over all levels nested in a group"
        )


def _limits(
    name: str, given: tuple[float, float] | None, least: float, step: int
) -> tuple[float, float]:
    """Least and largest number allowed."""
    if given is None:
        return float(-(-least // step) * step), np.inf
    try:
        low, high = map(float, given)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not 1 <= low <= high:
        raise LmmError(
            f"{name} must be the least and the largest number allowed, at least 1, not {given!r}"
        )
    return low, high


def _check(
    budget: Any,
    cost_per_group: Any,
    cost_per_row: Any,
    group_step: Any,
    row_step: Any,
    confirm: Any,
) -> None:
    """Raise where an argument is not possible."""
    costs = {"cost_per_group": cost_per_group, "cost_per_row": cost_per_row}
    for name, value in {"budget": budget, **costs}.items():
        known = isinstance(value, int | float | np.number) and np.isfinite(value)
        if not known or value < 0 or (name == "budget" and value == 0):
            raise LmmError(f"{name} must be a positive number, not {value!r}")
    if cost_per_group == 0 and cost_per_row == 0:
        raise LmmError("groups and rows both cost nothing: there is no budget to divide")
    for name, value, least in (
        ("group_step", group_step, 1),
        ("row_step", row_step, 1),
        ("confirm", confirm, 0),
    ):
        check_whole(name, value, least)
