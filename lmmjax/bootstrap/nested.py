"""Whether one model is a special case of another, as a likelihood-ratio test supposes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from lmmjax.checks import spanned
from lmmjax.covariance import (
    AR1,
    CompoundSymmetry,
    Covariance,
    Diagonal,
    Identity,
    SymmetricRoot,
    Unstructured,
)
from lmmjax.errors import DataError, LmmError
from lmmjax.likelihood.plan import is_nested
from lmmjax.likelihood.segments import group_gram
from lmmjax.precision import double_precision

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.likelihood.crossproducts import Prepared
    from lmmjax.result import LinearMixedModelResult

#: Size of a direction, relative to the largest, below which columns do not have it.
DEPENDENT = 1e-7
#: Part of a covariance that another has not, relative to it, below which they are alike.
ALIKE = 1e-5
#: Structures whose matrices can be told; of others only one and the same is known to be nested.
KNOWN = (Unstructured, SymmetricRoot, Identity, CompoundSymmetry, AR1)


class Bar(NamedTuple):
    """One covariance block of a model.

    Attributes
    ----------
    group : str
    index : ndarray of int, shape (n,)
    names : tuple of str
    columns : ndarray, shape (n, k)
    structure : Covariance
    """

    group: str
    index: np.ndarray
    names: tuple[str, ...]
    columns: np.ndarray
    structure: Covariance

    @property
    def label(self) -> str:
        """As a formula has it, nearly."""
        return f"({' + '.join(self.names)} | {self.group})"

    def columnwise(self) -> list[Bar]:
        """One for each column, each with a variance of its own."""
        return [
            self._replace(names=(name,), columns=column[:, None], structure=Unstructured(1))
            for name, column in zip(self.names, self.columns.T, strict=True)
        ]


def check_nested(large: LinearMixedModelResult, small: LinearMixedModelResult) -> None:
    """Raise unless `small` is `large` with some parameters fixed, on the same rows.

    Raises
    ------
    DataError
        Responses, rows, weights or offsets differ.
    LmmError
        A fixed effect or a random one of `small` is not in `large`.
    """
    a, b = large.design, small.design
    if a.y.shape != b.y.shape or not np.array_equal(a.y, b.y):
        raise DataError(
            f"the fits are of different responses or rows ({len(a.y)} and {len(b.y)}): rows with "
            "missing values are left out by the variables that a model uses; fit both to the same "
            "complete rows"
        )
    check_nested_designs((a, large.raw.prepared), (b, small.raw.prepared))


def check_nested_designs(large: tuple[Design, Prepared], small: tuple[Design, Prepared]) -> int:
    """Raise unless one model is another with some parameters fixed, whatever the response.

    Parameters
    ----------
    large, small : (Design, Prepared)
        Of the same number of rows.

    Returns
    -------
    int
        How many variances of the large model the small one has at zero, their boundary: 0 where
        all that is fixed can lie on either side of its value.

    Raises
    ------
    DataError
        Weights or offsets differ.
    LmmError
        A fixed effect or a random one of `small` is not in `large`.
    """
    (a, above), (b, below) = large, small
    for name in ("weights", "offset"):
        if not np.array_equal(getattr(a, name), getattr(b, name)):
            raise DataError(f"the fits have different {name}: fit both with the same")
    more, less = (d.X.shape[1] + p.n_theta + 1 for d, p in (large, small))
    if more <= less:
        remedy = "a test needs one with more" if more == less else ""
        raise LmmError(
            f"the large model has {more} parameters and the small one {less}: "
            f"{remedy or 'give the larger one first'}"
        )
    outside = ~spanned(b.X, a.X)
    if outside.any():
        names = ", ".join(repr(name) for name, out in zip(b.x_names, outside, strict=True) if out)
        raise LmmError(
            f"the models are not nested: of the small model's fixed effects {names} cannot be "
            "written with those of the large one; the small model must be the large one with terms "
            "left out"
        )
    bars = _bars(a, above)
    shares = [np.zeros((bar.structure.size, bar.structure.size)) for bar in bars]
    for bar in _bars(b, below):
        found = _among(bar, bars)
        if found is None:
            has = ", ".join(other.label for other in bars)
            raise LmmError(
                f"the models are not nested: the small model's random effects {bar.label} are no "
                f"special case of the large one's {has}"
            )
        for i, V in found:
            shares[i] = shares[i] + V
    return sum(_at_zero(bar.structure, V) for bar, V in zip(bars, shares, strict=True))


def _bars(design: Design, prepared: Prepared) -> list[Bar]:
    """The covariance blocks; independent columns are blocks of their own."""
    out = []
    for term, structures in zip(design.terms, prepared.structures, strict=True):
        at = 0
        for structure in structures:
            own = slice(at, at + structure.size)
            at += structure.size
            bar = Bar(term.group, term.index, term.columns[own], term.Z[:, own], structure)
            out += bar.columnwise() if type(structure) is Diagonal else [bar]
    return out


def _among(bar: Bar, bars: list[Bar]) -> list[tuple[int, np.ndarray]] | None:
    """The bars of the large model that a small one's is a special case of, and what it is there."""
    for i, other in enumerate(bars):
        V = _as_special_case(other, bar)
        if V is not None:
            return [(i, V)]
    # One variance for all columns is a special case of a variance for each.
    if type(bar.structure) is not Identity or bar.structure.size == 1:
        return None
    found = [_among(one, bars) for one in bar.columnwise()]
    if any(each is None for each in found):
        return None
    return [pair for each in found for pair in each or ()]


