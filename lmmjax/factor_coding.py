"""Contrasts of factors: their columns, and R's names of them.

The matrices are formulaic's, which is loaded when a formula or a fit asks for other than treatment
contrasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .columns import label
from .errors import DataError, DesignWarning, warn
from .expressions import Name
from .parser import read_terms

if TYPE_CHECKING:
    from formulaic.transforms.contrasts import Contrasts

    from .coding import Columns

NAMES = ("treatment", "sum", "helmert", "poly", "SAS", "diff")


def contrast(spec: Any, where: str) -> Contrasts | None:
    """Contrasts from their name (``"contr.sum"``, ``"sum"``), class, instance or matrix.

    Raises
    ------
    DataError
        If it is none of these; `where` says whose they are.
    """
    if spec is None:
        return None
    from formulaic.transforms.contrasts import Contrasts, CustomContrasts

    if isinstance(spec, Contrasts):
        return spec
    if isinstance(spec, type) and issubclass(spec, Contrasts):
        return spec()
    if isinstance(spec, str):
        name = spec.removeprefix("contr.")
        name = name.lower() if name.lower() in NAMES else name
        if name == "custom":
            raise DataError(f"give the matrix itself instead of {spec!r} ({where})")
        if name not in NAMES:
            raise DataError(
                f"there are no contrasts named {spec!r} ({where}): use one of "
                + ", ".join(f"contr.{n}" for n in NAMES)
            )
        return made_contrast(name, [], {})
    try:
        if hasattr(spec, "columns") and hasattr(spec, "to_numpy"):
            names = [str(c) for c in spec.columns]
            return CustomContrasts(np.asarray(spec.to_numpy(), np.float64), names=names)
        if isinstance(spec, Mapping):
            columns = np.array([np.asarray(v, np.float64) for v in spec.values()]).T
            return CustomContrasts(columns, names=list(map(str, spec)))
        matrix = np.asarray(spec, np.float64)
        return CustomContrasts(matrix[:, None] if matrix.ndim == 1 else matrix)
    except Exception as error:
        raise DataError(
            f"contrasts must be a name such as 'contr.sum' or a matrix, not {spec!r} ({where})"
        ) from error


def fixed_contrasts(
    given: Mapping[str, Any], fixed: str, columns: Columns
) -> dict[str, Contrasts | None]:
    """Contrasts of the factors of the fixed part `fixed`; one of another column is passed over.

    Raises
    ------
    DataError
        For a name that is no column, a number, or contrasts that there are not.

    Warns
    -----
    DesignWarning
        For a column that the fixed part does not have, as in R.
    """
    if not isinstance(given, Mapping):
        raise DataError(
            "contrasts must map names of factors to contrasts, as in {'f': 'contr.sum'}, not "
            f"{given!r}"
        )
    names = {factor.name: factor for term in read_terms(fixed).terms for factor in term}
    found = {}
    for name, spec in given.items():
        coded = contrast(spec, f"for {name!r}")
        if name not in names:
            if name not in columns.names:
                raise columns.unknown(str(name))
            warn(
                f"contrasts are given for {name!r}, which is not among the fixed effects "
                f"({fixed}): they are ignored",
                DesignWarning,
            )
            continue
        if isinstance(names[name].node, Name) and name in columns and not columns.is_factor(name):
            raise DataError(
                f"contrasts are given for {name!r}, which is numeric: make it text or categorical, "
                "or write factor(...) in the formula"
            )
        found[name] = coded
    return found


def made_contrast(name: str, given: Sequence[Any], named: Mapping[str, Any]) -> Contrasts:
    """Contrasts by name, with their options: ``contr.treatment(base = "b")``."""
    from formulaic.transforms.contrasts import ContrastsRegistry

    if name == "treatment":
        # R and patsy call the level differently.
        named = {"base" if key in ("ref", "reference") else key: v for key, v in named.items()}
    return getattr(ContrastsRegistry, name)(*given, **named)


def code_levels(
    name: str,
    codes: np.ndarray,
    levels: tuple[str, ...],
    contrasts: Contrasts | None,
    reduced: bool,
) -> dict[str, np.ndarray]:
    """Columns of a factor, shape (n,) each, under R's names.

    Parameters
    ----------
    name : str
        The factor's.
    codes : np.ndarray of int, shape (n,)
    levels : tuple of str
    contrasts : Contrasts or None
        None for treatment contrasts.
    reduced : bool
        Whether there is one column less than there are levels; otherwise each level has one.
    """
    if len(levels) == 1 and reduced:
        raise DataError(
            f"the factor {name!r} has one level ({levels[0]!r}) in the rows used, so it has no "
            "effect to estimate: leave it out of the formula"
        )
    if contrasts is None or not reduced:
        coding, fields = np.eye(len(levels)), list(levels)
        if reduced:
            coding, fields = coding[:, 1:], fields[1:]
    else:
        coding, fields = _matrix(name, levels, contrasts)
    by_row = coding[codes]
    return {f"{name}{field}": by_row[:, j] for j, field in enumerate(fields)}


def _matrix(
    name: str, levels: tuple[str, ...], contrasts: Contrasts
) -> tuple[np.ndarray, list[str]]:
    """A coding matrix, shape (L, L - 1) or what is given, and its columns' names."""
    from formulaic.transforms import contrasts as kinds

    base = getattr(contrasts, "base", None)
    if isinstance(base, (int, float)) and not isinstance(base, bool) and label(base) not in levels:
        if not 1 <= base <= len(levels):
            raise DataError(f"{name!r} has {len(levels)} levels, so that level {base} is none")
        # R's contr.treatment(base = 2) counts.
        contrasts = type(contrasts)(base=levels[int(base) - 1])  # type: ignore[call-arg]
    elif base is not None and not isinstance(base, str) and label(base) in levels:
        contrasts = type(contrasts)(base=label(base))  # type: ignore[call-arg]
    try:
        coding = np.asarray(contrasts.get_coding_matrix(levels, True), np.float64)
        fields = list(map(str, contrasts.get_coding_column_names(levels, True)))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{name!r} has levels {list(levels)}, which its contrasts do not fit"
        ) from error
    if coding.shape[0] != len(levels):
        raise DataError(f"{name!r} has levels {list(levels)}, which its contrasts do not fit")
    if isinstance(contrasts, (kinds.SumContrasts, kinds.HelmertContrasts)):
        fields = [str(j + 1) for j in range(coding.shape[1])]
    elif isinstance(contrasts, kinds.DiffContrasts):
        # As MASS::contr.sdif names them.
        pairs = zip(levels[1:], levels[:-1], strict=True)
        fields = [f"{b}-{a}" if contrasts.backward else f"{a}-{b}" for b, a in pairs]
    return coding, fields
