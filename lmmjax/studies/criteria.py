"""What counts as found: p values of many fits by a contrast, an F test, or a user's function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.contrasts import RANK_TOL
from lmmjax.inference.hypotheses import Hypotheses, parse_hypotheses
from lmmjax.many.fits import ManyFits

if TYPE_CHECKING:
    from lmmjax.simulation.parameters import TrueParameters

DDF = ("satterthwaite", "asymptotic")


@dataclass(frozen=True)
class Found:
    """A test of every replicate.

    Attributes
    ----------
    pvalues : ndarray, shape (replicates,)
    estimate, error, half_width : ndarray, shape (replicates,), or None
        Of a single contrast: its estimate, standard error, and half of its 95 % interval.
    converged : ndarray of bool, shape (replicates,), or None
        Where the test needs more fits than the model's: whether those converged.
    """

    pvalues: np.ndarray
    estimate: np.ndarray | None = None
    error: np.ndarray | None = None
    half_width: np.ndarray | None = None
    converged: np.ndarray | None = None


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
    """

    label: str
    run: Callable[[ManyFits], Found]
    truth: float | None = None
    null: float = 0.0
    identity: tuple[Any, ...] = ()


def criterion(test: Any, names: tuple[str, ...], truth: TrueParameters, ddf: str) -> Criterion:
    """The test that a user asks for.

    Parameters
    ----------
    test : str, sequence of str, array, or callable
        Hypotheses about coefficients, their weights, or ``ManyFits -> p values``.
    names : tuple of str
        Coefficients.
    truth : TrueParameters
    ddf : str
        One of ``DDF``.

    Raises
    ------
    LmmError
        The test cannot be read, or is none.
    """
    if ddf not in DDF:
        raise LmmError(f"ddf must be one of {', '.join(map(repr, DDF))}, not {ddf!r}")
    if callable(test):
        label = getattr(test, "__name__", "test")
        return Criterion(label, lambda many: _by_user(test, many), identity=code_identity(test))
    if isinstance(test, str) or (
        isinstance(test, list | tuple) and all(isinstance(x, str) for x in test)
    ):
        hypotheses = parse_hypotheses(test, names)
    else:
        L = np.atleast_2d(np.asarray(test, np.float64))
        if L.shape[1] != len(names):
            raise LmmError(
                f"the test has {L.shape[1]} weights a row for {len(names)} coefficients: "
                f"{', '.join(names)}"
            )
        hypotheses = Hypotheses(L, np.zeros(len(L)), tuple(f"row {i + 1}" for i in range(len(L))))
    L, rhs = hypotheses.L, hypotheses.rhs
    label = ", ".join(hypotheses.labels)
    if len(L) == 1:
        true = float((L @ np.asarray(truth.beta))[0])
        null = float(rhs[0])
        return Criterion(label, lambda m: _t_test(m, L[0], null, ddf), true, null, (L, rhs))
    return Criterion(label, lambda m: _f_test(m, L, rhs, ddf), identity=(L, rhs))


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


def contrast_dfs(many: ManyFits, rows: np.ndarray) -> np.ndarray:
    """Satterthwaite's df of contrasts that may differ between replicates.

    ``rows`` has shape (replicates, q, p) or (q, p); result shape (replicates, q).
    """
    fixed = many.estimate.fixed
    variance = (
        np.einsum("...qa,rab,...qb->rq", rows, fixed.vcov, rows)
        if rows.ndim == 2
        else (np.einsum("rqa,rab,rqb->rq", rows, fixed.vcov, rows))
    )
    spec = "qa,rabm,qb->rqm" if rows.ndim == 2 else "rqa,rabm,rqb->rqm"
    gradient = np.einsum(spec, rows, fixed.vcov_first, rows, optimize=True)
    spread = np.einsum("rqm,rmn,rqn->rq", gradient, fixed.parameter_cov, gradient, optimize=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2.0 * variance**2 / spread


def _t_test(many: ManyFits, row: np.ndarray, rhs: float, ddf: str) -> Found:
    from scipy.special import ndtr, stdtr, stdtrit

    estimate = many.beta @ row
    error = np.sqrt(np.einsum("a,rab,b->r", row, many.vcov, row))
    t = np.abs(estimate - rhs) / error
    if ddf == "asymptotic":
        return Found(2.0 * ndtr(-t), estimate, error, 1.959963984540054 * error)
    df = contrast_dfs(many, row[None])[:, 0]
    return Found(2.0 * stdtr(df, -t), estimate, error, stdtrit(df, 0.975) * error)


def _f_test(many: ManyFits, L: np.ndarray, rhs: np.ndarray, ddf: str) -> Found:
    """Joint test of several hypotheses: see :func:`lmmjax.inference.contrasts.f_test`."""
    from scipy.special import chdtrc, fdtrc

    rank = np.linalg.matrix_rank(L, tol=RANK_TOL * np.abs(L).max())
    if rank < len(L):
        raise LmmError(f"the {len(L)} hypotheses are only {rank}: leave out those that follow")
    q = len(L)
    values, vectors = np.linalg.eigh(L @ many.vcov @ L.T)
    rows = np.swapaxes(vectors, 1, 2) @ L
    difference = np.einsum("rqa,ra->rq", rows, many.beta) - np.einsum("rcq,c->rq", vectors, rhs)
    F = np.mean(difference**2 / values, axis=1)
    if ddf == "asymptotic":
        return Found(chdtrc(q, q * F))
    return Found(fdtrc(q, pooled_dfs(contrast_dfs(many, rows)), F))


def pooled_dfs(nu: np.ndarray) -> np.ndarray:
    """:func:`lmmjax.inference.contrasts.pooled_df` of each row of ``nu``, shape (replicates, q)."""
    q = nu.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        E = np.sum(nu / (nu - 2.0), axis=1)
        pooled = 2.0 * E / (E - q)
    pooled = np.where(np.any(nu <= 2.0, axis=1), 2.0, pooled)
    return np.where(np.ptp(nu, axis=1) < 1e-8, nu.mean(axis=1), pooled)


def _by_user(test: Callable[[ManyFits], Any], many: ManyFits) -> Found:
    pvalues = np.asarray(test(many), np.float64)
    if pvalues.shape != (len(many),):
        raise LmmError(
            f"the test gives an array of shape {pvalues.shape} for {len(many)} fits: it takes all "
            "of them at once (lj.ManyFits) and gives their p values"
        )
    return Found(pvalues)
