"""What the likelihood is tested against: linear mixed models by brute force, in 50 digits and more.

Nothing here is shared with the package. Two routes, in two arithmetics:

- :func:`dense`: builds ``V = W^-1 + Z Lambda Lambda' Z'`` in full, n x n, and eliminates it, with
  mpmath.
- :class:`Exact`: through ``A = I + Lambda' Z'WZ Lambda`` (q x q), with 100-digit decimals, which is
  quick enough for derivatives by differences (a step of 1e-25: they are good to some 45 digits) and
  for groups of 1,000 rows.

The tests assert that both agree to 40 digits, so neither is taken on trust.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import mpmath
import numpy as np

DIGITS = 100
STEP = decimal.Decimal("1e-25")
Factors = Callable[[Any], list[np.ndarray]]

CONTEXT = decimal.Context(prec=DIGITS, Emin=-(10**6), Emax=10**6)


def precise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run in 100 digits, of either arithmetic, whatever is set outside."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with decimal.localcontext(CONTEXT), mpmath.workdps(DIGITS):
            return function(*args, **kwargs)

    return wrapped


with mpmath.workdps(DIGITS + 10):
    TWO_PI = decimal.Decimal(mpmath.nstr(2 * mpmath.pi, DIGITS + 5))


@dataclass(frozen=True)
class Problem:
    """A linear mixed model as arrays.

    ``terms`` holds (Z, index, levels) of each grouping factor; ``blocks`` the sizes of the diagonal
    blocks of each term's Lambda, whose lower triangles theta fills column by column, as in lme4.
    """

    X: np.ndarray
    y: np.ndarray
    terms: tuple[tuple[np.ndarray, np.ndarray, int], ...]
    blocks: tuple[tuple[int, ...], ...] = ()
    weights: np.ndarray | None = None
    offset: np.ndarray | None = None

    @property
    def n_theta(self) -> int:
        return sum(k * (k + 1) // 2 for bars in self.bars for k in bars)

    @property
    def bars(self) -> tuple[tuple[int, ...], ...]:
        return self.blocks or tuple((z.shape[1],) for z, _, _ in self.terms)

    def factors(self, theta: Any) -> list[np.ndarray]:
        """Lambda of every term, whatever the kind of number in theta."""
        at, out = 0, []
        for bars in self.bars:
            size = sum(bars)
            factor = np.array([[theta[0] * 0] * size] * size)
            corner = 0
            for k in bars:
                for column in range(k):
                    for row in range(column, k):
                        factor[corner + row, corner + column] = theta[at]
                        at += 1
                corner += k
            out.append(factor)
        return out


def to_numbers(array: Any, number: Callable[[float], Any]) -> np.ndarray:
    """Array of floats as an object array of ``number``, exactly."""
    array = np.asarray(array, np.float64)
    out = np.empty(array.shape, object)
    for where in np.ndindex(*array.shape):
        out[where] = number(float(array[where]))
    return out


def eliminate(matrix: np.ndarray, count: int, log: Callable[[Any], Any]) -> tuple[Any, np.ndarray]:
    """Log-determinant of the leading block, and the Schur complement that it leaves."""
    matrix = matrix.copy()
    logdet: Any = 0
    for j in range(count):
        pivot = matrix[j, j]
        logdet += log(pivot)
        row = matrix[j, j + 1 :]
        matrix[j + 1 :, j + 1 :] -= np.outer(row / pivot, row)
    return logdet, matrix[count:, count:]


def profile(gram: np.ndarray, log: Callable[[Any], Any]) -> tuple[Any, Any, np.ndarray]:
    """``r^2``, ``log|X'V^-1X|`` and beta from ``[X y]'V^-1[X y]``."""
    p = gram.shape[0] - 1
    eye = to_numbers(np.eye(p), type(gram[0, 0]))
    zero = to_numbers(np.zeros((p, p)), type(gram[0, 0]))
    # [[G, g, I], [g', r, .], [I, ., 0]]: the last block turns into -G^-1
    wide = np.block([[gram[:p], eye], [gram[p:], zero[:1]]]) if p else gram
    tall = np.vstack([wide, np.hstack([eye, zero[:, :1], zero])]) if p else gram
    logdet, rest = eliminate(tall, p, log)
    return rest[0, 0], logdet, -rest[1:, 0]


@dataclass(frozen=True)
class Summary:
    """``log|V|`` and ``[X y]'V^-1[X y]``, and every criterion that follows."""

    logdet: Any
    gram: np.ndarray
    n: int
    log: Callable[[Any], Any]
    two_pi: Any

    @property
    def p(self) -> int:
        return self.gram.shape[0] - 1

    @precise
    def criterion(self, reml: bool) -> Any:
        """Deviance or REML criterion with beta and sigma profiled out."""
        rss, logdet_fixed, _ = profile(self.gram, self.log)
        df = self.n - self.p if reml else self.n
        value = self.logdet + df * (1 + self.log(self.two_pi * rss / df))
        return value + logdet_fixed if reml else value

    @precise
    def loglik(self, beta: np.ndarray, sigma: Any) -> Any:
        """``log N(y; X beta, sigma^2 V)``."""
        v = np.append(-beta, sigma * 0 + 1)
        variance = sigma * sigma
        quadratic = v @ self.gram @ v
        return -(self.n * self.log(self.two_pi * variance) + self.logdet + quadratic / variance) / 2

    @precise
    def restricted(self, sigma: Any) -> Any:
        """Restricted log-likelihood, sigma free."""
        rss, logdet_fixed, _ = profile(self.gram, self.log)
        variance = sigma * sigma
        df = self.n - self.p
        return (
            -(df * self.log(self.two_pi * variance) + self.logdet + logdet_fixed + rss / variance)
            / 2
        )

    @precise
    def beta(self) -> np.ndarray:
        """Generalised least squares."""
        return profile(self.gram, self.log)[2]

    @precise
    def sigma(self, reml: bool) -> Any:
        """The optimal residual standard deviation."""
        rss = profile(self.gram, self.log)[0]
        return (rss / (self.n - self.p if reml else self.n)) ** type(rss)("0.5")

    @precise
    def fixed_cov(self) -> np.ndarray:
        """``(X'V^-1X)^-1``."""
        return inverse(self.gram[:-1, :-1], self.log)


