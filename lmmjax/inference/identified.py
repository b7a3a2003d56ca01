"""Find the variances that a design cannot determine, and say which and why.

The likelihood sees the covariance of the response only beside the fixed effects: of

    V(phi) = sum_t Z_t Sigma_t(phi) Z_t' + sigma^2 I   (weights folded into the rows)

only ``P V P`` with ``P = I - X (X'X)^-1 X'`` can be estimated (Harville 1977, J. Am. Statist.
Assoc. 72, 320-338, for restricted likelihood; under maximum likelihood the rest is driven to zero).
A direction ``d phi`` with ``P (sum_i d phi_i V_i) P = 0`` is one that no response can inform: a
grouping factor given twice, one cluster in each arm, a slope whose column is zero. Whether a
symmetric matrix is zero shows in its products with a few random vectors, at the cost of a
multiplication for each row and parameter.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from lmmjax.covariance import Covariance, Diagonal, SymmetricRoot, Unstructured, relative_covariance
from lmmjax.errors import DesignWarning, LmmError, warn
from lmmjax.likelihood.segments import segment_sum
from lmmjax.precision import double_precision

if TYPE_CHECKING:
    from lmmjax.design import Design, RandomTerm
    from lmmjax.likelihood.crossproducts import Prepared

#: Singular values below this, relative to the largest, are those of directions without a trace.
TRACE_TOL = 1e-8
#: Share of a direction below which a parameter has no part in it.
PART = 1e-6


@dataclass(frozen=True)
class Undetermined:
    """Variance parameters that a design does not determine.

    Attributes
    ----------
    parameters : tuple of (str, str)
        Grouping factor and column of each variance that takes part; the residual variance is
        ``("Residual", "")``.
    words : str
        What cannot be determined and why: the end of a sentence that begins "the data do not
        determine".
    """

    parameters: tuple[tuple[str, str], ...]
    words: str


class _Parameter(NamedTuple):
    """One coordinate of V: its term (-1 for the residual), first column, and V's derivative."""

    term: int
    start: int
    tangent: np.ndarray


def undetermined(design: Design, prepared: Prepared) -> tuple[Undetermined, ...]:
    """List the variances that no response on this design can determine.

    Parameters
    ----------
    design : Design
        For the names.
    prepared : Prepared
        The same design, ready for cross-products.

    Returns
    -------
    tuple of Undetermined
        Empty where every variance parameter leaves a trace. Kept for as long as ``prepared``
        lives.

    Examples
    --------
    >>> import lmmjax as lj
    >>> data = lj.datasets.load("sleepstudy").assign(night=lambda d: d.Subject.astype(str) + "n")
    >>> design = lj.build_design("Reaction ~ Days + (1 | Subject) + (1 | night)", data)
    >>> for found in undetermined(design, lj.prepare_design(design)):
    ...     print(found.words)
    more than a combination of the variances of '(Intercept)' among the levels of 'Subject' and of
    '(Intercept)' among the levels of 'night'
    """
    key = id(prepared)
    if key not in _known:
        _known[key] = tuple(_in_words(design.terms, prepared, *_traceless(prepared)))
        weakref.finalize(prepared, _known.pop, key, None)
    return _known[key]


#: What was found of a prepared design, by its identity, for as long as it lives.
_known: dict[int, tuple[Undetermined, ...]] = {}


def describe(found: Sequence[Undetermined]) -> str:
    """Join what is undetermined to one sentence."""
    return f"the data do not determine {'; nor '.join(each.words for each in found)}"


def check_determined(design: Design, prepared: Prepared) -> None:
    """Raise LmmError if a design leaves variances without a trace.

    For simulation and planning, where nobody sees the warning of a single fit.
    """
    found = undetermined(design, prepared)
    if found:
        raise LmmError(
            f"with this design {describe(found)}. Plan for more groups (at least two to each "
            "combination of the predictors that are constant within groups), or leave such terms "
            "out of the model"
        )


