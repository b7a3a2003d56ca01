"""Exact null distribution of the likelihood-ratio statistic for one variance, by simulation.

With one variance component the (restricted) likelihood ratio depends on the data through a few
independent chi-squares, whose weights are eigenvalues of the design. No model is fitted to
simulated data: 10,000 draws take milliseconds.

Source: Crainiceanu & Ruppert (2004), J. R. Statist. Soc. B 66, 165-185; with further variance
components Greven, Crainiceanu, Küchenhoff & Peters (2008), J. Comput. Graph. Statist. 17, 870-891;
Scheipl, Greven & Küchenhoff (2008), Comput. Statist. Data Anal. 52, 3283-3299 (RLRsim).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.fitting import fit_response
from lmmjax.inference.comparison import refit_ml
from lmmjax.inference.drop_terms import droppable
from lmmjax.inference.reduction import (
    RandomPart,
    random_parts,
    rebuild,
    rewrite,
    without_fixed_term,
)
from lmmjax.reading.numbers import p_texts

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult

#: Variance ratios that are tried: none, and these over the largest eigenvalue (RLRsim's range).
RATIOS = np.exp(np.linspace(-10.0, 8.0, 199))
#: Draws that are worked on at once.
CHUNK = 4096


@dataclass(frozen=True, eq=False)
class SimulatedTest:
    """A test whose null distribution was simulated.

    Attributes
    ----------
    label : str
        What is tested.
    method : str
        What the distribution is.
    statistic : float
    p_value : float
        ``(1 + draws that reach the statistic) / (1 + draws)``.
    sample : ndarray, shape (n,)
        The draws.
    """

    label: str
    method: str
    statistic: float
    p_value: float
    sample: np.ndarray

    @property
    def standard_error(self) -> float:
        """Monte Carlo standard error of the p value."""
        return float(np.sqrt(self.p_value * (1.0 - self.p_value) / self.sample.size))

    @property
    def mass_at_zero(self) -> float:
        """Share of the draws that are zero; 0.5 in the mixture that holds for many groups."""
        return float(np.mean(self.sample == 0.0))

    def __str__(self) -> str:
        return "\n".join(
            [
                self.method,
                "",
                f"tested: {self.label}",
                f"statistic {self.statistic:.5g}, p-value {p_texts([self.p_value], 4)[0]} "
                f"(Monte Carlo standard error {self.standard_error:.2g})",
                f"{self.sample.size} draws, {100 * self.mass_at_zero:.1f}% of them zero",
            ]
        )

    __repr__ = __str__


def spectrum(
    X: np.ndarray, z: np.ndarray, index: np.ndarray, levels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues of ``Z'(I - P_X) Z`` for one effect a level, and of ``Z'Z``.

    Parameters
    ----------
    X : ndarray, shape (n, p)
        Full column rank; rows times the roots of their weights.
    z : ndarray, shape (n,)
        The effect's column, weighted in the same way.
    index : ndarray of int, shape (n,)
        Level of each row.
    levels : int

    Returns
    -------
    mu, counts : ndarray
        Distinct positive eigenvalues of the first, and how often each occurs.
    xi : ndarray, shape (levels,)
        Eigenvalues of the second.

    Notes
    -----
    The first matrix is diagonal less one of rank p. Among levels of equal diagonal, all but p
    directions keep that diagonal as their eigenvalue: only the others are decomposed, so that
    balanced designs of any size are cheap.

    Examples
    --------
    >>> mu, counts, xi = spectrum(np.ones((6, 1)), np.ones(6), np.array([0, 0, 1, 1, 2, 2]), 3)
    >>> mu.tolist(), counts.tolist(), xi.tolist()
    ([2.0], [2], [2.0, 2.0, 2.0])
    """
    basis, _ = np.linalg.qr(X)
    xi = np.bincount(index, z * z, levels)
    p = basis.shape[1]
    cross = np.array([np.bincount(index, z * column, levels) for column in basis.T])
    cross = cross.reshape(p, levels)  # a model may have no fixed effects
    order = np.argsort(xi, kind="stable")
    values, starts = np.unique(xi[order], return_index=True)
    diagonal, pieces, kept, often = [], [], [], []
    for value, own in zip(values, np.split(cross[:, order], starts[1:], axis=1), strict=True):
        m = own.shape[1]
        if m > p:
            # In this basis only the first p of the m equal levels meet the fixed effects.
            own = np.asarray(np.linalg.qr(own.T, mode="r")).T
            kept.append(value)
            often.append(m - p)
        diagonal += [value] * own.shape[1]
        pieces.append(own)
    C = np.concatenate(pieces, axis=1)
    rest = np.linalg.eigvalsh(np.diag(diagonal) - C.T @ C)
    mu = np.concatenate([rest, kept])
    counts = np.concatenate([np.ones(len(rest), int), np.array(often, int)])
    positive = mu > 1e-10 * xi.max(initial=0.0)
    return *_merge(mu[positive], counts[positive]), xi


