"""Variances and correlations of the random effects, as `VarCorr` gives them in R."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.covariance import Diagonal
from lmmjax.reading.numbers import same_decimals, table

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.estimates import Estimates


#: A standard deviation, of an effect's contribution to a row and relative to sigma, that is zero.
ZERO_SD = 1e-6


@dataclass(frozen=True, eq=False)
class VarCorrBlock:
    """Correlated random effects.

    Attributes
    ----------
    group : str
        Grouping factor.
    label : str
        Its name in tables: a second independent block of one factor is ``"Subject.1"``.
    columns : tuple of str
        Names of the k effects.
    covariance : ndarray, shape (k, k)
        In squared units of the response.
    """

    group: str
    label: str
    columns: tuple[str, ...]
    covariance: np.ndarray

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations, shape (k,)."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def correlation(self) -> np.ndarray:
        """Correlations, shape (k, k); NaN where a variance is zero."""
        sd = self.sd
        with np.errstate(invalid="ignore", divide="ignore"):
            corr = self.covariance / np.outer(sd, sd)
        # Rounding must not leave the possible range.
        corr = np.clip(corr, -1.0, 1.0)
        np.fill_diagonal(corr, 1.0)
        return corr


@dataclass(frozen=True, eq=False)
class VarCorr(Mapping[str, np.ndarray]):
    """Variance components of a fit; prints as in R, and maps labels to covariance matrices.

    Attributes
    ----------
    blocks : tuple of VarCorrBlock
        In the model's order.
    sigma : float
        Residual standard deviation.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days || Subject)", lj.datasets.load("sleepstudy"))
    >>> print(fit.varcorr)
     Groups    Name        Std.Dev.
     Subject   (Intercept) 25.0513
     Subject.1 Days         5.9882
     Residual              25.5653
    >>> fit.varcorr["Subject.1"].round(2)
    array([[35.86]])
    """

    blocks: tuple[VarCorrBlock, ...]
    sigma: float

    def __getitem__(self, label: str) -> np.ndarray:
        for block in self.blocks:
            if block.label == label:
                return block.covariance
        raise KeyError(label)

    def __iter__(self) -> Iterator[str]:
        return iter(block.label for block in self.blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    def to_frame(self) -> pd.DataFrame:
        """A table like ``as.data.frame(VarCorr(fit))``.

        Returns
        -------
        pandas.DataFrame
            Columns ``grp``, ``var1``, ``var2`` (None for a variance), ``vcov`` (variance or
            covariance), ``sdcor`` (standard deviation or correlation); the residual comes last.
        """
        import pandas as pd

        rows: list[tuple[str, str | None, str | None, float, float]] = []
        for block in self.blocks:
            cov, sd, corr = block.covariance, block.sd, block.correlation
            k = len(block.columns)
            rows += [(block.label, block.columns[i], None, cov[i, i], sd[i]) for i in range(k)]
            rows += [
                (block.label, block.columns[i], block.columns[j], cov[j, i], corr[j, i])
                for i in range(k)
                for j in range(i + 1, k)
            ]
        rows.append(("Residual", None, None, self.sigma**2, self.sigma))
        columns = dict(
            zip(("grp", "var1", "var2", "vcov", "sdcor"), zip(*rows, strict=True), strict=True)
        )
        # As text, pandas would turn None into NaN.
        return pd.DataFrame(
            {
                name: pd.Series(values, dtype=float if name in ("vcov", "sdcor") else object)
                for name, values in columns.items()
            }
        )

    def rows(self, digits: int, variance: bool) -> tuple[list[str], list[list[str]]]:
        """Header and cells of the printed table."""
        sds = np.concatenate([*(b.sd for b in self.blocks), [self.sigma]])
        numbers = [same_decimals(sds, digits)]
        if variance:
            numbers.insert(0, same_decimals(sds**2, digits))
        widest = max((len(b.columns) for b in self.blocks), default=1)
        places = max(2, digits - 2)
        header = ["Groups", "Name", *(["Variance"] if variance else []), "Std.Dev."]
        correlations = [
            f"{round(block.correlation[i, j], places) + 0.0:.{places}f}"
            for block in self.blocks
            for i in range(len(block.columns))
            for j in range(i)
        ]
        width = max(map(len, correlations), default=0)
        corr_cells = iter([text.rjust(width) for text in correlations])
        header += ["Corr"] * (widest > 1) + [""] * (widest - 2)
        cells: list[list[str]] = []
        for block in self.blocks:
            for i, column in enumerate(block.columns):
                shown = [next(corr_cells) for _ in range(i)]
                cells.append(
                    [
                        block.label if i == 0 else "",
                        column,
                        *(n[len(cells)] for n in numbers),
                        *shown,
                        *[""] * (widest - 1 - i),
                    ]
                )
        cells.append(["Residual", "", *(n[-1] for n in numbers), *[""] * (widest - 1)])
        return header, cells

    def lines(self, digits: int = 5, variance: bool = False) -> list[str]:
        """The printed table."""
        header, cells = self.rows(digits, variance)
        return [" " + line for line in table(header, cells, "l" * len(header))]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from lmmjax.reading.html import html_table

        return html_table(*self.rows(5, True), text_columns=2)


def varcorr(fit: Estimates) -> VarCorr:
    """Variance components of a fit."""
    sigma = fit.sigma
    blocks: list[VarCorrBlock] = []
    seen: dict[str, int] = {}
    for term, factor, bars in zip(
        fit.design.terms, fit.raw.factors, fit.raw.prepared.structures, strict=True
    ):
        # What is zero up to rounding is said to be zero: its correlations would be noise.
        size = np.sqrt(np.mean(term.Z**2, axis=0))
        zero = np.linalg.norm(factor, axis=1) * size < ZERO_SD
        factor = np.where(zero[:, None], 0.0, factor)
        covariance = sigma**2 * factor @ factor.T
        at = 0
        for structure in bars:
            # Independent coefficients are blocks of their own.
            sizes = [1] * structure.size if type(structure) is Diagonal else [structure.size]
            for size in sizes:
                own = slice(at, at + size)
                count = seen.get(term.group, 0)
                seen[term.group] = count + 1
                label = f"{term.group}.{count}" if count else term.group
                blocks.append(
                    VarCorrBlock(term.group, label, term.columns[own], covariance[own, own])
                )
                at += size
    return VarCorr(tuple(blocks), sigma)
