"""Coefficients that the rows of a replicate do not determine, as where an arm is missing; NumPy.

A combination ``L beta`` is determined by rows X where L is a combination of X's rows, that is where
it vanishes on all b with ``X b = 0`` (Searle 1971, Linear Models, section 5.4). Columns that
depend on others can be left out without changing the fit, the determined coefficients among those
left keep their meaning, and the others are of another parameter: they have no value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.checks import independent_columns
from lmmjax.errors import RankWarning, warn
from lmmjax.estimate import Estimate
from lmmjax.inference.satterthwaite import FixedInference

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.inference.kenward_roger import KenwardRoger
    from lmmjax.likelihood.crossproducts import Prepared

#: Smallest eigenvalue of the rows' Gram matrix on the basis of all rows that is beyond doubt.
SURE = 1e-8
#: Part of a column in a combination of others, relative to their lengths, that counts.
PART = 1e-7
#: Rows times replicates that are multiplied at once.
CELLS_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class Share:
    """Replicates whose rows determine the same coefficients.

    Attributes
    ----------
    fits : ndarray of int
        Their numbers.
    kept : ndarray of int
        Columns of X that are fitted.
    known : ndarray of bool, shape (p,)
        Which coefficients are determined; all of them are kept.
    """

    fits: np.ndarray
    kept: np.ndarray
    known: np.ndarray

    @property
    def is_whole(self) -> bool:
        """Whether all coefficients are determined."""
        return bool(self.known.all())


def shares_of(design: Design, prepared: Prepared, present: np.ndarray) -> list[Share]:
    """Replicates by the coefficients that their rows, shape (replicates, n), determine."""
    q = np.asarray(prepared.basis.q)
    p, step = q.shape[1], max(1, CELLS_AT_ONCE // len(q))
    products = (q[:, :, None] * q[:, None, :]).reshape(len(q), p * p)
    doubtful: list[int] = []
    for at in range(0, len(present) if p else 0, step):
        grams = (present[at : at + step].astype(float) @ products).reshape(-1, p, p)
        doubtful += (at + np.flatnonzero(np.linalg.eigvalsh(grams)[:, 0] < SURE)).tolist()
    found: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    owners: dict[bytes, list[int]] = {}
    for fit in doubtful:
        kept, known = _determined(design.X[present[fit]], design.x_names[:1] == ("(Intercept)",))
        if not known.all():
            name = kept.tobytes() + b"|" + known.tobytes()
            found[name] = kept, known
            owners.setdefault(name, []).append(fit)
    gaps = {fit for own in owners.values() for fit in own}
    whole = np.array([fit for fit in range(len(present)) if fit not in gaps], np.int64)
    out = [Share(whole, np.arange(p), np.ones(p, bool))] if whole.size else []
    return out + [Share(np.array(owners[name]), *found[name]) for name in found]


def _determined(X: np.ndarray, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
    """Columns of X that the others do not give, and which coefficients are determined."""
    kept = independent_columns(X, 0 if intercept else None)
    known = np.zeros(X.shape[1], bool)
    known[kept] = True
    rest = np.flatnonzero(~known)
    size = np.linalg.norm(X, axis=0)
    unit = X / np.where(size > 0, size, 1.0)
    parts = np.linalg.lstsq(unit[:, kept], unit[:, rest], rcond=None)[0]
    known[kept[np.abs(parts).max(axis=1, initial=0.0) > PART]] = False
    return kept, known


def widened(estimate: Estimate, share: Share) -> Estimate:
    """Estimates of the columns kept as those of all columns: NaN where there is no value."""
    fixed, known = estimate.fixed, share.known
    p, kept = known.size, share.kept

    def columns(x: Any, fill: float) -> np.ndarray:
        out = np.full((*x.shape[:-1], p), fill)
        out[..., kept] = x
        out[..., ~known] = fill
        return out

    vcov = np.swapaxes(columns(np.swapaxes(columns(fixed.vcov, np.nan), -1, -2), np.nan), -1, -2)
    wide = fixed._replace(
        beta=columns(fixed.beta, np.nan),
        vcov=vcov,
        # On the rows' own basis, of which there are fewer directions.
        root=columns(_padded(fixed.root, p, (-2,)), np.nan),
        inner=_padded(fixed.inner, p, (-2, -1)),
    )
    return estimate._replace(fixed=wide, df=columns(estimate.df, np.nan))


def widened_adjustment(kr: KenwardRoger, share: Share) -> KenwardRoger:
    """The same of Kenward and Roger's adjustment."""
    p = share.known.size
    back = np.full((len(kr.back), p, p), np.nan)
    back[:, share.kept] = _padded(kr.back, p, (-1,))
    back[:, ~share.known] = np.nan
    square = {
        name: _padded(getattr(kr, name), p, (-2, -1))
        for name in ("phi", "phi_adjusted", "sandwich")
    }
    return replace(kr, back=back, **square)


def _padded(x: Any, size: int, axes: tuple[int, ...]) -> np.ndarray:
    """Zeros added at the end of some axes."""
    width = [(0, 0)] * x.ndim
    for axis in axes:
        width[axis] = (0, size - x.shape[axis])
    return np.pad(x, width)


def touched(L: np.ndarray, beta: Any) -> np.ndarray:
    """Whether contrasts, shape (q, p), ask for a coefficient without a value; (fits, q)."""
    return np.asarray(np.isnan(beta)) @ (L != 0).T


def coefficients_for(L: np.ndarray, fixed: FixedInference) -> FixedInference:
    """Zeros for coefficients without a value, where none of the contrasts has a part of them.

    Where one has, what stands there is of no use, but can be computed with.
    """
    bad = np.any(touched(L, fixed.beta), axis=1, keepdims=True)[:, None]
    root = np.where(bad, np.eye(L.shape[1]), np.nan_to_num(fixed.root, nan=0.0))
    return fixed._replace(beta=np.nan_to_num(fixed.beta, nan=0.0), root=root)


def adjustment_for(L: np.ndarray, beta: np.ndarray, kr: KenwardRoger) -> KenwardRoger:
    """The same of Kenward and Roger's adjustment; NaN where it is of no use."""
    bad = np.any(touched(L, beta), axis=1, keepdims=True)[:, None]
    return replace(kr, back=np.where(bad, np.nan, np.nan_to_num(kr.back, nan=0.0)))


def warn_of_gaps(names: tuple[str, ...], shares: list[Share], count: int) -> None:
    """Say, once, which coefficients have no value in how many replicates."""
    missing = np.sum([share.fits.size * ~share.known for share in shares], axis=0)
    fits = sum(share.fits.size for share in shares if not share.is_whole)
    which = ", ".join(f"{names[j]!r} in {missing[j]}" for j in np.flatnonzero(missing))
    warn(
        f"the rows of {fits} of {count} responses do not determine all coefficients, as where "
        f"every value of a group is missing: {which}. They are NaN there, and count as no test",
        RankWarning,
    )
