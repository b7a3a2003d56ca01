"""What counts as found: p values of many fits by a contrast, an F test, or a user's function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.hypotheses import as_hypotheses
from lmmjax.many.contests import f_tests, independent_rows, t_tests
from lmmjax.many.fits import ManyFits
from lmmjax.reading.coefficients import t_quantile

if TYPE_CHECKING:
    from lmmjax.simulation.parameters import TrueParameters


@dataclass(frozen=True)
class Found:
    """A test of every replicate: by its p value, or by whether it rejects.

    Attributes
    ----------
    pvalues : ndarray, shape (replicates,), or None
    rejected : ndarray of bool, shape (replicates,), or None
        Decisions, where a test gives those and no p values.
    estimate, error, half_width : ndarray, shape (replicates,), or None
        Of a single contrast: its estimate, standard error, and half of its 95 % interval.
    converged : ndarray of bool, shape (replicates,), or None
        Where the test needs more fits than the model's: whether those converged.
    """

    pvalues: np.ndarray | None
    estimate: np.ndarray | None = None
    error: np.ndarray | None = None
    half_width: np.ndarray | None = None
    converged: np.ndarray | None = None
    rejected: np.ndarray | None = None

    def rejects(self, alpha: float) -> np.ndarray:
        """Whether each replicate rejects at this level, shape (replicates,)."""
        if self.pvalues is None:
            assert self.rejected is not None
            return self.rejected
        return self.pvalues < alpha


@dataclass(frozen=True)
class Criterion:
    """A test, ready for fits of one design.

    Attributes
    ----------
    label : str
        As it is printed.
    run : callable
        ``ManyFits -> Found``.
    truth : float or None
        True value of a single contrast.
    null : float
        What it is tested against.
    identity : tuple
        Arrays, numbers and texts that tell it from other tests, which may share its label.
    weights : ndarray, shape (q, p), or None
        Of the coefficients, where the test is about combinations of them.
    """

    label: str
    run: Callable[[ManyFits], Found]
    truth: float | None = None
    null: float = 0.0
    identity: tuple[Any, ...] = ()
    weights: np.ndarray | None = None


def criterion(test: Any, names: tuple[str, ...], truth: TrueParameters, ddf: str) -> Criterion:
    """The test that a user asks for.

    Parameters
    ----------
    test : str, sequence of str, array, or callable
        Hypotheses about coefficients, their weights, or ``ManyFits -> p values`` (floats) or
        ``ManyFits -> decisions`` (booleans).
    names : tuple of str
        Coefficients.
    truth : TrueParameters
    ddf : str
        One of ``lmmjax.inference.contrasts.METHODS``.

    Raises
    ------
    LmmError
        The test cannot be read, or is none.
    """
    if callable(test):
        label = getattr(test, "__name__", "test")
        return Criterion(label, lambda many: _by_user(test, many), identity=code_identity(test))
    hypotheses = as_hypotheses(test, None, names)
    L, rhs = hypotheses.L, hypotheses.rhs
    label = ", ".join(hypotheses.labels)
    if len(L) == 1:
        true = float((L @ np.asarray(truth.beta))[0])
        null = float(rhs[0])
        return Criterion(label, lambda m: _t_test(m, L, rhs, ddf), true, null, (L, rhs), L)
    independent_rows(L)
    return Criterion(
        label, lambda m: Found(f_tests(m, L, rhs, ddf).p), identity=(L, rhs), weights=L
    )


def code_identity(function: Any) -> tuple[Any, ...]:
    """What tells a function from another of its name: its code, and the plain values it uses.

    Objects of other kinds are left out: their texts hold addresses, which change between runs.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return (getattr(function, "__qualname__", type(function).__qualname__),)
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return (*_code_parts(code), *(_plain_part(value) for value in (*cells, *defaults)))


def _code_parts(code: CodeType) -> tuple[Any, ...]:
    inner = [_code_parts(c) if isinstance(c, CodeType) else _plain_part(c) for c in code.co_consts]
    return (code.co_code.hex(), " ".join(code.co_names), *inner)


def _plain_part(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value
    plain = isinstance(value, bool | int | float | complex | str | bytes | type(None) | slice)
    parts = isinstance(value, tuple | list) and all(
        isinstance(x, bool | int | float | str) for x in value
    )
    return repr(value) if plain or parts else type(value).__qualname__


def _t_test(many: ManyFits, L: np.ndarray, rhs: np.ndarray, ddf: str) -> Found:
    found = t_tests(many, L, rhs, ddf)
    half = t_quantile(0.95, found.df[:, 0]) * found.se[:, 0]
    return Found(found.p[:, 0], found.estimate[:, 0], found.se[:, 0], half)


def _by_user(test: Callable[[ManyFits], Any], many: ManyFits) -> Found:
    found = np.asarray(test(many))
    wanted = "give p values (floats from 0 to 1) or whether each fit rejects (booleans)"
    if found.shape != (len(many),):
        raise LmmError(
            f"the test gives an array of shape {found.shape} for {len(many)} fits: it takes all of "
            f"them at once (lj.ManyFits) and must {wanted}"
        )
    if found.dtype == bool:
        return Found(None, rejected=found)
    if found.dtype.kind != "f":
        raise LmmError(f"the test gives values of type {found.dtype}: {wanted}")
    # NaN: a fit without estimates has no p value, and does not reject.
    outside = (found < 0.0) | (found > 1.0)
    if outside.any():
        raise LmmError(
            f"the test gives {found[outside][0]:g} as a p value, and {np.count_nonzero(outside)} "
            f"of {len(many)} values lie outside 0 to 1: {wanted}"
        )
    return Found(found)
