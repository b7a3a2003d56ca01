"""`analytic_power()`: power of a test by expected information, without simulating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from lmmjax.arguments import check_share
from lmmjax.compiled import Kernel
from lmmjax.errors import LmmError
from lmmjax.fitting import prepare_design
from lmmjax.inference.hypotheses import Hypotheses, as_hypotheses
from lmmjax.inference.identified import check_determined
from lmmjax.keywords import known_keywords
from lmmjax.many.contests import independent_rows
from lmmjax.many.fit_many import design_and_method
from lmmjax.simulation.parameters import TrueParameters, aligned_parameters
from lmmjax.studies.expected import PowerInputs, expected_power, pairs_of
from lmmjax.studies.extend import warn_of_structures
from lmmjax.studies.patterns import DesignPatterns
from lmmjax.studies.truth import true_parameters, warn_of_observed_power, words_of_draw

#: Degrees of freedom below which there is nothing to approximate.
MIN_DF = 0.5
#: Variance parameters are told apart where the smallest eigenvalue of their scaled information is
#: above this; rounding leaves some 1e-15.
IDENTIFIED = 1e-10

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.design import Design
    from lmmjax.result import LinearMixedModelResult


@dataclass(frozen=True, eq=False, repr=False)
class AnalyticPower:
    """Power of a test at true parameters; prints.

    Attributes
    ----------
    test : str
    power : float
    miss : float
        One minus the power, in full accuracy where it is small.
    alpha : float
    df : float
        Satterthwaite degrees of freedom expected (of F, the denominator's).
    noncentrality : float
        Effect in standard errors; with several hypotheses, the noncentrality of F.
    difference, se : ndarray, shape (q,)
        Each hypothesis's distance from the truth, and its standard error.
    groups, per_group : float
        Number of groups, and their mean number of rows.
    """

    test: str
    power: float
    miss: float
    alpha: float
    df: float
    noncentrality: float
    difference: np.ndarray
    se: np.ndarray
    groups: float
    per_group: float
    _problem: PowerProblem
    _inputs: PowerInputs

    @cached_property
    def gradient(self) -> pd.DataFrame:
        """Derivative of the power in everything that it depends on.

        Columns ``part`` ("fixed", "sd", "correlation", "sigma", "groups", "per_group"), ``name``,
        ``value``, ``slope``. Standard deviations and correlations carry their grouping factor's
        name. A crossed design has no independent groups, so no row for their number.
        """
        import pandas as pd

        slopes = self._problem.gradient(self._inputs)
        rows = self._problem.named(self._inputs, slopes)
        return pd.DataFrame(rows, columns=["part", "name", "value", "slope"])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.test}, power {self.power:.3f}>"

    def __str__(self) -> str:
        q = len(self.se)
        lines = [f"Analytic power of {self.test} at alpha = {self.alpha:g}: {self.power:.1%}"]
        if q == 1:
            lines.append(
                f"Effect {self.difference[0]:g}, standard error {self.se[0]:.4g}, "
                f"noncentral t {self.noncentrality:.3f} with {self.df:.1f} df"
            )
        else:
            lines.append(f"Noncentral F ({self.noncentrality:.2f}) with {q} and {self.df:.1f} df")
        lines.append(
            f"{_whole(self.groups, 'group')}, {self.per_group:.4g} rows in each"
            if self.groups > 1
            else f"{self.per_group:.6g} rows"
        )
        return "\n".join(lines + words_of_draw(self._problem.drawn))


def _whole(count: float, what: str) -> str:
    return f"{count:.6g} {what}" + ("" if count == 1 else "s")


@dataclass(frozen=True, eq=False)
class PowerProblem:
    """A test of a design's model, ready to be evaluated for any inputs."""

    patterns: DesignPatterns
    parameters: TrueParameters
    hypotheses: Hypotheses
    alpha: float
    reml: bool
    drawn: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        design: Design,
        parameters: TrueParameters,
        test: Any,
        alpha: float,
        reml: bool,
    ) -> PowerProblem:
        """Read the test, and find the design's patterns."""
        names = tuple(design.x_names)
        parameters = aligned_parameters(parameters, design)
        hypotheses = read_test(names[-1] if test is None else test, names)
        return cls(DesignPatterns.of(design), parameters, hypotheses, alpha, reml, design.drawn)

    @property
    def label(self) -> str:
        """The test as it is printed."""
        return ", ".join(self.hypotheses.labels)

    def inputs(self, groups: float | None = None, per_group: float | None = None) -> PowerInputs:
        """What is true, at these sample sizes."""
        return PowerInputs.of(self.patterns, self.parameters, groups, per_group)

    def _arguments(self) -> tuple[Any, ...]:
        hypotheses = self.hypotheses
        return _padded(self.patterns), hypotheses.L, hypotheses.rhs, np.float64(self.alpha)

    def evaluate(self, inputs: PowerInputs) -> AnalyticPower:
        """Power; where the model cannot be estimated, nan."""
        found = _evaluate(inputs, *self._arguments(), reml=self.reml)
        L, rhs = self.hypotheses.L, self.hypotheses.rhs
        usable = (
            np.isfinite(found.power)
            and found.df >= MIN_DF
            and found.identified > IDENTIFIED
            and np.all(np.diag(found.vcov) > 0)
        )
        return AnalyticPower(
            self.label,
            float(found.power) if usable else float("nan"),
            float(found.miss) if usable else float("nan"),
            self.alpha,
            float(found.df),
            float(found.noncentrality),
            L @ inputs.beta - rhs,
            np.sqrt(np.maximum(np.diag(found.vcov), 0.0)),
            float(inputs.groups),
            float(inputs.per_group),
            self,
            inputs,
        )

    def gradient(self, inputs: PowerInputs) -> PowerInputs:
        """Derivative of the power."""
        return _gradient(inputs, *self._arguments(), reml=self.reml)

    def named(
        self, inputs: PowerInputs, slopes: PowerInputs
    ) -> list[tuple[str, str, float, float]]:
        """Part, name, value and slope of every input."""
        truth = self.parameters
        rows: list[tuple[str, str, Any, Any]] = []
        for name, value, slope in zip(truth.x_names, inputs.beta, slopes.beta, strict=True):
            rows.append(("fixed", name, value, slope))
        for t, (group, columns) in enumerate(zip(truth.groups, truth.columns, strict=True)):
            for name, value, slope in zip(columns, inputs.sd[t], slopes.sd[t], strict=True):
                rows.append(("sd", f"{group}: {name}", value, slope))
            pairs = pairs_of(self.patterns.blocks[t])
            both = zip(pairs, inputs.correlation[t], slopes.correlation[t], strict=True)
            for (i, j), value, slope in both:
                rows.append(("correlation", f"{group}: {columns[j]}, {columns[i]}", value, slope))
        rows.append(("sigma", "sigma", inputs.sigma, slopes.sigma))
        if self.patterns.groups > 1:
            rows.append(("groups", "groups", inputs.groups, slopes.groups))
        rows.append(("per_group", "per_group", inputs.per_group, slopes.per_group))
        return [(part, name, float(value), float(slope)) for part, name, value, slope in rows]


