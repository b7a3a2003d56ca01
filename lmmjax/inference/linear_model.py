"""The model without random effects: where the deletion of random terms ends."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.design import Design


@dataclass(frozen=True, eq=False, repr=False)
class LinearModel:
    """An ordinary (weighted) least-squares fit, by the same formula and with the same criteria.

    Attributes
    ----------
    design : Design
        Without random-effects terms.
    formula : str
    data : data frame
    reml : bool
        Whether `criterion` is the restricted one.

    Notes
    -----
    The criteria are those of a mixed model whose variances are zero, as ``logLik(lm, REML=)`` in R.

    Examples
    --------
    >>> import lmmjax as lj
    >>> from lmmjax.inference.reduction import rebuild, rewrite
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> without = rebuild(fit, rewrite(fit.design.formula, bars=()))
    >>> without
    <LinearModel: Yield ~ 1, least squares, 30 obs>
    >>> round(without.llf, 4), without.df_model
    (-163.0116, 2)
    """

    design: Design
    formula: str
    data: Any
    reml: bool

    def __repr__(self) -> str:
        return f"<LinearModel: {self.formula}, least squares, {self.nobs} obs>"

    @cached_property
    def _solution(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Coefficients, the triangle of the weighted columns, and the residual sum of squares."""
        design = self.design
        root = np.sqrt(design.weights)
        q, r = np.linalg.qr(design.X * root[:, None])
        y = root * (design.y - design.offset)
        projected = q.T @ y
        rest = y - q @ projected
        return np.linalg.solve(r, projected), r, float(rest @ rest)

    @property
    def beta(self) -> np.ndarray:
        """Coefficients, shape (p,)."""
        return self._solution[0]

    @property
    def rss(self) -> float:
        """Residual sum of squares, weighted."""
        return self._solution[2]

    @property
    def nobs(self) -> int:
        """Number of rows used."""
        return self.design.n

    @property
    def df_resid(self) -> int:
        """Number of observations less that of coefficients."""
        return self.design.n - self.design.p

    @property
    def df_model(self) -> int:
        """Number of parameters: coefficients and sigma."""
        return self.design.p + 1

    @property
    def sigma(self) -> float:
        """Residual standard deviation."""
        return float(np.sqrt(self.rss / (self.df_resid if self.reml else self.nobs)))

    def deviance_by(self, reml: bool) -> float:
        """-2 log-likelihood, full or restricted."""
        m = self.df_resid if reml else self.nobs
        value = m * (1.0 + np.log(2.0 * np.pi * self.rss / m)) - np.sum(np.log(self.design.weights))
        if reml:
            value += 2.0 * np.sum(np.log(np.abs(np.diagonal(self._solution[1]))))
        return float(value)

    @property
    def criterion(self) -> float:
        """-2 ``llf``."""
        return self.deviance_by(self.reml)

    @property
    def llf(self) -> float:
        """Log-likelihood; the restricted one where `reml` says so."""
        return -0.5 * self.criterion

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return self.criterion + 2.0 * self.df_model

    @cached_property
    def coefficients(self) -> pd.DataFrame:
        """``Estimate``, ``Std. Error``, ``df``, ``t value``, ``Pr(>|t|)`` by coefficient."""
        import pandas as pd

        from lmmjax.reading.coefficients import two_sided_p

        inverse = np.linalg.inv(self._solution[1])
        se = np.sqrt(self.rss / self.df_resid * np.sum(inverse**2, axis=1))
        t, df = self.beta / se, np.full(len(se), float(self.df_resid))
        return pd.DataFrame(
            {
                "Estimate": self.beta,
                "Std. Error": se,
                "df": df,
                "t value": t,
                "Pr(>|t|)": two_sided_p(t, df),
            },
            index=pd.Index(self.design.x_names),
        )
