"""`extend()`: a larger design from a pilot's, by more groups or more rows in each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmmjax.arguments import check_whole
from lmmjax.design import Design, RandomTerm
from lmmjax.errors import LmmError, LmmWarning, warn
from lmmjax.keywords import known_keywords
from lmmjax.likelihood.plan import is_nested
from lmmjax.likelihood.preparation import default_structures
from lmmjax.simulation.shares import copies, is_quantity, kinds, ranks

if TYPE_CHECKING:
    from lmmjax.result import LinearMixedModelResult

#: What a deviation in a kind of rows counts, beside one in a predictor of groups.
MINOR = 1e-3
#: Kinds of groups up to which a message has the number of each.
SHOWN = 6


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
        Grouping factor that is to have `n` levels. The pilot's groups are taken whole, as often as
        each other or once more: a new group has the rows, and the predictors, of an old one. Those
        taken once more (or, for fewer groups, at all) are chosen so that the predictors of groups
        keep their shares: of two arms of ten, 12 groups have six each, in whatever order they come.
    within : str, optional
        Grouping factor each level of which is to have `n` rows: its own, taken again in their
        order, so that conditions that are repeated in it keep their shares.
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
        The fit has covariance structures of its own, which a design does not hold; or the shares
        of a predictor cannot be kept, as with 13 groups in two arms: it says what they are.

    Notes
    -----
    simr's ``extend`` (Green & MacLeod 2016, Methods Ecol. Evol. 7, 493-498), which takes groups in
    the order of their levels. Shares are those of each predictor of groups and of their
    combinations, to the nearest whole group; a predictor with a value for nearly every group keeps
    the shares of its quarters.

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
    if along is not None:
        found = more_groups(design, along, n)
    else:
        found = more_rows(design, str(within), n)
    if found.note:
        warn(found.note, LmmWarning)
    return found.design


class Extended(NamedTuple):
    """A design made larger or smaller.

    Attributes
    ----------
    design : Design
    note : str
        What shares could not be kept, for a warning; empty if all are.
    """

    design: Design
    note: str


def more_groups(design: Design, along: str, n: int) -> Extended:
    """A design whose factor has `n` levels, as :func:`extend` documents it."""
    term = _factor(design, along)
    check_count(n)
    members = _members(term)
    systems, weights, labels = _kinds_of_groups(design, term.index, members)
    times = copies(systems, n, weights)
    # Rounds of all groups in their order.
    order = [(copy, g) for copy in range(int(times.max())) for g in np.flatnonzero(times > copy)]
    rows = np.concatenate([members[g] for _, g in order])
    copy = np.repeat([c for c, _ in order], [len(members[g]) for _, g in order])
    note = _shares_lost(labels, systems, times, f"{n} levels of {along!r}")
    return Extended(_take(design, rows, copy, along), note)


def more_rows(design: Design, within: str, n: int) -> Extended:
    """A design with `n` rows in each level of a factor, as :func:`extend` documents it."""
    term = _factor(design, within)
    check_count(n)
    named = [*_predictors(design), *((repr(t.group), t.index[:, None]) for t in design.terms)]
    codes = np.stack([kinds(columns) for _, columns in named], axis=1)
    seen: dict[bytes, tuple[np.ndarray, str]] = {}
    rows = []
    for own in _members(term):
        key = codes[own].tobytes()
        if key not in seen:
            systems, labels = _kinds_of_rows(codes[own], [name for name, _ in named])
            times = copies(systems, n)
            seen[key] = times, _shares_lost(labels, systems, times, f"{n} rows in each {within!r}")
        times = seen[key][0]
        rows += [own[times > copy] for copy in range(int(times.max()))]
    note = next((said for _, said in seen.values() if said), "")
    return Extended(_take(design, np.concatenate(rows), None, ""), note)


def _factor(design: Design, name: str) -> RandomTerm:
    groups = {term.group: term for term in design.terms}
    if name not in groups:
        raise LmmError(f"{name!r} is no grouping factor of the design: {', '.join(groups)}")
    return groups[name]


def _members(term: RandomTerm) -> list[np.ndarray]:
    """Rows of each level."""
    order = np.argsort(term.index, kind="stable")
    return np.split(order, np.searchsorted(term.index[order], np.arange(1, len(term.levels))))


def _predictors(design: Design) -> list[tuple[str, np.ndarray]]:
    """Columns of each fixed term, and of each grouping factor's effects."""
    assign = np.asarray(design.coding.assign)
    fixed = [
        (name, design.X[:, assign == t])
        for t, name in enumerate(design.coding.term_names, start=1)
        if (assign == t).any()
    ]
    return fixed + [(f"the effects of {t.group!r}", t.Z) for t in design.terms]