def slopes_of_power(inputs: PowerInputs, *arguments: Any, reml: bool) -> PowerInputs:
    """Gradient of :func:`lmmjax.expected_power`'s power in its inputs."""
    return jax.grad(lambda x: expected_power(x, *arguments, reml=reml).power)(inputs)


_evaluate = Kernel(expected_power)
_gradient = Kernel(slopes_of_power)


def _padded(patterns: DesignPatterns) -> DesignPatterns:
    """Up to a power of two of patterns, so that designs alike but for their number compile once."""
    have = len(patterns.count)
    short = (1 << (have - 1).bit_length()) - have
    if not short:
        return patterns
    repeat = np.append(np.arange(have), np.zeros(short, np.int64))
    return replace(
        patterns,
        products=patterns.products[repeat],
        rows=patterns.rows[repeat],
        count=np.append(patterns.count, np.zeros(short)),
    )


def read_test(test: Any, names: Sequence[str]) -> Hypotheses:
    """Hypotheses of full rank from text, several texts, or weights of the coefficients."""
    if callable(test) or hasattr(test, "smaller"):
        raise LmmError(
            f"analytic power needs a test of coefficients (text or weights), not {test!r}; "
            "lj.power() takes others"
        )
    found = as_hypotheses(test, None, names)
    independent_rows(found.L)
    return found


