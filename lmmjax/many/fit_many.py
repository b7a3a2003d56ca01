"""`fit_many()`: one design, many responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from lmmjax.arguments import is_reml
from lmmjax.errors import DataError, LmmError
from lmmjax.estimate import Estimate
from lmmjax.fitting import fit_best, prepare_design
from lmmjax.inference.identified import warn_undetermined
from lmmjax.keywords import known_keywords
from lmmjax.likelihood.crossproducts import Prepared, cross_products
from lmmjax.likelihood.preparation import analyse
from lmmjax.many.determined import shares_of, warn_of_gaps, widened
from lmmjax.many.engine import is_elementwise
from lmmjax.many.fits import ManyFits
from lmmjax.many.runner import fit_chunks
from lmmjax.many.sources import response_source

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from lmmjax.design import Design
    from lmmjax.result import LinearMixedModelResult


@known_keywords
def fit_many(
    model: Design | LinearMixedModelResult,
    Y: Any,
    *,
    method: Literal["REML", "ML"] | None = None,
    lanes: int | None = None,
    workers: int | None = None,
    mesh: Mesh | None = None,
) -> ManyFits:
    """Fit one model to many responses.

    Parameters
    ----------
    model : Design or LinearMixedModelResult
        The design that the responses share: from :func:`lmmjax.build_design`,
        ``lj.Design.from_formula``, or of a fit (with its covariance structures and method).
    Y : array, shape (replicates, n)
        A response in each row. NaN stands for one that is missing: that replicate is fitted without
        the row, so dropout may differ between replicates. A coefficient that the rows left do not
        determine is NaN in that replicate; those that they determine are estimated.
    method : {"REML", "ML"}, optional
        By default that of the fit, or REML.
    lanes : int, optional
        Fits in a batch. The results do not depend on it; memory does.
    workers : int, optional
        Batches at a time; by default one for each processor.
    mesh : jax.sharding.Mesh, optional
        Devices of this process to split every batch over.

    Returns
    -------
    ManyFits
        Estimates, standard errors, degrees of freedom, p values, status of each.

    Raises
    ------
    DataError
        `Y` does not have the design's rows, or holds infinite values, or one without variance.
    LmmError
        The method is neither "REML" nor "ML".

    Warns
    -----
    RankWarning
        The rows of some replicates do not determine all coefficients.

    Warns
    -----
    DesignWarning
        The design does not determine some variance, whatever the responses.

    Notes
    -----
    Only ``Z'y``, ``X'y`` and ``y'y`` differ between the fits, and groups whose design rows are
    alike count once: on a balanced design a fit costs the same for 50 groups and for 5,000.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> many = lj.fit_many(fit, fit.simulate(20, key=1))
    >>> many.beta.shape, many.converged.all()
    ((20, 2), np.True_)
    """
    design, prepared, reml = resolve(model, method)
    if not hasattr(model, "raw"):  # a fit has said so itself
        warn_undetermined(design, prepared)
    Y = checked_responses(Y, design.X.shape[0])
    missing = np.isnan(Y)
    batches = {"lanes": lanes, "workers": workers, "mesh": mesh}
    if not missing.any():
        return ManyFits(design, prepared, reml, fit_rows(prepared, Y, reml, **batches))
    present = ~missing
    shares = shares_of(design, prepared, present)
    if all(share.is_whole for share in shares):
        return ManyFits(design, prepared, reml, fit_rows(prepared, Y, reml, **batches), present)
    warn_of_gaps(tuple(design.x_names), shares, len(Y))
    parts = []
    for share in shares:
        some = prepared if share.is_whole else columns_kept(prepared, share.kept)
        found = fit_rows(some, Y[share.fits], reml, **batches)
        parts.append(widened(found, share))
    order = np.argsort(np.concatenate([share.fits for share in shares]))
    whole = jax.tree.map(lambda *xs: np.concatenate(xs)[order], *parts)
    return ManyFits(design, prepared, reml, whole, present)


def fit_rows(prepared: Prepared, Y: np.ndarray, reml: bool, **batches: Any) -> Estimate:
    """Fit responses, shape (replicates, n), each without the rows in which it is NaN."""
    shared = cross_products(prepared, np.where(np.isnan(Y[0]), 0.0, Y[0]))
    if np.isnan(Y).any() and not is_elementwise(shared):
        parts = [fit_present(prepared, y, reml) for y in Y]
        return jax.tree.map(lambda *xs: np.stack(xs), *parts)
    source = response_source(prepared, Y)
    chunks = fit_chunks(prepared, shared, source, len(Y), reml=reml, **batches)
    return jax.tree.map(lambda *xs: np.concatenate(xs), *(chunk.estimate for chunk in chunks))


def fit_present(prepared: Prepared, y: np.ndarray, reml: bool) -> Estimate:
    """Fit the rows whose response is not NaN, for designs that do not run in batches."""
    present = ~np.isnan(y)
    smaller = rows_present(prepared, present)
    data = cross_products(smaller, np.where(present, y, 0.0))
    found = fit_best(smaller, data, reml=reml)
    return found._replace(factors=change_columns(found.factors, smaller, prepared))


def rows_present(prepared: Prepared, present: np.ndarray) -> Prepared:
    """The design prepared anew for some of its rows.

    All arrays keep their shapes, absent rows weigh nothing, and what was compiled serves all
    replicates.
    """
    return _prepared_again(prepared, present, np.arange(prepared.basis.factor.shape[1]))


def columns_kept(prepared: Prepared, kept: np.ndarray) -> Prepared:
    """The design prepared anew with some of its fixed effects' columns."""
    return _prepared_again(prepared, np.ones(prepared.root_weights.shape[0], bool), kept)


