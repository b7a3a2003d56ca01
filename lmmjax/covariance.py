"""Covariance structures of random effects: theta <-> relative Cholesky factor.

A random-effects term has coefficients ``b ~ N(0, sigma**2 Lambda Lambda')``. A *structure* says
how the ``k x k`` lower-triangular factor ``Lambda`` is made from its parameters ``theta``. To
write your own, subclass :class:`Covariance` and give ``n_theta``, ``factor``, ``start`` and
``theta_names``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lmmjax import structure_pytree
from lmmjax.errors import LmmError
from lmmjax.precision import double_precision

Equivariance = Literal["affine", "diagonal", "none"]

#: What JAX raises where a function asks for values that a trace does not have.
UNTRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


@dataclass(frozen=True, eq=False)
class Covariance:
    """Base of all structures: a ``size x size`` relative covariance ``Lambda Lambda'``.

    Parameters
    ----------
    size : int
        Number of coefficients per level, ``k``.

    Notes
    -----
    ``equivariance`` says which changes of the term's columns the family absorbs: ``"affine"`` any
    invertible one, ``"diagonal"`` a rescaling of each column, ``"none"`` neither. The fit uses it
    to standardise columns (centring, scaling) without changing the model.

    Every structure is a pytree, without being registered: arrays that it holds, as a known
    relationship matrix, are leaves (so that ``factor`` is to use them by ``jax.numpy``), and all
    else is configuration, which must be hashable. Fits of structures that differ only in their
    arrays share what is compiled.

    Examples
    --------
    A structure of your own, in which the second standard deviation is half of the first:

    >>> @dataclass(frozen=True)
    ... class Halved(Covariance):
    ...     n_theta = 1
    ...
    ...     def factor(self, theta):
    ...         return theta[0] * jnp.diag(jnp.array([1.0, 0.5], theta.dtype))
    ...
    ...     def start(self):
    ...         return np.ones(1)
    ...
    ...     def theta_names(self, columns):
    ...         return [columns[0]]
    >>> Halved(2).factor(jnp.array([4.0])).tolist()
    [[4.0, 0.0], [0.0, 2.0]]

    One with data of its own, a known covariance up to a scale:

    >>> class Known(Covariance):
    ...     n_theta = 1
    ...
    ...     def __init__(self, K):
    ...         super().__init__(len(K))
    ...         self.root = np.linalg.cholesky(K)
    ...
    ...     def factor(self, theta):
    ...         return theta[0] * self.root
    ...
    ...     def start(self):
    ...         return np.ones(1)
    ...
    ...     def theta_names(self, columns):
    ...         return ["scale"]
    >>> Known(np.diag([4.0, 1.0])).factor(jnp.array([3.0])).tolist()
    [[6.0, 0.0], [0.0, 3.0]]
    """

    size: int
    equivariance: ClassVar[Equivariance] = "none"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        structure_pytree.register(cls)
        # Those that a dataclass makes would ask arrays for one truth value, or not look at all.
        for name in ("__eq__", "__hash__"):
            if name not in cls.__dict__:
                setattr(cls, name, Covariance.__dict__[name])

    def __eq__(self, other: object) -> bool:
        return structure_pytree.alike(self, other)

    def __hash__(self) -> int:
        return structure_pytree.fingerprint(self)

    def __getstate__(self) -> dict[str, Any]:
        return structure_pytree.attributes(self)

    @property
    def n_theta(self) -> int:
        """Number of parameters."""
        raise NotImplementedError

    def factor(self, theta: Array) -> Array:
        """Lower-triangular ``Lambda``, shape ``(k, k)``, of ``theta``, shape ``(n_theta,)``."""
        raise NotImplementedError

    def start(self) -> np.ndarray:
        """Starting ``theta`` for columns of unit scale."""
        raise NotImplementedError

    def theta_names(self, columns: Sequence[str]) -> list[str]:
        """One name per parameter, given the names of the ``k`` columns."""
        raise NotImplementedError

    def from_factor(self, factor: np.ndarray) -> np.ndarray:
        """``theta`` whose relative covariance is ``factor @ factor.T`` (needed unless "none").

        It is asked for with any square root of a covariance of the family, triangular or not.
        """
        raise NotImplementedError

    def search_form(self) -> Covariance:
        """The same family, in the parameters that a minimiser works in."""
        return self


@dataclass(frozen=True)
class Unstructured(Covariance):
    """All variances and correlations free: theta is ``Lambda``'s lower triangle, column by column.

    This is lme4's parameterisation (Bates et al. 2015, J. Stat. Softw. 67(1), section 2.2).

    Examples
    --------
    >>> Unstructured(2).theta_names(["(Intercept)", "Days"])
    ['(Intercept)', 'Days.(Intercept)', 'Days']
    """

    equivariance: ClassVar[Equivariance] = "affine"
    symmetric: ClassVar[bool] = False

    @property
    def n_theta(self) -> int:
        return self.size * (self.size + 1) // 2

    def _positions(self) -> tuple[np.ndarray, np.ndarray]:
        col, row = np.triu_indices(self.size)
        return row, col

    def factor(self, theta: Array) -> Array:
        # Stacked entry by entry: XLA sees through it, and small fits stay one kernel.
        zero = jnp.zeros((), theta.dtype)
        rows = [[zero] * self.size for _ in range(self.size)]
        for at, (i, j) in enumerate(zip(*self._positions(), strict=True)):
            rows[i][j] = theta[at]
            if self.symmetric:
                rows[j][i] = theta[at]
        return jnp.stack([jnp.stack(row) for row in rows])

    def start(self) -> np.ndarray:
        row, col = self._positions()
        return np.where(row == col, 1.0, 0.0)

    def theta_names(self, columns: Sequence[str]) -> list[str]:
        row, col = self._positions()
        return [
            columns[int(i)] if i == j else f"{columns[i]}.{columns[j]}"
            for i, j in zip(row, col, strict=True)
        ]

    def from_factor(self, factor: np.ndarray) -> np.ndarray:
        lower = canonical_factor(factor)
        row, col = self._positions()
        return lower[row, col]

    def search_form(self) -> Covariance:
        return self if self.size == 1 else SymmetricRoot(self.size)


@dataclass(frozen=True)
class SymmetricRoot(Unstructured):
    """All variances and correlations free: theta is the triangle of a symmetric square root.

    The family of :class:`Unstructured`, in coordinates for searching. A Cholesky factor with a
    zero pivot has a valley that curves (its row can be rotated without changing the covariance),
    along which a Newton method creeps; a symmetric root has none, only the natural boundary at an
    eigenvalue of zero.

    Examples
    --------
    >>> SymmetricRoot(2).factor(jnp.array([2.0, 1.0, 3.0])).tolist()
    [[2.0, 1.0], [1.0, 3.0]]
    """

    symmetric: ClassVar[bool] = True

    def from_factor(self, factor: np.ndarray) -> np.ndarray:
        # Of a stack of factors too: it is asked for thousands.
        left, values, _ = np.linalg.svd(np.asarray(factor, np.float64))
        row, col = self._positions()
        return ((left * values[..., None, :]) @ np.swapaxes(left, -1, -2))[..., row, col]

    def search_form(self) -> Covariance:
        return self


@dataclass(frozen=True)
class Diagonal(Covariance):
    """Independent coefficients, one standard deviation each (``||`` in a formula).

    Examples
    --------
    >>> Diagonal(2).factor(jnp.array([2.0, 3.0])).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """

    equivariance: ClassVar[Equivariance] = "diagonal"

    @property
    def n_theta(self) -> int:
        return self.size

    def factor(self, theta: Array) -> Array:
        return jnp.diag(theta)

    def start(self) -> np.ndarray:
        return np.ones(self.size)

    def theta_names(self, columns: Sequence[str]) -> list[str]:
        return list(columns)

    def from_factor(self, factor: np.ndarray) -> np.ndarray:
        return np.abs(np.diagonal(factor)).copy()


@dataclass(frozen=True)
class Identity(Covariance):
    """Independent coefficients with one common standard deviation.

    Examples
    --------
    >>> Identity(2).factor(jnp.array([2.0])).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """

    @property
    def n_theta(self) -> int:
        return 1

    def factor(self, theta: Array) -> Array:
        return theta[0] * jnp.eye(self.size, dtype=theta.dtype)

    def start(self) -> np.ndarray:
        return np.ones(1)

    def theta_names(self, columns: Sequence[str]) -> list[str]:
        return ["common"]


@dataclass(frozen=True)
class CompoundSymmetry(Covariance):
    """One standard deviation, one correlation.

    ``theta = (s, z)``: relative covariance ``s**2 ((1 - r) I + r 1 1')`` with
    ``r = lo + (1 - lo) / (1 + exp(-z))`` and ``lo = -1 / (k - 1)``, so every ``z`` gives a valid
    matrix (Pinheiro & Bates 2000, section 5.3.1, for the structure).

    Examples
    --------
    >>> L = CompoundSymmetry(3).factor(jnp.array([2.0, 0.0]))  # z = 0: r = 1/4
    >>> (L @ L.T).round(4).tolist()
    [[4.0, 1.0, 1.0], [1.0, 4.0, 1.0], [1.0, 1.0, 4.0]]
    """

    @property
    def n_theta(self) -> int:
        return 2 if self.size > 1 else 1

    def correlation(self, theta: Array) -> Array:
        """The common correlation ``r``."""
        lowest = -1.0 / max(self.size - 1, 1)
        return lowest + (1.0 - lowest) / (1.0 + jnp.exp(-theta[1]))

    def factor(self, theta: Array) -> Array:
        if self.size == 1:
            return theta[0] * jnp.ones((1, 1), theta.dtype)
        r = self.correlation(theta)
        eye = jnp.eye(self.size, dtype=theta.dtype)
        return theta[0] * jnp.linalg.cholesky((1.0 - r) * eye + r)

    def start(self) -> np.ndarray:
        # z with r = 0.
        return np.array([1.0, -np.log(self.size - 1.0)]) if self.size > 1 else np.ones(1)

    def theta_names(self, columns: Sequence[str]) -> list[str]:
        return ["sd", "logit.corr"][: self.n_theta]


@dataclass(frozen=True)
class AR1(Covariance):
    """First-order autoregression over the term's columns, taken in their order and evenly spaced.

    ``theta = (s, z)``: relative covariance ``s**2 r**|i - j|`` with ``r = tanh(z)`` (Pinheiro &
    Bates 2000, section 5.3.1, for the structure).

    Examples
    --------
    >>> L = AR1(3).factor(jnp.array([1.0, jnp.arctanh(0.5)]))
    >>> (L @ L.T).round(4).tolist()
    [[1.0, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 1.0]]
    """

    @property
    def n_theta(self) -> int:
        return 2

    def factor(self, theta: Array) -> Array:
        # Cholesky factor of an AR(1) correlation in closed form: its first column is r**i, the
        # others are sqrt(1 - r**2) r**(i - j).
        r = jnp.tanh(theta[1])
        lag = np.arange(self.size)[:, None] - np.arange(self.size)[None, :]
        # Powers by products: r ** lag with a float r has no derivative at r = 0.
        powers = jnp.cumprod(
            jnp.concatenate([jnp.ones(1, theta.dtype), jnp.full(self.size - 1, r)])
        )
        lower = jnp.where(lag >= 0, powers[np.maximum(lag, 0)], 0.0)
        later = jnp.asarray(np.arange(self.size) > 0)
        return theta[0] * lower * jnp.where(later, jnp.sqrt((1.0 - r) * (1.0 + r)), 1.0)[None, :]

    def start(self) -> np.ndarray:
        return np.array([1.0, 0.0])

    def theta_names(self, columns: Sequence[str]) -> list[str]:
        return ["sd", "atanh.corr"]


def relative_factor(structure: Covariance, theta: Array) -> Array:
    """``Lambda`` of a structure, shape (k, k), whoever wrote it.

    Raises
    ------
    LmmError
        Its ``factor`` cannot be traced, or gives something else than a k x k matrix.
    """
    name = type(structure).__name__
    try:
        factor = structure.factor(theta)
    except UNTRACEABLE as error:
        raise LmmError(
            f"{name}.factor cannot be traced by JAX: its arguments and the arrays that the "
            "structure holds have no values while it is compiled. Write it with jax.numpy, without "
            "branches on values, and do with NumPy what is to be done once in __init__"
        ) from error
    size = structure.size
    if jnp.shape(factor) != (size, size):
        raise LmmError(
            f"{name}.factor returned shape {jnp.shape(factor)}; a structure of size {size} needs "
            f"a matrix of shape ({size}, {size})"
        )
    return factor


def relative_covariance(structure: Covariance, theta: Array) -> Array:
    """``Lambda Lambda'`` of a structure, shape (k, k)."""
    factor = relative_factor(structure, theta)
    return factor @ factor.T


def check_structure(structure: Covariance) -> None:
    """Raise unless a structure that a user wrote is what it says to be.

    One that says to absorb changes of its columns is searched in others than the data's, and its
    parameters are found again by ``from_factor``: if that were not so, all of them would be wrong.

    Raises
    ------
    LmmError
        Naming the structure, and what it lacks.
    """
    if type(structure).__module__ == __name__:
        return
    name, k = type(structure).__name__, structure.size
    try:
        start = np.asarray(structure.start(), np.float64)
        count = structure.n_theta
    except NotImplementedError as error:
        raise LmmError(
            f"{name} does not define all of n_theta, factor, start and theta_names, which a "
            "covariance structure needs"
        ) from error
    if start.shape != (count,):
        raise LmmError(
            f"{name}.start returned shape {start.shape}; its n_theta of {count} needs an array of "
            f"shape ({count},)"
        )
    wave = np.cos(np.arange(1, k * k + count + 1))
    point = start + 0.1 * wave[:count]
    with double_precision():
        root = np.asarray(relative_factor(structure, jnp.asarray(point)))
        if structure.equivariance == "none":
            return
        mixed = np.eye(k) + 0.3 * wave[count:].reshape(k, k)
        change = mixed if structure.equivariance == "affine" else np.diag(np.diagonal(mixed))
        wanted = change @ root
        promise = (
            f"says that it absorbs changes of its columns (equivariance {structure.equivariance!r})"
        )
        for form in {type(s): s for s in (structure, structure.search_form())}.values():
            name = type(form).__name__
            try:
                theta = jnp.asarray(form.from_factor(wanted), jnp.float64)
            except NotImplementedError as error:
                raise LmmError(
                    f"{name} {promise} and so needs from_factor, from a square root of its "
                    "covariance to theta: define it, or set equivariance = 'none'"
                ) from error
            given, truth = np.asarray(relative_covariance(form, theta)), wanted @ wanted.T
            if not np.allclose(given, truth, rtol=1e-8, atol=1e-8 * np.abs(truth).max()):
                raise LmmError(
                    f"{name} {promise}, but factor(from_factor(root)) has another covariance than "
                    "root @ root.T: correct from_factor, or set equivariance = 'none'"
                )


def qr_triangle(matrix: np.ndarray) -> np.ndarray:
    """``R`` of ``matrix = Q R``, shape (min(m, n), n)."""
    # The conversion is for NumPy's type stubs, which promise Q and R in every mode.
    return np.asarray(np.linalg.qr(matrix, mode="r"))


def canonical_factor(factor: np.ndarray) -> np.ndarray:
    """Lower-triangular ``L`` with non-negative diagonal and ``L @ L.T == factor @ factor.T``.

    By QR of the transpose, so a singular factor keeps its accuracy (squaring it would not).
    """
    factor = np.asarray(factor, np.float64)
    lower = qr_triangle(factor.T).T
    # A zero pivot leaves its column's content free; push it right so that the form is unique.
    for j in range(lower.shape[0] - 1):
        if abs(lower[j, j]) <= 1e-12 * np.abs(lower).max(initial=0.0) and np.any(lower[j + 1 :, j]):
            rest = lower[j + 1 :, j:].copy()
            lower[j:, j] = 0.0
            lower[j + 1 :, j + 1 :] = qr_triangle(rest.T)[: rest.shape[0]].T
    sign = np.where(np.diagonal(lower) < 0, -1.0, 1.0)
    return lower * sign[None, :]


def block_diagonal(blocks: Sequence[Any]) -> Array:
    """Block-diagonal matrix of square blocks (a term's bars make one ``Lambda``)."""
    if len(blocks) == 1:
        return blocks[0]
    size = sum(b.shape[0] for b in blocks)
    rows, at = [], 0
    for b in blocks:
        k = b.shape[0]
        rows.append(jnp.pad(b, ((0, 0), (at, size - at - k))))
        at += k
    return jnp.concatenate(rows)
