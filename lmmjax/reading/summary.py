"""The summary of a fit, in the layout that lme4 and lmerTest users know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmmjax.reading.numbers import (
    LEGEND,
    abbreviate,
    coefficient_columns,
    p_texts,
    same_decimals,
    star,
    table,
    zap_small,
)

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.reading.varcorr import VarCorr
    from lmmjax.result import LinearMixedModelResult

#: Columns of a printed line.
WIDTH = 80
#: With more coefficients than this, their correlations are not printed.
MAX_CORRELATIONS = 12


@dataclass(frozen=True, eq=False)
class Summary:
    """What ``print(fit.summary())`` shows, and its parts.

    Attributes
    ----------
    title : str
        How the model was fitted.
    formula : str
    information : dict of str to float
        The REML criterion, or AIC, BIC, logLik, deviance and df.resid.
    scaled_residuals : pandas.Series
        Quantiles of the residuals over sigma, each multiplied by the root of its weight.
    varcorr : VarCorr
        Variances of the random effects.
    nobs : int
    ngroups : dict of str to int
    coefficients : pandas.DataFrame
        Columns ``Estimate``, ``Std. Error``, ``df``, ``t value``, ``Pr(>|t|)``.
    correlation : pandas.DataFrame
        Correlations of the fixed effects' estimates.
    messages : tuple of str
        Rows and columns dropped, the minimiser's end, singular fits.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (1 + Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> print(fit.summary())
    Linear mixed model fit by REML. t-tests use Satterthwaite's method
    Formula: Reaction ~ Days + (1 + Days | Subject)
    <BLANKLINE>
    REML criterion at convergence: 1743.6
    <BLANKLINE>
    Scaled residuals:
        Min      1Q  Median      3Q     Max
    -3.9536 -0.4634  0.0231  0.4634  5.1793
    <BLANKLINE>
    Random effects:
     Groups   Name        Variance Std.Dev. Corr
     Subject  (Intercept) 612.09   24.740
              Days         35.07    5.922   0.07
     Residual             654.94   25.592
    Number of obs: 180, groups:  Subject, 18
    <BLANKLINE>
    Fixed effects:
                Estimate Std. Error      df t value Pr(>|t|)
    (Intercept)  251.405      6.825  17.000  36.838  < 2e-16 ***
    Days          10.467      1.546  17.000   6.771 3.26e-06 ***
    ---
    Signif. codes:  0 ‘***’ 0.001 ‘**’ 0.01 ‘*’ 0.05 ‘.’ 0.1 ‘ ’ 1
    <BLANKLINE>
    Correlation of Fixed Effects:
         (Intr)
    Days -0.138
    """

    title: str
    formula: str
    information: dict[str, float]
    scaled_residuals: pd.Series
    varcorr: VarCorr
    nobs: int
    ngroups: dict[str, int]
    coefficients: pd.DataFrame
    correlation: pd.DataFrame
    messages: tuple[str, ...]

    def _coefficient_cells(self) -> tuple[list[str], list[list[str]], bool]:
        frame = self.coefficients
        left, t = coefficient_columns(frame.iloc[:, :3].to_numpy(), frame["t value"].to_numpy())
        p = frame["Pr(>|t|)"].to_numpy()
        marks = [star(v) for v in p]
        starred = any(marks)
        rows = [
            [name, *numbers, t_text, p_text, *([mark.ljust(3)] if starred else [])]
            for name, numbers, t_text, p_text, mark in zip(
                frame.index, left, t, p_texts(p.tolist()), marks, strict=True
            )
        ]
        return ["", *frame.columns, *([" " * 3] if starred else [])], rows, starred

    def _correlation_lines(self) -> list[str]:
        names = list(self.correlation.index)
        corr = self.correlation.to_numpy().round(3)
        rows = [
            [
                abbreviate(names[i], 11),
                *(f"{corr[i, j] + 0.0:6.3f}" if j < i else "" for j in range(len(names) - 1)),
            ]
            for i in range(1, len(names))
        ]
        header = ["", *(abbreviate(name, 6) for name in names[:-1])]
        return table(header, rows, "l" + "l" * (len(names) - 1))

    def __str__(self) -> str:
        lines = [
            self.title,
            f"Formula: {self.formula}",
            "",
            *information_lines(self.information),
            "",
        ]
        quantiles = self.scaled_residuals
        shown = same_decimals(zap_small(quantiles.to_numpy(), 5).tolist(), 4)
        lines += ["Scaled residuals:", *table(list(quantiles.index), [shown], "rrrrr"), ""]
        lines += ["Random effects:", *self.varcorr.lines(digits=4, variance=True)]
        lines += [size_line(self.nobs, self.ngroups), ""]
        if len(self.coefficients):
            header, rows, starred = self._coefficient_cells()
            align = "l" + "r" * 5 + "l" * starred
            lines += ["Fixed effects:", *table(header, rows, align)]
            lines += ["---", LEGEND] if starred else []
        else:
            lines += ["No fixed effects"]
        p = len(self.coefficients)
        if 1 < p <= MAX_CORRELATIONS:
            lines += ["", "Correlation of Fixed Effects:", *self._correlation_lines()]
        elif p > MAX_CORRELATIONS:
            lines += [
                "",
                f"Correlations of the {p} fixed effects are not shown: see summary().correlation",
            ]
        if self.messages:
            lines += ["", *self.messages]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape

        from lmmjax.reading.html import html_table

        information = ", ".join(f"{k} {v:.1f}" for k, v in self.information.items())
        groups = ", ".join(f"{name} {count}" for name, count in self.ngroups.items())
        parts = [
            f"<p><b>{escape(self.title)}</b><br><code>{escape(self.formula)}</code><br>"
            f"{escape(information)}; {self.nobs} observations; groups: {escape(groups)}</p>"
        ]
        if len(self.coefficients):
            header, rows, _ = self._coefficient_cells()
            parts.append(html_table(header, rows, caption="Fixed effects"))
        parts.append(
            html_table(*self.varcorr.rows(4, True), text_columns=2, caption="Random effects")
        )
        parts += [f"<p>{escape(message)}</p>" for message in self.messages]
        return "<div>" + "".join(parts) + "</div>"


#: Of the title, by method.
T_TESTS = {
    "satterthwaite": "t-tests use Satterthwaite's method",
    "kenward-roger": "t-tests use Kenward-Roger's method",
    "asymptotic": "tests are asymptotic",
}


def title_of(fit: LinearMixedModelResult) -> str:
    """Return the line that says how a model was fitted."""
    return f"Linear mixed model fit by {'REML' if fit.reml else 'maximum likelihood'}"


def information_of(fit: LinearMixedModelResult) -> dict[str, float]:
    """Return what a fit is judged by: the REML criterion, or the likelihood and what it gives."""
    if fit.reml:
        return {"REML criterion": fit.criterion}
    return {
        "AIC": fit.aic,
        "BIC": fit.bic,
        "logLik": fit.llf,
        "deviance": fit.deviance,
        "df.resid": float(fit.df_resid),
    }


def information_lines(information: dict[str, float]) -> list[str]:
    """Lay out :func:`information_of`, as lme4 does."""
    values = {k: round(v, 1) for k, v in information.items()}
    if "REML criterion" in values:
        return [f"REML criterion at convergence: {values['REML criterion']:.10g}"]
    shown = [*same_decimals(list(values.values())[:-1], 7), f"{values['df.resid']:.0f}"]
    # R prints a named vector: all columns have one width.
    width = max(map(len, [*values, *shown]))
    return [" ".join(t.rjust(width) for t in row) for row in (values, shown)]


def size_line(nobs: int, ngroups: dict[str, int]) -> str:
    """Return the line that counts rows and groups."""
    groups = "; ".join(f"{name}, {count}" for name, count in ngroups.items())
    return f"Number of obs: {nobs}, groups:  {groups}"


def overview(fit: LinearMixedModelResult) -> str:
    """Return what ``print(fit)`` shows: the estimates alone, in the layout of lme4's print."""
    lines = [title_of(fit), f"Formula: {fit.formula}", *information_lines(information_of(fit))]
    lines += ["Random effects:", *fit.varcorr.lines(digits=4)]
    lines += [size_line(fit.nobs, fit.ngroups)]
    names = list(map(str, fit.design.x_names))
    if not names:
        return "\n".join([*lines, "No fixed effects", *fit.messages])
    shown = same_decimals(fit.beta.tolist(), 4)
    width = max(map(len, [*names, *shown]))
    on_line = max(1, WIDTH // (width + 1))
    lines += ["Fixed effects:"]
    for at in range(0, len(names), on_line):
        for row in (names, shown):
            lines += [" ".join(text.rjust(width) for text in row[at : at + on_line])]
    return "\n".join([*lines, *fit.messages])


def summary(fit: LinearMixedModelResult, ddf: str = "satterthwaite") -> Summary:
    """Gather the parts of a fit's summary."""
    import pandas as pd

    from lmmjax.inference.contrasts import check_method, coefficient_table

    ddf = check_method(ddf)

    se = fit.standard_errors
    quantiles = np.quantile(fit.scaled_residuals, [0.0, 0.25, 0.5, 0.75, 1.0])
    return Summary(
        title=f"{title_of(fit)}. {T_TESTS[ddf]}",
        formula=fit.formula,
        information=information_of(fit),
        scaled_residuals=pd.Series(quantiles, index=["Min", "1Q", "Median", "3Q", "Max"]),
        varcorr=fit.varcorr,
        nobs=fit.nobs,
        ngroups=fit.ngroups,
        coefficients=fit.coefficients if ddf == "satterthwaite" else coefficient_table(fit, ddf),
        correlation=fit.vcov / np.outer(se, se),
        messages=fit.messages,
    )