def warn_undetermined(design: Design, prepared: Prepared) -> None:
    """Warn, for fits of many responses, of variances that a design leaves without a trace."""
    found = undetermined(design, prepared)
    if found:
        warn(
            f"{describe(found)}. What the fits have for them is where their search began, and "
            "tests of fixed effects that depend on it have no degrees of freedom",
            DesignWarning,
        )


def _parameters(prepared: Prepared) -> list[_Parameter]:
    """List the coordinates of V: each bar's, in standardised columns, and the residual's."""
    out = []
    for t, bars in enumerate(prepared.search_structures):
        start = 0
        for structure in bars:
            out += [_Parameter(t, start, tangent) for tangent in _tangents(structure)]
            start += structure.size
    return [*out, _Parameter(-1, 0, np.ones((1, 1)))]


def _tangents(structure: Covariance) -> np.ndarray:
    """Return the derivatives of a bar's covariance in its parameters, shape (m, k, k)."""
    k = structure.size
    if type(structure) is Diagonal:
        return np.eye(k)[:, :, None] * np.eye(k)[:, None, :]
    if type(structure) in (Unstructured, SymmetricRoot):
        row, col = np.triu_indices(k)
        out = np.zeros((row.size, k, k))
        out[np.arange(row.size), row, col] = out[np.arange(row.size), col, row] = 1.0
        return out
    # Anywhere but at a special point: what vanishes there vanishes everywhere.
    start = np.asarray(structure.start(), np.float64)
    point = start + 0.1 * np.cos(np.arange(1, start.size + 1))
    with double_precision():
        jacobian = jax.jacfwd(lambda x: relative_covariance(structure, x))(point)
    return np.moveaxis(np.asarray(jacobian), -1, 0)


def _traceless(prepared: Prepared) -> tuple[list[_Parameter], np.ndarray]:
    """Return V's coordinates and an orthonormal basis of the directions without a trace, (m, f)."""
    parameters = _parameters(prepared)
    m = len(parameters)
    present = np.asarray(prepared.root_weights) > 0
    q = np.asarray(prepared.basis.q)
    rng = np.random.default_rng(20_240_501)
    # Relative to what would be seen without fixed effects: what these take up is rounding.
    probe = rng.normal(size=present.size) * present
    size = np.array([np.linalg.norm(v) for v in _products(prepared, parameters, probe)])
    unit = np.where(size > 0, size, 1.0)
    triangle = np.zeros((0, m))
    basis = np.zeros((m, 0))
    columns = sum(rows.shape[1] for rows in prepared.term_rows)
    # A symmetric matrix of few dimensions may have a random vector in its kernel: ask again.
    for _ in range(2 * columns + 2):
        inside = probe - q @ (q.T @ probe)
        seen = np.empty((present.size, m))
        for i, v in enumerate(_products(prepared, parameters, inside)):
            seen[:, i] = (v - q @ (q.T @ v)) / unit[i]
        triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, seen]), mode="r"))
        _, values, directions = np.linalg.svd(triangle)
        values = np.append(values, np.zeros(m - values.size))
        # In V's coordinates again, not relative to their sizes.
        basis = directions[values <= TRACE_TOL * values[0]].T / unit[:, None]
        if not basis.size:
            break
        probe = rng.normal(size=present.size) * present
    return parameters, basis