@known_keywords
def analytic_power(
    model: Design | LinearMixedModelResult,
    parameters: TrueParameters | None = None,
    test: Any = None,
    *,
    alpha: float = 0.05,
    groups: float | None = None,
    per_group: float | None = None,
    method: Literal["REML", "ML"] | None = None,
) -> AnalyticPower:
    """Power of a test from the information that the design is expected to give.

    Takes milliseconds where :func:`lmmjax.power` simulates, and has a derivative in everything
    (``.gradient``): effects, standard deviations, correlations, sigma, and both sample sizes.

    Parameters
    ----------
    model : Design or LinearMixedModelResult
        The design (``lj.Design.from_formula``), or a pilot fit.
    parameters : TrueParameters, optional
        What is true, matched to the design by name; by default the fit's estimates.
    test : str, sequence of str or array, optional
        A coefficient or a hypothesis (``"time"``, ``"time = 1"``), several for an F test, or their
        weights, shape (q, p). By default the last coefficient.
    alpha : float, default 0.05
        Level of the test, two-sided.
    groups : float, optional
        Another number of groups than the design has: each of its groups counts so many times as
        often, so that the predictors of groups keep their shares, in fractions of a group where
        need be. Groups are those of the coarsest factor, where all others are nested in it.
    per_group : float, optional
        Another mean number of rows in a group: each of its rows counts so many times as often,
        with the same covariates (the occasions of a group are replicated, not continued).
    method : {"REML", "ML"}, optional
        By default that of the fit, or REML.

    Returns
    -------
    AnalyticPower

    Raises
    ------
    LmmError
        The test cannot be read, the parameters are of another model, sample sizes are not
        positive, or the model cannot be estimated with them.

    Warns
    -----
    LmmWarning
        What is tested has the true value that the fit has estimated: observed power says no more
        than its p value.

    Notes
    -----
    The effect's standard error is that of the true parameters, its df are Satterthwaite's with the
    expected information of the variance parameters, and its power is a noncentral t's or F's: exact
    for balanced designs with one random intercept, an approximation elsewhere. Estimates on the
    boundary (few groups, small variances) are what it leaves out: confirm by :func:`lmmjax.power`.
    See :func:`lmmjax.expected_power` for the pure function.

    Examples
    --------
    >>> import lmmjax as lj
    >>> frame = lj.simulate_design({"id": 20}, within={"time": range(5)})
    >>> design = lj.Design.from_formula("y ~ time + (1 + time | id)", frame)
    >>> truth = lj.TrueParameters.for_design(design, {"time": 1}, sd=[3, 1], sigma=4)
    >>> print(lj.analytic_power(design, truth, "time"))
    Analytic power of time at alpha = 0.05: 74.9%
    Effect 1, standard error 0.3606, noncentral t 2.774 with 19.0 df
    20 groups, 5 rows in each
    >>> round(lj.analytic_power(design, truth, "time", groups=30).power, 3)
    0.907
    """
    design, parameters, reml = resolved(model, parameters, method)
    check_share("alpha", alpha)
    problem = PowerProblem.of(design, parameters, test, alpha, reml)
    warn_of_observed_power(model, problem.parameters, problem.hypotheses.L)
    if groups is not None and problem.patterns.groups == 1:
        raise LmmError("crossed factors join all rows: the design has no groups to have more of")
    for name, value in (("groups", groups), ("per_group", per_group)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise LmmError(f"{name} must be positive, not {value!r}")
    found = problem.evaluate(problem.inputs(groups, per_group))
    if np.isnan(found.power):
        raise LmmError(
            f"the model cannot be estimated from {_whole(found.groups, 'group')} of "
            f"{found.per_group:g} rows: they do not tell its variances apart, or leave no degrees "
            "of freedom"
        )
    return found


def resolved(
    model: Any,
    parameters: TrueParameters | None,
    method: str | None,
) -> tuple[Design, TrueParameters, bool]:
    """Design, truth, and whether by REML."""
    design, reml = design_and_method(model, method)
    check_determined(
        design, model.raw.prepared if hasattr(model, "raw") else prepare_design(design)
    )
    if hasattr(model, "raw"):
        warn_of_structures(model)
    return design, true_parameters(model, parameters, design), reml
