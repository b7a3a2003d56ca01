"""Contrasts of one factor after the other: of contrasts, or at each combination of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lmmjax.errors import LmmError
from lmmjax.inference.marginal_contrasts import contrasts_of
from lmmjax.inference.multiplicity import check_adjustment

if TYPE_CHECKING:
    from lmmjax.inference.marginal_estimates import MarginalEstimates


class SimpleContrasts(dict[str, "MarginalEstimates"]):
    """Contrasts of each factor within the others, by the factor's name; prints one table each."""

    def __str__(self) -> str:
        return "\n\n".join(f"Simple contrasts for {name}:\n{table}" for name, table in self.items())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(
            f"<p>Simple contrasts for {name}</p>{table._repr_html_()}"
            for name, table in self.items()
        )


def interaction_contrasts(
    estimates: MarginalEstimates,
    method: Any,
    interaction: bool | str | Sequence[Any],
    *,
    by: str | Sequence[str] | None,
    adjust: str | None,
) -> MarginalEstimates:
    """Contrast the first factor's contrasts of the second factor's contrasts of ... of the means.

    Parameters
    ----------
    estimates : MarginalEstimates
    method : str or mapping
        For all factors, where `interaction` is True.
    interaction : bool, str or sequence
        A method for all factors, or one for each that is not in `by`.
    by, adjust
        As in :meth:`MarginalEstimates.contrast`.

    Returns
    -------
    MarginalEstimates
        One column a factor, called ``factor_method``, then those of `by`.

    Raises
    ------
    LmmError
        There are not as many methods as factors.
    """
    within = estimates.by if by is None else tuple([by] if isinstance(by, str) else by)
    factors = [name for name in estimates.labels.columns if name not in within]
    if isinstance(interaction, Sequence) and not isinstance(interaction, str):
        methods = list(interaction)
    else:
        methods = [method if interaction is True else interaction] * len(factors)
    if len(methods) != len(factors) or not factors:
        raise LmmError(
            f"interaction= has {len(methods)} methods; the factors that are contrasted are "
            f"{', '.join(map(repr, factors)) or 'none'}"
        )
    found, names = estimates, []
    # From the last to the first, so that the first factor's contrasts run fastest.
    for factor, how in reversed(list(zip(factors, methods, strict=True))):
        others = [name for name in found.labels.columns if name != factor]
        found = contrasts_of(found, how, by=others, adjust="none", ref=None, named=False)
        made = next(name for name in found.labels.columns if name not in others)
        name = f"{factor}_{how}" if isinstance(how, str) else f"{factor}_custom"
        found = replace(found, labels=found.labels.rename(columns={made: name}))
        names.insert(0, name)
    return replace(
        found,
        labels=found.labels[[*names, *within]],
        by=within,
        adjust="none" if adjust is None else check_adjustment(adjust),
        pairwise=False,
        size=0,
    )


def simple_contrasts(
    estimates: MarginalEstimates,
    method: Any,
    simple: str | Sequence[str],
    *,
    adjust: str | None,
    ref: str | int | None,
) -> MarginalEstimates | SimpleContrasts:
    """Contrast the levels of some factors at each combination of all others.

    Parameters
    ----------
    estimates : MarginalEstimates
    method, adjust, ref
        As in :meth:`MarginalEstimates.contrast`.
    simple : str or sequence of str
        The factors; ``"each"`` for each in turn.

    Raises
    ------
    LmmError
        The estimates do not have such a factor.
    """
    columns = list(estimates.labels.columns)
    if simple == "each" and "each" not in columns:
        return SimpleContrasts(
            (name, _within_others(estimates, method, [name], adjust, ref)) for name in columns
        )
    wanted = [simple] if isinstance(simple, str) else list(simple)
    for name in wanted:
        if name not in columns:
            raise LmmError(
                f"simple= names {name!r}; it takes 'each', or of {', '.join(map(repr, columns))}"
            )
    return _within_others(estimates, method, wanted, adjust, ref)


def _within_others(
    estimates: MarginalEstimates,
    method: Any,
    names: Sequence[str],
    adjust: str | None,
    ref: str | int | None,
) -> MarginalEstimates:
    others = [name for name in estimates.labels.columns if name not in names]
    return contrasts_of(estimates, method, by=others, adjust=adjust, ref=ref)
