"""What is true in a power study: given, or a fit's estimates, whose power says nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError, LmmWarning, warn
from lmmjax.simulation.parameters import TrueParameters, aligned_parameters

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.result import LinearMixedModelResult


def true_parameters(
    model: Design | LinearMixedModelResult, parameters: TrueParameters | None, design: Design
) -> TrueParameters:
    """What is given in the order of the design, or else the fit's estimates.

    Raises
    ------
    LmmError
        Nothing is given and the model is no fit, or the parameters are those of another model.
    """
    if parameters is None:
        if not hasattr(model, "raw"):
            raise LmmError("a design alone has no truth: give parameters (lj.TrueParameters)")
        parameters = TrueParameters.from_fit(model)  # type: ignore[arg-type]
    return aligned_parameters(parameters, design)


def warn_of_observed_power(
    model: Design | LinearMixedModelResult,
    parameters: TrueParameters,
    weights: np.ndarray | None,
) -> None:
    """Warn where what is tested has the true value that the fit has estimated.

    Parameters
    ----------
    model : Design or LinearMixedModelResult
    parameters : TrueParameters
        In the model's order.
    weights : ndarray, shape (q, p), or None
        Of the coefficients; None where a test may look at all of them.

    Notes
    -----
    Hoenig & Heisey (2001), Am. Statist. 55, 19-24.
    """
    if not hasattr(model, "raw"):
        return
    estimates: Any = model.beta  # type: ignore[union-attr]
    L = np.eye(estimates.size) if weights is None else weights
    if estimates.size and np.array_equal(L @ np.asarray(parameters.beta), L @ estimates):
        warn(
            "the true effects are the fit's own estimates: observed power says no more than the p "
            "value. Give the smallest effect that would matter (lj.TrueParameters.from_fit(fit)"
            ".with_fixed(...))",
            LmmWarning,
        )


def words_of_draw(drawn: tuple[str, ...]) -> list[str]:
    """Say of a design with parts drawn at random that its power is that of one draw.

    The draw belongs to the study: the power of the plan is the mean over draws. No line where
    nothing was drawn.
    """
    if not drawn:
        return []
    return [
        f"Design: one draw of {', '.join(drawn)}. Other draws have other power, which is not in "
        "this number or its interval: see power_curve() of a function of the seed, along seeds"
    ]
