"""What a formula can call, and the constants that it can name.

This is all: there is no other way from a formula to code. What a caller passes in (``env=``) comes
first among functions; among names columns come first, then what is passed in, then constants, as R
looks them up.

A function that summarises a column (:data:`SUMMARIES`), or sets a transform by it
(:data:`TRANSFORMS`), remembers what it found at the fit: ``x - mean(x)`` means the fit's mean in
new data too.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .errors import LmmError

_CONTRASTS = ("treatment", "sum", "helmert", "poly", "SAS", "diff")
#: Names of contrasts, as R and as patsy write them.
CONTRASTS = {
    **{f"contr.{name}": name for name in _CONTRASTS},
    **{name.capitalize(): name for name in _CONTRASTS[:4] + _CONTRASTS[5:]},
}
CONSTANTS: dict[str, Any] = {
    **{"pi": np.pi, "np.pi": np.pi, "np.e": np.e, "Inf": np.inf, "np.inf": np.inf},
    **{"NaN": np.nan, "NA": np.nan, "np.nan": np.nan, "T": True, "F": False},
    **{name: name for name in CONTRASTS},
}


def _log(x: Any, base: Any = None) -> Any:
    return np.log(x) if base is None else np.log(x) / np.log(base)


def _exp10(x: Any) -> Any:
    return np.power(10.0, x)


_NUMPY = (
    *("sqrt", "cbrt", "square", "exp", "exp2", "expm1", "log10", "log2", "log1p"),
    *("sin", "cos", "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan"),
    *("arcsinh", "arccosh", "arctanh", "abs", "floor", "ceil", "trunc", "round", "sign"),
    *("minimum", "maximum", "clip", "power", "mod", "hypot", "isnan", "isfinite"),
)
#: Functions of numbers, row by row.
ROWWISE: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in _NUMPY},
    **{f"np.{name}": getattr(np, name) for name in (*_NUMPY, "log", "absolute")},
    **{"log": _log, "exp10": _exp10, "ceiling": np.ceil, "pmin": np.minimum, "pmax": np.maximum},
    **{"asin": np.arcsin, "acos": np.arccos, "atan": np.arctan},
}
_SUMMARIES: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("mean", "median", "min", "max", "sum")},
}
#: Functions of a whole column that give one number, which is that of the fit ever after.
SUMMARIES: dict[str, Callable[..., Any]] = {
    **_SUMMARIES,
    **{f"np.{name}": function for name, function in _SUMMARIES.items()},
    **{"np.std": np.std, "np.var": np.var},
    **{"sd": lambda x: np.std(x, ddof=1), "var": lambda x: np.var(x, ddof=1)},
}
#: formulaic's transforms that keep a state, and R's names of their arguments beside formulaic's.
TRANSFORMS: dict[str, dict[str, str]] = {
    "poly": {},
    "bs": {"intercept": "include_intercept"},
    **{name: {} for name in ("cr", "cs", "cc", "scale", "center", "standardize")},
}
#: Functions that make a factor, and the contrasts that they give it.
FACTORS: dict[str, str | None] = {
    **dict.fromkeys(("C", "factor", "as.factor", "as.character"), None),
    **dict.fromkeys(("ordered", "as.ordered"), "contr.poly"),
}
#: Functions that look at the levels of their first argument.
LEVELS = frozenset((*FACTORS, "relevel", "dummy"))
#: What the evaluator does itself.
SPECIAL = ("I", "c", "ifelse", "where", "np.where", "relevel", "dummy")


def known_functions() -> tuple[str, ...]:
    """Everything that a formula can call without the caller's help, in alphabetical order.

    Examples
    --------
    >>> "log" in known_functions(), "open" in known_functions()
    (True, False)
    """
    return tuple(sorted({*ROWWISE, *SUMMARIES, *TRANSFORMS, *FACTORS, *SPECIAL, *CONTRASTS}))


def check_env(env: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a caller passes in for formulas to use, or an error.

    Parameters
    ----------
    env : mapping of str to function, number, text or sequence, optional

    Raises
    ------
    LmmError
        If it is no mapping of names.
    """
    if env is None:
        return {}
    if not isinstance(env, Mapping) or not all(isinstance(name, str) for name in env):
        raise LmmError(
            "env must map names to the functions and constants that a formula may use, as in "
            f"{{'half': lambda x: x / 2}}, not {env!r}"
        )
    return dict(env)