@precise
def inverse(matrix: np.ndarray, log: Callable[[Any], Any]) -> np.ndarray:
    """Inverse of a symmetric positive definite matrix of any kind of number."""
    size = matrix.shape[0]
    if size == 0:
        return matrix
    eye = to_numbers(np.eye(size), type(matrix[0, 0]))
    zero = to_numbers(np.zeros((size, size)), type(matrix[0, 0]))
    return -eliminate(np.block([[matrix, eye], [eye, zero]]), size, log)[1]


def dense(problem: Problem, theta: Any, digits: int = 50) -> Summary:
    """By ``V`` in full, in mpmath, at theta (floats: taken exactly)."""
    with mpmath.workdps(digits):
        mpf = mpmath.mpf
        n = problem.y.size
        factors = problem.factors(to_numbers(theta, mpf))
        weights = np.ones(n) if problem.weights is None else problem.weights
        offset = np.zeros(n) if problem.offset is None else problem.offset
        V = to_numbers(np.zeros((n, n)), mpf)
        V[np.diag_indices(n)] = mpf(1) / to_numbers(weights, mpf)
        for (z, index, _), factor in zip(problem.terms, factors, strict=True):
            rows = to_numbers(z, mpf) @ factor
            V += (rows @ rows.T) * (index[:, None] == index[None, :])
        y = to_numbers(problem.y, mpf) - to_numbers(offset, mpf)
        right = np.column_stack([to_numbers(problem.X, mpf), y])
        zero = to_numbers(np.zeros((right.shape[1],) * 2), mpf)
        logdet, schur = eliminate(np.block([[V, right], [right.T, zero]]), n, mpmath.log)
        return Summary(logdet, -schur, n, mpmath.log, mpmath.mpf(str(TWO_PI)))