def _merge(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values that are equal up to rounding, once each."""
    if not values.size:
        return values, counts
    order = np.argsort(values)
    values, counts = values[order], counts[order]
    first = np.append(True, np.diff(values) > 1e-9 * values[-1])
    at = np.cumsum(first) - 1
    total = np.bincount(at, counts)
    return np.bincount(at, values * counts) / total, total.astype(int)


def simulate(
    mu: np.ndarray,
    counts: np.ndarray,
    penalty: np.ndarray,
    *,
    size: int,
    rest: int,
    dropped: int,
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws of the (restricted) likelihood-ratio statistic under a variance of zero.

    Parameters
    ----------
    mu, counts : ndarray
        Distinct positive eigenvalues and how often each occurs; see :func:`spectrum`.
    penalty : ndarray
        Eigenvalues of which the log-determinant is made: all of `mu` (restricted), or of ``Z'Z``.
    size : int
        What the log of the residual sum of squares is multiplied by: n - p (restricted), or n.
    rest : int
        Residual degrees of freedom beside the eigenvalues'.
    dropped : int
        Fixed effects that the null leaves out.
    n : int
        Number of draws.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n,)
    """
    if not mu.size:
        raise LmmError(
            "the fixed effects take up all of the random effects' columns: their variance has no "
            "estimate"
        )
    largest = max(mu.max(), penalty.max())
    ratios = RATIOS / largest
    shrunk = ratios[:, None] * mu
    shrunk = shrunk / (1.0 + shrunk)
    log_det = np.array([np.sum(np.log1p(ratio * penalty)) for ratio in ratios])
    out = []
    for start in range(0, n, CHUNK):
        m = min(CHUNK, n - start)
        parts = rng.chisquare(counts, (m, len(counts)))
        total = np.sum(parts, axis=1) + (rng.chisquare(rest, m) if rest else 0.0)
        # The log of the residual sum of squares falls by -log1p(-explained).
        explained = parts @ shrunk.T / total[:, None]
        value = _maximum(-size * np.log1p(-explained) - log_det)
        if dropped:
            value += size * np.log1p(rng.chisquare(dropped, m) / total)
        out.append(value)
    return np.concatenate(out)


def _maximum(curves: np.ndarray) -> np.ndarray:
    """Maximum of each row over an even grid, and zero; a parabola finds it between the points."""
    at = np.argmax(curves, axis=1)
    rows = np.arange(len(curves))
    top = curves[rows, at]
    inner = np.clip(at, 1, curves.shape[1] - 2)
    left, mid, right = (curves[rows, inner + shift] for shift in (-1, 0, 1))
    bend = 2.0 * mid - left - right
    gain = (right - left) ** 2 / (8.0 * np.where(bend > 0, bend, 1.0))
    return np.maximum(0.0, top + np.where((inner == at) & (bend > 0), gain, 0.0))


def find_part(fit: LinearMixedModelResult, term: str | None) -> tuple[RandomPart, list[str]]:
    """The part of the random effects that is meant, and the labels of the others."""
    from lmmjax.formula import parse

    parts = random_parts(fit)
    labels = [part.label for part in parts]
    if term is None:
        if len(parts) > 1:
            raise LmmError(
                f"the model has several variances: say which is tested, as in term={labels[0]!r}; "
                f"they are {', '.join(labels)}"
            )
        at = 0
    else:
        by_group = [i for i, part in enumerate(parts) if ":".join(part.group) == term]
        if term.lstrip().startswith("("):
            term = str(parse(f"y ~ {term}").bars[0])
        found = [i for i, label in enumerate(labels) if label == term]
        found = found or (by_group if len(by_group) == 1 else [])
        if not found:
            raise LmmError(
                f"term {term!r} is none of the random effects: they are {', '.join(labels)}"
            )
        at = found[0]
    part = parts[at]
    if len(part.columns) > 1:
        raise LmmError(
            f"{part.label} has {len(part.columns)} columns, of which the covariances would go too: "
            "the exact distribution is that of one variance. ranova() tests one term of it, and a "
            "model with '||' has variances that can be tested one by one"
        )
    return part, labels[:at] + labels[at + 1 :]


def _spectrum_of(
    fit: LinearMixedModelResult, part: RandomPart
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    design = fit.design
    term, root = design.terms[part.owner], np.sqrt(design.weights)
    z = root * term.Z[:, part.columns[0]]
    return spectrum(root[:, None] * design.X, z, term.index, len(term.levels))


def _result(
    label: str, method: str, statistic: float, scale: float, sample: np.ndarray
) -> SimulatedTest:
    # Two equal optima differ by rounding.
    statistic = statistic if statistic > 1e-9 * (1.0 + abs(scale)) else 0.0
    p = (1.0 + np.sum(sample >= statistic)) / (1.0 + sample.size)
    return SimulatedTest(label, method, float(statistic), float(p), sample)


def _check_draws(n: int) -> int:
    if not n >= 1:
        raise LmmError(f"n, the number of draws, must be at least 1, not {n!r}")
    return int(n)


def exact_rlrt(
    fit: LinearMixedModelResult, term: str | None = None, *, n: int = 10_000, seed: int = 0
) -> SimulatedTest:
    """Test one variance; :meth:`LinearMixedModelResult.exact_rlrt` documents it."""
    n = _check_draws(n)
    part, others = find_part(fit, term)
    full = fit
    if not fit.reml:
        full = replace(fit, raw=fit_response(fit.raw.prepared, fit.raw.y, reml=True))
    null = rebuild(full, rewrite(full.design.formula, bars=others))
    mu, counts, _ = _spectrum_of(fit, part)
    size = fit.design.n - fit.design.p
    sample = simulate(
        mu,
        counts,
        np.repeat(mu, counts),
        size=size,
        rest=size - int(counts.sum()),
        dropped=0,
        n=n,
        rng=np.random.default_rng(seed),
    )
    method = "Restricted likelihood-ratio test of one variance, null distribution simulated"
    if others:
        method += "\n(approximate: as if the other random effects were known)"
    if not fit.reml:
        method += "\n(the ML fit was refitted by REML)"
    observed = null.criterion - full.criterion
    return _result(part.label, method, observed, full.criterion, sample)


def exact_lrt(
    fit: LinearMixedModelResult,
    drop: str | Sequence[str] = (),
    *,
    n: int = 10_000,
    seed: int = 0,
) -> SimulatedTest:
    """Test a variance and fixed terms together; see :meth:`LinearMixedModelResult.exact_lrt`."""
    n = _check_draws(n)
    part, others = find_part(fit, None)
    full = refit_ml(fit)
    null = rebuild(full, rewrite(full.design.formula, bars=others))
    names = [drop] if isinstance(drop, str) else list(drop)
    for name in names:
        null = rebuild(null, without_fixed_term(null, droppable(null, name)[0]))
    mu, counts, xi = _spectrum_of(fit, part)
    N, p = fit.design.n, fit.design.p
    sample = simulate(
        mu,
        counts,
        xi,
        size=N,
        rest=N - p - int(counts.sum()),
        dropped=p - null.design.p,
        n=n,
        rng=np.random.default_rng(seed),
    )
    method = "Likelihood-ratio test with one variance, null distribution simulated"
    if fit.reml:
        method += "\n(the REML fit was refitted by ML)"
    label = " and ".join([part.label, *names])
    return _result(label, method, null.criterion - full.criterion, full.criterion, sample)
