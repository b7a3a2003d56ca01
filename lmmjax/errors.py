"""What lmmjax raises and warns with.

Every error is a :class:`LmmError`, which is a ``ValueError``: it says what was found, where, and
what to do about it, and it is raised before anything is compiled. Every warning is a
:class:`LmmWarning`, so that one filter line silences (or turns into errors) all of them.
"""

import os
import sys
import warnings
from types import FrameType

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
#: Libraries that call back into the package: what they are asked for is the package's doing.
_BETWEEN = {"functools", "contextlib", "jax"}


class LmmError(ValueError):
    """Base of every error that lmmjax raises on purpose.

    Examples
    --------
    >>> import lmmjax as lj
    >>> lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"), method="OLS")
    Traceback (most recent call last):
    lmmjax.errors.LmmError: method must be 'REML' or 'ML', not 'OLS'
    """


class FormulaError(LmmError):
    """A model formula that cannot be read.

    Parameters
    ----------
    message : str
        What is wrong and what to write instead.
    formula : str, optional
        The formula; with `position` it is shown with a caret under the offending piece.
    position : int, optional
        Offset of the offending piece in `formula`.
    length : int, default 1
        Number of characters to underline.

    Examples
    --------
    >>> print(FormulaError("the '(' is never closed", "y ~ (1 | g", 4))
    the '(' is never closed
        y ~ (1 | g
            ^
    """

    def __init__(
        self, message: str, formula: str | None = None, position: int | None = None, length: int = 1
    ) -> None:
        self.formula = formula
        self.position = position
        self.length = length
        if formula is not None:
            # One character per character, so that the caret stays under its column.
            shown = "".join(" " if c.isspace() else c for c in formula)
            message = f"{message}\n    {shown}"
            if position is not None:
                message += "\n    " + " " * position + "^" * max(1, length)
        super().__init__(message)


class ArgumentError(LmmError, TypeError):
    """A keyword that a function does not have: it says which one to write.

    Examples
    --------
    >>> import lmmjax as lj
    >>> lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"), REML=False)
    Traceback (most recent call last):
    lmmjax.errors.ArgumentError: lmm() has no argument 'REML': write method='ML'
    """


class UnknownNameError(LmmError, KeyError):
    """A name that a mapping of the package does not have: it says which ones there are.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> fit.ranef()["batch"]
    Traceback (most recent call last):
    lmmjax.errors.UnknownNameError: no grouping factor is called 'batch': did you mean 'Batch'?
    """

    # KeyError's own shows a text in quotes.
    __str__ = Exception.__str__


class DataError(LmmError):
    """Data that a model cannot be fitted to (or predicted from).

    Examples
    --------
    >>> import lmmjax as lj
    >>> lj.datasets.load("dyestuff")
    Traceback (most recent call last):
    lmmjax.errors.DataError: there is no data set 'dyestuff'; there are: sleepstudy, Dyestuff, ...
    """


class LmmWarning(UserWarning):
    """Base of every warning that lmmjax gives.

    Examples
    --------
    Errors instead of warnings, in a script that must not go on after one:

    >>> import warnings
    >>> import lmmjax as lj
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", lj.LmmWarning)
    ...     lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff2"))
    Traceback (most recent call last):
    lmmjax.errors.SingularFitWarning: boundary (singular) fit: ...
    """


class SingularFitWarning(LmmWarning):
    """A variance was estimated as zero, or a correlation as plus or minus one."""


class ConvergenceWarning(LmmWarning):
    """The minimiser stopped before the optimality conditions were met."""


class ModeWarning(LmmWarning):
    """Another optimum of the criterion is nearly as good as the one reported."""


class RankWarning(LmmWarning):
    """Fixed-effects columns that are combinations of earlier ones were dropped."""


class ScaleWarning(LmmWarning):
    """Variables on scales so different that the numbers are hard to trust or to read."""


class DesignWarning(LmmWarning):
    """A legal model whose data say little about one of its terms."""


def warn(text: str, category: type[Warning]) -> None:
    """Warn at the line that called the package, however deep in it the reason was found."""
    frame: FrameType | None = sys._getframe()
    level = 1
    while frame is not None and frame.f_back is not None and _is_inside(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def _is_inside(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__") or ""
    return frame.f_code.co_filename.startswith(_PACKAGE) or name.partition(".")[0] in _BETWEEN
