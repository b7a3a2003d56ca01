"""`extend()`: a larger design from a pilot's, by more groups or more rows in each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.arguments import check_whole
from lmmjax.design import Design
from lmmjax.errors import LmmError, LmmWarning, warn
from lmmjax.keywords import known_keywords
from lmmjax.likelihood.plan import is_nested
from lmmjax.likelihood.preparation import default_structures

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult


@known_keywords
def extend(
    model: Design | LinearMixedModelResult,
    along: str | None = None,
    *,
    within: str | None = None,
    n: int,
) -> Design:
    """A design with more groups, or with more rows in each group.

    Parameters
    ----------
    model : Design or LinearMixedModelResult
        The pilot.
    along : str, optional
        Grouping factor that is to have `n` levels. The pilot's groups are recycled in their order,
        whole: a new group has the rows, and the predictors, of an old one.
    within : str, optional
        Grouping factor each level of which is to have `n` rows, its own recycled in their order.
    n : int
        How many groups, or rows a group. Fewer than the pilot has are fine.

    Returns
    -------
    Design
        Without a response, for :func:`lmmjax.power` with the pilot's
        ``lj.TrueParameters.from_fit(fit)``.

    Raises
    ------
    LmmError
        Not exactly one of `along` and `within` is given, the factor is unknown, a factor beside it
        is neither crossed with it nor nested in it, or the rows left do not tell all coefficients.

    Warns
    -----
    LmmWarning
        The fit has covariance structures of its own, which a design does not hold.

    Notes
    -----
    simr's ``extend`` (Green & MacLeod 2016, Methods Ecol. Evol. 7, 493-498).

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> larger = lj.extend(fit, along="Subject", n=40)
    >>> larger.X.shape, len(larger.terms[0].levels)
    ((400, 2), 40)
    >>> lj.extend(fit, within="Subject", n=20).X.shape
    (360, 2)
    """
    design: Design = model.design if hasattr(model, "raw") else model  # type: ignore
    if hasattr(model, "raw"):
        warn_of_structures(model)  # type: ignore[arg-type]
    if (along is None) == (within is None):
        raise LmmError("give either along= (more groups) or within= (more rows in each group)")
    name = along if along is not None else within
    groups = {term.group: term for term in design.terms}
    if name not in groups:
        raise LmmError(f"{name!r} is no grouping factor of the design: {', '.join(groups)}")
    check_count(n)
    term = groups[name]
    count = len(term.levels)
    order = np.argsort(term.index, kind="stable")
    members = np.split(order, np.searchsorted(term.index[order], np.arange(1, count)))
    if within is not None:
        rows = np.concatenate([np.resize(m, n) for m in members])
        return _take(design, rows, None, "")
    chosen = [members[j % count] for j in range(n)]
    copy = np.repeat(np.arange(n) // count, [len(m) for m in chosen])
    return _take(design, np.concatenate(chosen), copy, str(name))


def check_count(n: Any) -> None:
    """Refuse what is no number of groups, or of rows in each."""
    check_whole("a number of groups or rows", n, 2)


def _take(design: Design, rows: np.ndarray, copy: np.ndarray | None, along: str) -> Design:
    """The design's rows, with new levels in each copy for the factor and what is nested in it."""
    terms = []
    top = next((t for t in design.terms if t.group == along), None)
    for term in design.terms:
        index, levels = term.index[rows], term.levels
        if copy is not None and top is not None and is_nested(term.index, top.index):
            code = copy.astype(np.int64) * len(levels) + index
            present, index = np.unique(code, return_inverse=True)
            levels = tuple(
                levels[c % len(levels)] + (f"*{c // len(levels) + 1}" if c >= len(levels) else "")
                for c in present.tolist()
            )
        elif copy is None or top is None or not is_nested(top.index, term.index):
            present, index = np.unique(index, return_inverse=True)
            levels = tuple(levels[c] for c in present.tolist())
        else:
            raise LmmError(
                f"{term.group!r} holds levels of {along!r}: extend along {term.group!r} instead"
            )
        terms.append(replace(term, Z=term.Z[rows], index=index.astype(np.int32), levels=levels))
    terms.sort(key=lambda t: -len(t.levels))
    _check_rank(design.X, design.X[rows], design.x_names)
    return replace(
        design,
        y=np.full(rows.size, np.nan),
        X=design.X[rows],
        terms=tuple(terms),
        weights=design.weights[rows],
        offset=design.offset[rows],
        row_index=design.row_index[rows],
    )


def _check_rank(before: np.ndarray, after: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse rows that leave some coefficient without information."""
    # Scaled to the columns of all rows, so that what has become constant or zero shows.
    scale = np.linalg.norm(before, axis=0)
    scaled = after / np.where(scale > 0, scale, 1.0)
    if np.linalg.matrix_rank(scaled) < min(len(names), np.linalg.matrix_rank(before)):
        raise LmmError(
            "with the rows that are left not all coefficients can be estimated "
            f"({', '.join(names)}): groups are taken in their order, so mix those that differ in a "
            "covariate, or ask for more"
        )


def warn_of_structures(fit: LinearMixedModelResult) -> None:
    """Say that a fit's covariance structures do not go with its design."""
    plain = tuple(default_structures(term.blocks) for term in fit.design.terms)
    if tuple(fit.raw.prepared.structures) != plain:
        warn(
            "the fit's covariance structures (covariance=) are not part of a design: the larger "
            "design is fitted with the formula's own",
            LmmWarning,
        )