def _kinds_of_groups(
    design: Design, index: np.ndarray, members: list[np.ndarray]
) -> tuple[list[np.ndarray], list[float], list[str]]:
    """Divisions of the groups by their predictors, what each counts, and its name if it is one."""
    first = np.array([own[0] for own in members])
    size = np.bincount(index)
    systems, weights, labels = [np.zeros(len(members), np.int64)], [0.0], [""]

    def add(code: np.ndarray, weight: float, label: str) -> None:
        if not any(np.array_equal(code, other) for other in systems):
            systems.append(code)
            weights.append(weight)
            labels.append(label)

    rest: list[np.ndarray] = [size.astype(np.float64)]
    for name, columns in _predictors(design):
        flat = (columns == columns[first[index]]).all(axis=0)
        if flat.any():
            code = kinds(columns[first][:, flat])
            if is_quantity(code):
                for column in columns[first][:, flat].T:
                    add(ranks(column), 1.0, "")
            else:
                add(code, 1.0, name)
        rest += [np.bincount(index, weights=column) / size for column in columns[:, ~flat].T]
    if len(systems) > 2:  # their combinations
        add(kinds(np.stack(systems, axis=1)), 1.0, "")
    rest += [np.bincount(index, weights=x) / size for x in (design.weights, design.offset)]
    for values in rest:
        code = kinds(values[:, None])
        add(ranks(values) if is_quantity(code) else code, MINOR, "")
    return systems, weights, labels


def _kinds_of_rows(codes: np.ndarray, names: Sequence[str]) -> tuple[list[np.ndarray], list[str]]:
    """Divisions of a group's rows by predictors whose values are repeated, and by other factors."""
    systems, labels = [np.zeros(len(codes), np.int64)], [""]
    for name, own in zip(names, codes.T, strict=True):
        code = np.unique(own, return_inverse=True)[1].reshape(-1)
        if not is_quantity(code) and not any(np.array_equal(code, other) for other in systems):
            systems.append(code)
            labels.append(name)
    return systems, labels


def _shares_lost(
    labels: Sequence[str], systems: Sequence[np.ndarray], times: np.ndarray, what: str
) -> str:
    """Which predictors' shares are not those of the pilot, in words."""
    lost = []
    for label, code in zip(labels, systems, strict=True):
        before, after = np.bincount(code), np.bincount(code, weights=times).astype(np.int64)
        if label and (before * times.sum() != after * len(code)).any():
            shown = f" ({_ratio(after)} for {_ratio(before)})" if before.size <= SHOWN else ""
            lost.append(f"{label}{shown}")
    if not lost:
        return ""
    return (
        f"{what} cannot keep the shares of {', '.join(lost)}: they have the nearest whole numbers"
    )


def _ratio(numbers: np.ndarray) -> str:
    return ":".join(map(str, numbers.tolist()))


def check_count(n: Any) -> None:
    """Refuse what is no number of groups, or of rows in each."""
    check_whole("a number of groups or rows", n, 2)


def _take(design: Design, rows: np.ndarray, copy: np.ndarray | None, along: str) -> Design:
    """The design's rows, with new levels in each copy for the factor and what is nested in it."""
    terms: list[RandomTerm] = []
    top = next((t for t in design.terms if t.group == along), None)
    for term in design.terms:
        index, levels = term.index[rows], term.levels
        if copy is not None and top is not None and is_nested(term.index, top.index):
            code = copy.astype(np.int64) * len(levels) + index
            present, index = np.unique(code, return_inverse=True)
            levels = _copied(levels, present)
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


def _copied(levels: tuple[str, ...], present: np.ndarray) -> tuple[str, ...]:
    """Labels of copies: ``a``, ``a*2``, ``a*3``; numbers go on where copies are copied."""
    used = set(levels)
    labels = list(levels)
    nexts: dict[str, int] = {}
    out = []
    for code in present.tolist():
        label = labels[code % len(labels)]
        if code >= len(labels):
            root = re.sub(r"\*\d+$", "", label)
            number = nexts.get(root, 2)
            while (label := f"{root}*{number}") in used:
                number += 1
            nexts[root] = number + 1
        used.add(label)
        out.append(label)
    return tuple(out)


def _check_rank(before: np.ndarray, after: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse rows that leave some coefficient without information."""
    # Scaled to the columns of all rows, so that what has become constant or zero shows.
    scale = np.linalg.norm(before, axis=0)
    scaled = after / np.where(scale > 0, scale, 1.0)
    if np.linalg.matrix_rank(scaled) < min(len(names), np.linalg.matrix_rank(before)):
        raise LmmError(
            "with the rows that are left not all coefficients can be estimated "
            f"({', '.join(names)}): ask for more groups, or rows"
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
