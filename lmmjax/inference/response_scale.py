"""Means of a transformed response, brought back to the response's own scale."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lmmjax.errors import LmmError

_CALL = re.compile(r"(?:np\.)?(log|log2|log10|log1p|sqrt)\(([^()]*)\)")
_PLAIN = re.compile(r"\s*(`[^`]+`|[\w.]+)\s*")


@dataclass(frozen=True)
class Scale:
    """A transformation of the response.

    Attributes
    ----------
    name : str
        ``"log"``, ``"log2"``, ``"log10"``, ``"log1p"`` or ``"sqrt"``.
    plain : bool
        Whether it is of a column, and not of an expression.
    """

    name: str
    plain: bool

    @property
    def logarithmic(self) -> bool:
        """Whether differences on it are logarithms of ratios."""
        return self.name in ("log", "log2", "log10")

    def back(self, x: np.ndarray) -> np.ndarray:
        """Values on the response's scale."""
        return _BACK[self.name][0](x)

    def limit(self, x: np.ndarray) -> np.ndarray:
        """Ends of intervals on the response's scale, which for a root stops at zero."""
        return self.back(np.maximum(x, 0.0) if self.name == "sqrt" else x)

    def rate(self, x: np.ndarray) -> np.ndarray:
        """Derivative of :meth:`back`, for standard errors."""
        return _BACK[self.name][1](x)


_Pair = tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]
_BACK: dict[str, _Pair] = {
    "log": (np.exp, np.exp),
    "log2": (np.exp2, lambda x: np.log(2.0) * np.exp2(x)),
    "log10": (lambda x: 10.0**x, lambda x: np.log(10.0) * 10.0**x),
    "log1p": (np.expm1, np.exp),
    "sqrt": (np.square, lambda x: 2.0 * np.abs(x)),
}


def scale_of(response: str) -> Scale | None:
    """The transformation that a formula's response is, if it is one that is known.

    Examples
    --------
    >>> scale_of("log(Reaction)"), scale_of("Reaction")
    (Scale(name='log', plain=True), None)
    """
    found = _CALL.fullmatch(response.strip())
    return Scale(found[1], _PLAIN.fullmatch(found[2]) is not None) if found else None


def check_back(scale: Scale | None, response: str) -> Scale:
    """A scale with a way back, or an error."""
    if scale is None or not scale.plain:
        raise LmmError(
            f"the estimates are on the scale of {response!r}, and there is no known way from it to "
            "another: it needs to be log, log2, log10, log1p or sqrt of a column, and estimates to "
            "be means, or differences of means of logarithms"
        )
    return scale