def _at_zero(structure: Covariance, V: np.ndarray) -> int:
    """Variances that are zero where a structure's covariance, in the large model, is V.

    Directions that V lacks; of a structure with a single variance there is one to lack, and of
    others what the boundary is like is not known, which 2 stands for.
    """
    k, size = len(V), np.sqrt(np.maximum(np.diagonal(V), 0.0))
    there = size > ALIKE * size.max(initial=0.0)
    scaled = V[np.ix_(there, there)] / np.outer(size[there], size[there])
    rank = np.count_nonzero(np.linalg.eigvalsh(scaled) > ALIKE) if there.any() else 0
    if rank == k:
        return 0
    if type(structure) in (Unstructured, SymmetricRoot):
        return int(k - rank)
    return 1 if type(structure) is Identity or rank else 2


def _as_special_case(large: Bar, small: Bar) -> np.ndarray | None:
    """The covariance of `large`'s columns that is some covariance of `small`; None if none is.

    What `small` gives a group's rows is a sum over its own levels in the group,
    ``sum_h Z_h S Z_h'``, with S any covariance of its structure: is there a covariance V of
    `large`'s structure with ``Z_j V Z_j'`` equal to it in all groups j? Found by least squares for
    one S that is nothing special, as equalities that hold there hold everywhere.
    """
    levels, groups = int(small.index.max()) + 1, int(large.index.max()) + 1
    if not is_nested(small.index, large.index):
        return None  # a level of `small` reaches over several groups, and correlates them
    if type(large.structure) not in KNOWN:
        alike = small.structure == large.structure and is_nested(large.index, small.index)
        alike = alike and np.allclose(small.columns, large.columns)
        return np.eye(large.structure.size) if alike else None
    # Z back = u, with orthonormal columns.
    length = np.linalg.norm(large.columns, axis=0)
    length[length == 0] = 1.0
    left, size, right = np.linalg.svd(large.columns / length, full_matrices=False)
    kept = size > DEPENDENT * size.max(initial=0.0)
    u, back = left[:, kept], (right[kept] / size[kept, None]).T / length[:, None]
    k = u.shape[1]
    own = small.columns @ _some_root(small.structure)
    gram = group_gram(u, u, large.index, groups).reshape(k * k, groups)
    cross = group_gram(u, own, small.index, levels)
    inner = group_gram(own, own, small.index, levels)
    # Normal equations of min sum_j |u_j V u_j' - sum_h own_h own_h'|^2: sum_j G_j V G_j = wanted.
    products = (gram @ gram.T).reshape(k, k, k, k).transpose(0, 2, 1, 3).reshape(k * k, k * k)
    wanted = np.einsum("amh,bmh->ab", cross, cross)
    V = np.linalg.lstsq(products, wanted.ravel(), rcond=1e-10)[0].reshape(k, k)
    total = np.sum(inner**2)
    if total - np.sum(wanted * V) > ALIKE**2 * total:
        return None
    values = np.linalg.eigvalsh(V)
    whole = back @ V @ back.T
    possible = values[0] >= -ALIKE * values[-1] and _in_family(large.structure, whole)
    return whole if possible else None


def _some_root(structure: Covariance) -> np.ndarray:
    """A square root of a covariance that has no more regularity than the structure gives it."""
    theta = structure.start() + 0.3 * np.random.default_rng(0).standard_normal(structure.n_theta)
    with double_precision():
        return np.asarray(structure.factor(jnp.asarray(theta)))


def _in_family(structure: Covariance, V: np.ndarray) -> bool:
    """Whether a matrix that is a covariance is one of a structure's."""
    k, scale = structure.size, np.trace(V) / structure.size
    if type(structure) in (Unstructured, SymmetricRoot) or k == 1:
        return True
    lag = np.abs(np.subtract.outer(np.arange(k), np.arange(k)))
    if type(structure) is Identity:
        alike = np.where(lag == 0, scale, 0.0)
    elif type(structure) is CompoundSymmetry:
        alike = np.where(lag == 0, scale, (V.sum() - np.trace(V)) / (k * (k - 1)))
    else:
        alike = scale * (V[0, 1] / scale) ** lag
    return bool(np.allclose(V, alike, rtol=0, atol=ALIKE * scale))