@dataclass
class Exact:
    """By ``A = I + Lambda'Z'WZ Lambda``, in 100-digit decimals; call :meth:`at` with theta.

    ``factors`` replaces lme4's parameters by others: from a list of decimals to that of Lambda.
    """

    problem: Problem
    factors: Factors | None = None
    gram: np.ndarray = field(init=False)
    log_weights: Any = field(init=False)

    @precise
    def __post_init__(self) -> None:
        problem, number = self.problem, decimal.Decimal
        n = problem.y.size
        weights = to_numbers(np.ones(n) if problem.weights is None else problem.weights, number)
        offset = to_numbers(np.zeros(n) if problem.offset is None else problem.offset, number)
        columns = [to_numbers(problem.X, number), (to_numbers(problem.y, number) - offset)[:, None]]
        parts = []
        for z, index, count in problem.terms:
            block = to_numbers(np.zeros((n, count, z.shape[1])), number)
            block[np.arange(n), index] = to_numbers(z, number)
            parts.append(block.reshape(n, -1))
        self.log_weights = sum(w.ln() for w in weights)
        # Row by row over the columns that are not zero: groups of 1,000 rows stay affordable.
        whole = np.concatenate([*parts, *columns], axis=1)
        gram = to_numbers(np.zeros((whole.shape[1],) * 2), number)
        for row, weight in zip(whole, weights, strict=True):
            used = np.flatnonzero(row)
            gram[np.ix_(used, used)] += np.outer(weight * row[used], row[used])
        self.gram = gram

    @precise
    def at(self, theta: Any) -> Summary:
        """Summary at theta (floats or decimals: taken exactly)."""
        theta = [decimal.Decimal(t) if isinstance(t, float) else t for t in list(theta)]
        factors = (self.factors or self.problem.factors)(theta)
        scaled = self.gram.copy()
        at = 0
        for (_, _, count), factor in zip(self.problem.terms, factors, strict=True):
            k = factor.shape[0]
            for _ in range(count):
                scaled[at : at + k] = factor.T @ scaled[at : at + k]
                at += k
        q, at = at, 0
        for (_, _, count), factor in zip(self.problem.terms, factors, strict=True):
            k = factor.shape[0]
            for _ in range(count):
                scaled[:, at : at + k] = scaled[:, at : at + k] @ factor
                at += k
        scaled[np.arange(q), np.arange(q)] += 1
        logdet, gram = eliminate(scaled, q, decimal.Decimal.ln)
        return Summary(
            logdet - self.log_weights, gram, self.problem.y.size, decimal.Decimal.ln, TWO_PI
        )

    @precise
    def criterion(self, theta: Any, reml: bool) -> Any:
        """Profiled deviance or REML criterion, a decimal."""
        return self.at(theta).criterion(reml)


@precise
def gap(decimal_number: Any, mpmath_number: Any) -> float:
    """Relative difference between the two routes."""
    return float(abs(mpmath.mpf(str(decimal_number)) / mpmath_number - 1))


def exactly(x: Sequence[float] | np.ndarray) -> list[decimal.Decimal]:
    """Floats as decimals, exactly."""
    return [decimal.Decimal(float(t)) for t in np.asarray(x, np.float64)]


@precise
def gradient(function: Callable[[list[Any]], Any], x: Any) -> np.ndarray:
    """First derivatives alone, as :func:`derivatives` takes them."""
    x = exactly(x)
    sides = []
    for i in range(len(x)):
        up, down = list(x), list(x)
        up[i] += STEP
        down[i] -= STEP
        sides.append((function(up) - function(down)) / (2 * STEP))
    return np.array(sides, float)


@precise
def derivatives(
    function: Callable[[list[Any]], Any], x: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, gradient and Hessian (as floats) of a function of decimals, scalar- or array-valued.

    Central differences with a step of 1e-25 in 100 digits: the error is near 1e-45.
    Trailing axes of the result are those of the parameters.
    """
    x = exactly(x)
    m = len(x)

    def shifted(*moves: tuple[int, int]) -> np.ndarray:
        moved = list(x)
        for i, sign in moves:
            moved[i] += sign * STEP
        return np.asarray(function(moved), object)

    value = shifted()
    up = [shifted((i, 1)) for i in range(m)]
    down = [shifted((i, -1)) for i in range(m)]
    first = np.empty((*value.shape, m), object)
    second = np.empty((*value.shape, m, m), object)
    for i in range(m):
        first[..., i] = (up[i] - down[i]) / (2 * STEP)
        second[..., i, i] = (up[i] - 2 * value + down[i]) / STEP**2
        for j in range(i):
            # f(x + i + j) + f(x - i - j) - (f's along i and along j) + 2 f
            both = shifted((i, 1), (j, 1)) + shifted((i, -1), (j, -1))
            both = both - up[i] - down[i] - up[j] - down[j] + 2 * value
            second[..., i, j] = second[..., j, i] = both / (2 * STEP**2)
    return value.astype(float), first.astype(float), second.astype(float)
