"""New data, coded as a fit's were."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from .checks import check_finite, finite_columns
from .coding import Coding, Columns, NewData, NewTerm, PartCoder
from .columns import Column
from .errors import DataError
from .formula import FormulaSpec
from .frames import Frame, column_from_values
from .functions import CONSTANTS


def code_new_data(
    coding: Coding,
    frame: Frame,
    *,
    need_response: bool,
    allow_new_levels: bool,
    random: bool,
    offset: Any,
) -> NewData:
    """Do the work of :meth:`Coding.new_data`, which documents it."""
    spec = coding.spec
    names = dict.fromkeys(spec.names)
    groups: dict[str, None] = {}
    if need_response:
        names.update(dict.fromkeys(spec.response_names))
    if random:
        for bar in spec.bars:
            names.update(dict.fromkeys(bar.names))
            groups.update(dict.fromkeys(bar.group))
    columns = read_columns(frame, names)
    group_columns = read_columns(frame, groups)
    shift = _offset_column(coding, frame, offset)
    n = frame.n
    if n is None:
        # A model of the intercept alone reads no column.
        n = frame.length()
    if shift is not None and len(shift.values) != n:
        raise DataError(f"the offset has {len(shift.values)} values for {n} rows")

    keep = np.ones(n, bool)
    for column in [*columns.values(), *([shift] if shift is not None else [])]:
        if column.missing is not None:
            keep &= ~column.missing
    rows = np.flatnonzero(keep)
    if len(rows) < n:
        columns = {k: c.take(rows) for k, c in columns.items()}
        group_columns = {k: c.take(rows) for k, c in group_columns.items()}
        shift = None if shift is None else shift.take(rows)
    finite_columns(columns, rows)

    coded = Columns(
        *(columns, len(rows), coding.levels, coding.contrasts),
        *(frame.names, set(coding.numeric), rows),
    )
    coder = PartCoder(coded, coding.state, coding.env)
    random_coder = coder.with_default_contrasts()
    whole = coder.matrix(coding.fixed)
    X, dropped = whole[:, coding.keep], np.delete(whole, coding.keep, axis=1)
    total = np.zeros(len(rows)) if shift is None else shift.numbers()
    for text in spec.offsets:
        total = total + coder.values(text)
    y = coder.values(spec.response) if need_response else None
    terms = []
    if random:
        made = {}
        for group, parts in coding.random:
            index, new = group.index(group_columns)
            if len(new) and not allow_new_levels:
                raise _new_levels(group.name, group.factors, group_columns, new, rows)
            for part in parts:
                if part.text not in made:
                    made[part.text] = random_coder.matrix(part)
            Z = np.concatenate([made[part.text] for part in parts], axis=1)
            terms.append(NewTerm(group.name, Z, index))

    arrays = [X, dropped, total, *(t.Z for t in terms), *([] if y is None else [y])]
    lost = np.zeros(len(rows), bool)
    for array in arrays:
        lost |= np.isnan(array.reshape(len(rows), -1)).any(axis=1)
    if lost.any():
        kept = ~lost
        rows, X, total, dropped = rows[kept], X[kept], total[kept], dropped[kept]
        y = None if y is None else y[kept]
        terms = [NewTerm(t.group, t.Z[kept], t.index[kept]) for t in terms]
    check_finite(X, [coding.fixed.names[j] for j in coding.keep], rows)
    return NewData(X, dropped, tuple(terms), total, y, rows, n)


def read_columns(frame: Frame, names: Iterable[str]) -> dict[str, Column]:
    """The columns `names` of a frame."""
    return {name: frame.column(name) for name in names}


def used_columns(spec: FormulaSpec, frame: Frame, env: Collection[str]) -> FormulaSpec:
    """Settle which names of a formula are columns of a frame, for good.

    A column wins over a constant of its name (``pi``), and over what the caller passes in; a name
    that is neither is left for the frame to refuse.
    """

    def columns(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n for n in names if n in frame or not (n in env or n in CONSTANTS))

    bars = tuple(replace(bar, names=columns(bar.names)) for bar in spec.bars)
    settled = replace(
        spec, names=columns(spec.names), response_names=columns(spec.response_names), bars=bars
    )
    return spec if settled.variables == spec.variables else settled


def _offset_column(coding: Coding, frame: Frame, offset: Any) -> Column | None:
    source = coding.offset_source
    if offset is None:
        if source is None:
            return None
        if source == "<array>":
            raise DataError(
                "the model was fitted with an offset given as an array: give the offset of the new "
                "rows too (offset=)"
            )
        offset = source
    column = (
        frame.column(offset) if isinstance(offset, str) else column_from_values("offset", offset)
    )
    if column.kind != "number":
        raise DataError(f"the offset is {column.dtype}; it must be numeric")
    return column


def _new_levels(group, factors, columns, new, rows) -> DataError:
    """The error for rows of unknown groups, with the first few levels named."""
    coded = [columns[name].factor() for name in factors]
    found: dict[str, None] = {}
    for row in new.tolist():
        parts = [labels[codes[row]] if codes[row] >= 0 else "missing" for codes, labels in coded]
        found[":".join(parts)] = None
    shown = ", ".join(map(repr, list(found)[:5])) + (", ..." if len(found) > 5 else "")
    return DataError(
        f"the grouping factor {group!r} has levels that the fit did not see: {shown} (first at row "
        f"{int(rows[new[0]])}); allow_new_levels=True gives them a random effect of zero"
    )
