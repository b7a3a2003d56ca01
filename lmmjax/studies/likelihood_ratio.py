"""The likelihood-ratio test of a power study: two models by maximum likelihood on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmmjax.bootstrap.nested import check_nested_designs
from lmmjax.errors import LmmError
from lmmjax.inference.boundary import ratio_pvalue
from lmmjax.many.fit_many import fit_many, resolve
from lmmjax.simulation.rows import RowDesign, simulate_rows
from lmmjax.studies.criteria import Found

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.many.fits import ManyFits
    from lmmjax.result import LinearMixedModelResult
    from lmmjax.simulation.parameters import TrueParameters

#: A deviance of the smaller model below the larger one's by more than this is no optimum.
ROUNDING = 1e-6


@dataclass(frozen=True)
class LikelihoodRatio:
    """A test in :func:`lmmjax.power`: the model against a smaller one, both by maximum likelihood.

    Parameters
    ----------
    smaller : Design or LinearMixedModelResult
        The smaller model, of the same rows: ``lj.Design.from_formula``, or a fit, whose covariance
        structures it keeps. It must be the model with parameters fixed.

    Notes
    -----
    Under the smaller model the statistic has a chi-square distribution with as many df as there
    are parameters less. A variance that is zero lies on the edge of what it can be: where one is
    left out, with any covariances, the reference is the 50:50 mixture of chi-squares with df - 1
    and df (Self & Liang 1987, J. Am. Statist. Assoc. 82, 605-610; Stram & Lee 1994, Biometrics 50,
    1171-1177). For several variances no mixture is known in general, and the plain chi-square
    finds too little; the result says which was used.
    """

    smaller: Design | LinearMixedModelResult


@dataclass(frozen=True)
class NestedPair:
    """Two nested models of the same rows.

    Attributes
    ----------
    model, smaller : Design or LinearMixedModelResult
    design : Design
        The larger one's.
    df : int
        Parameters that the smaller one has less.
    variances : int
        Variances that the smaller one has at zero, their boundary.
    """

    model: Design | LinearMixedModelResult
    smaller: Design | LinearMixedModelResult
    design: Design
    df: int
    variances: int

    @property
    def label(self) -> str:
        """Return the test with its reference distribution, as it is printed."""
        if self.variances == 0:
            return "likelihood ratio"
        if self.variances == 1:
            return f"likelihood ratio (mixture of chi-squares, {self.df - 1} and {self.df} df)"
        return f"likelihood ratio (chi-square, {self.df} df: conservative for variances)"

    def batches(
        self, parameters: TrueParameters, key: Any
    ) -> Callable[[int, int], tuple[ManyFits, Found]]:
        """Return a function of the first replicate and their number: the fits, and p values."""
        rows = RowDesign.of(self.design)

        def run(first: int, count: int) -> tuple[ManyFits, Found]:
            Y = simulate_rows(rows, parameters, count, key, first=first)
            above = fit_many(self.model, Y, method="ML")
            below = fit_many(self.smaller, Y, method="ML")
            statistic = below.criterion - above.criterion
            p = ratio_pvalue(statistic, self.df, mixture=self.variances == 1)
            # A smaller model that fits better says that the larger one's optimum was not found.
            return above, Found(p, converged=below.converged & ~(statistic < -ROUNDING))

        return run


def nested_pair(
    model: Design | LinearMixedModelResult, smaller: Design | LinearMixedModelResult
) -> NestedPair:
    """Return two models that a likelihood-ratio test can compare.

    Raises
    ------
    LmmError
        The smaller one is not the model with parameters fixed, on the same rows.
    """
    (design, large, _), (less, small, _) = resolve(model, "ML"), resolve(smaller, "ML")
    if small.root_weights.shape != large.root_weights.shape:
        raise LmmError(
            f"the smaller model has {less.X.shape[0]} rows, the model {design.X.shape[0]}"
        )
    variances = check_nested_designs((design, large), (less, small))
    df = (design.X.shape[1] + large.n_theta) - (less.X.shape[1] + small.n_theta)
    return NestedPair(model, smaller, design, df, variances)