def _products(
    prepared: Prepared, parameters: list[_Parameter], probe: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield ``V_i u`` of each coordinate, shape (n,)."""
    sums: dict[int, np.ndarray] = {}
    for t, start, tangent in parameters:
        if t < 0:
            yield probe
            continue
        rows, index = np.asarray(prepared.term_rows[t]), np.asarray(prepared.term_index[t])
        if t not in sums:
            sums[t] = np.stack(
                [segment_sum(z * probe, index, prepared.levels[t]) for z in rows.T], axis=1
            )
        own = slice(start, start + tangent.shape[0])
        yield np.sum(rows[:, own] * (sums[t][:, own] @ tangent)[index], axis=1)


def _in_words(
    terms: Sequence[RandomTerm],
    prepared: Prepared,
    parameters: list[_Parameter],
    basis: np.ndarray,
) -> Iterator[Undetermined]:
    """Yield what the directions without a trace leave open; those of one variance are one."""
    rows = _echelon(basis.T)
    touched = [
        {
            (t, j)
            for t in range(len(terms))
            for j in _columns(terms[t], t, prepared, parameters, row)
        }
        | ({(-1, 0)} if abs(row[-1]) > PART else set())
        for row in rows
    ]
    for together in _connected(touched):
        places = sorted(place for place in together if place[0] >= 0)
        names = tuple((terms[t].group, terms[t].columns[j]) for t, j in places)
        residual = len(together) > len(places)
        yield Undetermined(
            names + ((("Residual", ""),) if residual else ()), _words(terms, places, residual)
        )


def _echelon(rows: np.ndarray) -> np.ndarray:
    """Return the reduced row echelon form: each direction has few coordinates, the largest 1."""
    rows = rows.copy()
    for i in range(len(rows)):
        j = int(np.argmax(np.abs(rows[i])))
        rows[i] /= rows[i, j]
        others = np.arange(len(rows)) != i
        rows[others] -= np.outer(rows[others, j], rows[i])
    return rows / np.abs(rows).max(axis=1, keepdims=True, initial=0.0)


def _connected(sets: Sequence[set[tuple[int, int]]]) -> list[set[tuple[int, int]]]:
    """Return the unions of sets that share elements."""
    out: list[set[tuple[int, int]]] = []
    for each in sets:
        touching = [s for s in out if s & each]
        out = [s for s in out if s not in touching] + [each.union(*touching)]
    return out


def _columns(
    term: RandomTerm,
    t: int,
    prepared: Prepared,
    parameters: list[_Parameter],
    direction: np.ndarray,
) -> list[int]:
    """Return the columns of a term whose variance or covariances a direction changes."""
    k = len(term.columns)
    change = np.zeros((k, k))
    for weight, (of, start, tangent) in zip(direction, parameters, strict=True):
        if of == t:
            own = slice(start, start + tangent.shape[0])
            change[own, own] += weight * tangent
    # Back from standardised columns, Sigma = T^-1 Sigma_s T^-T, and to unit scale.
    size = np.sqrt(np.mean(term.Z**2, axis=0))
    unit = np.where(size > 0, size, 1.0)[:, None] * np.linalg.inv(prepared.transforms[t])
    changed = np.abs(unit @ change @ unit.T) > PART
    # A column of zeros takes its covariances along: those are not the other columns' fault.
    zero = size == 0
    if zero.any() and not changed[np.ix_(~zero, ~zero)].any():
        changed[~zero] = False
    return np.flatnonzero(changed.any(axis=1)).tolist()


def _words(terms: Sequence[RandomTerm], touched: list[tuple[int, int]], residual: bool) -> str:
    """Say what cannot be determined, and why where that is plain."""
    if len(touched) == 1 and not residual:
        (t, j) = touched[0]
        column, group = terms[t].columns[j], terms[t].group
        why = (
            f"the column {column!r} is zero in every row"
            if not terms[t].Z[:, j].any()
            else "the fixed effects explain all that differs between them"
        )
        return f"the variance of {column!r} among the levels of {group!r} ({why})"
    parts = []
    for t in sorted({t for t, _ in touched}):
        columns = [terms[t].columns[j] for of, j in touched if of == t]
        named = " and ".join(map(repr, columns))
        parts.append(f"of {named} among the levels of {terms[t].group!r}")
    shared = "the variances " + " and ".join(parts) + (" and of the residuals" if residual else "")
    return f"more than a combination of {shared}"