def _prepared_again(prepared: Prepared, present: np.ndarray, kept: np.ndarray) -> Prepared:
    root = np.asarray(prepared.root_weights)
    divisor = np.where(root > 0, root, 1.0)[:, None]
    factor, basis = np.asarray(prepared.basis.factor), np.asarray(prepared.basis.q)
    rows = [
        (np.asarray(z) @ t / divisor, np.asarray(index), count)
        for z, t, index, count in zip(
            prepared.term_rows,
            prepared.transforms,
            prepared.term_index,
            prepared.levels,
            strict=True,
        )
    ]
    return analyse(
        (basis @ factor / divisor)[:, kept],
        rows,
        prepared.structures,
        weights=np.where(present, root**2, 0.0),
        offset=prepared.offset,
    )


def change_columns(
    factors: Sequence[Any], given: Prepared, wanted: Prepared
) -> tuple[np.ndarray, ...]:
    """Square roots of the terms' covariances, in the standardised columns of another design."""
    return tuple(
        new @ np.linalg.solve(old, f)
        for new, old, f in zip(wanted.transforms, given.transforms, factors, strict=True)
    )


def resolve(
    model: Design | LinearMixedModelResult, method: str | None
) -> tuple[Design, Prepared, bool]:
    """The design of a model, ready for cross-products, and whether to fit by REML."""
    design, reml = design_and_method(model, method)
    return design, model.raw.prepared if hasattr(model, "raw") else prepare_design(design), reml  # type: ignore[union-attr]


def design_and_method(
    model: Design | LinearMixedModelResult, method: str | None
) -> tuple[Design, bool]:
    """The design of a model, and whether to fit by REML: as asked for, or as the fit was."""
    asked = None if method is None else is_reml(method)
    if hasattr(model, "raw"):  # a fit
        reml = model.raw.reml if asked is None else asked  # type: ignore[union-attr]
        return model.design, bool(reml)  # type: ignore[union-attr]
    if not hasattr(model, "terms"):
        raise LmmError(
            "the model must be a Design (lj.build_design, lj.Design.from_formula) or a fit, not "
            f"{type(model).__name__}"
        )
    return model, asked is not False  # type: ignore[return-value]


def checked_responses(Y: Any, n: int) -> np.ndarray:
    """Responses as an array of shape (replicates, n), finite or NaN."""
    Y = np.asarray(Y)
    if Y.dtype.kind not in "iuf":
        raise DataError(f"the responses must be numeric, not {Y.dtype}")
    if Y.ndim != 2 or Y.shape[1] != n or not len(Y):
        raise DataError(
            f"the responses have shape {Y.shape}; give one response a row, (replicates, {n})"
        )
    Y = np.asarray(Y, np.float64)
    infinite = np.isinf(Y).any(axis=1)
    if infinite.any():
        raise DataError(
            f"{np.count_nonzero(infinite)} of {len(Y)} responses hold infinite values, the first "
            f"of them in row {int(np.argmax(infinite))}"
        )
    missing = np.isnan(Y)
    low = np.min(Y, axis=1, initial=np.inf, where=~missing)
    high = np.max(Y, axis=1, initial=-np.inf, where=~missing)
    flat = np.flatnonzero(~(low < high))
    if flat.size:
        raise DataError(
            f"{flat.size} of {len(Y)} responses have no variance or no values, the first of them "
            f"in row {flat[0]}"
        )
    return Y
