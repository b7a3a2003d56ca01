"""What a fit estimated: fixed effects, variances, criteria, and how the minimisation went.

The numbers alone; what is made of them (predictions, tables, another fit) is in
:mod:`lmmjax.result`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lmmjax.design import Design
from lmmjax.errors import LmmWarning
from lmmjax.fitting import Fitted
from lmmjax.inference.boundary import singular_bars
from lmmjax.messages import design_messages, fit_messages
from lmmjax.optimize.solution import Status

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.reading.optimizer import OptimizerSummary
    from lmmjax.reading.varcorr import VarCorr
    from lmmjax.result import LinearMixedModelResult


@lru_cache(maxsize=256)
def shared_index(names: tuple[str, ...]) -> pd.Index:
    """An index of labels, made once for all refits of a model."""
    import pandas as pd

    return pd.Index(names)


@dataclass(frozen=True, eq=False, repr=False)
class Estimates:
    """The numbers of a fit; the base of :class:`lmmjax.LinearMixedModelResult`.

    Attributes
    ----------
    design : Design
    raw : Fitted
    formula : str
    data : data frame
    """

    design: Design
    raw: Fitted
    formula: str
    data: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # What was computed on demand can be computed again.
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def _fit(self) -> LinearMixedModelResult:
        # The classes that add methods by subject hand on the whole.
        return cast("LinearMixedModelResult", self)

    @property
    def reml(self) -> bool:
        """Whether the fit is by REML."""
        return self.raw.reml

    @property
    def method(self) -> str:
        """``"REML"`` or ``"ML"``."""
        return "REML" if self.raw.reml else "ML"

    @cached_property
    def index(self) -> pd.Index:
        """Labels of the n rows used: those of the given pandas frame, else their positions."""
        import pandas as pd

        rows = self.design.row_index
        own = getattr(self.data, "index", None)
        if isinstance(own, pd.Index):
            return own if len(rows) == len(own) else own[rows]
        return pd.Index(rows)

    @cached_property
    def x_index(self) -> pd.Index:
        """Names of the p coefficients."""
        return shared_index(self.design.x_names)

    # --- fixed effects ---------------------------------------------------------------------------

    @property
    def beta(self) -> np.ndarray:
        """Fixed effects as an array, shape (p,)."""
        return np.asarray(self.raw.estimate.fixed.beta)

    @cached_property
    def standard_errors(self) -> np.ndarray:
        """Standard errors of the fixed effects, shape (p,)."""
        return np.sqrt(np.diagonal(np.asarray(self.raw.estimate.fixed.vcov)))

    @cached_property
    def fixef(self) -> pd.Series:
        """Fixed-effects estimates by name."""
        import pandas as pd

        return pd.Series(self.beta, index=self.x_index, name="Estimate")

    @cached_property
    def vcov(self) -> pd.DataFrame:
        """Covariance matrix of the fixed effects' estimates."""
        import pandas as pd

        cov = np.asarray(self.raw.estimate.fixed.vcov)
        return pd.DataFrame(cov, index=self.x_index, columns=self.x_index)

    @cached_property
    def coefficients(self) -> pd.DataFrame:
        """Table of the fixed effects.

        Columns ``Estimate``, ``Std. Error``, ``df`` (Satterthwaite's), ``t value``, ``Pr(>|t|)``.
        """
        from lmmjax.reading.coefficients import coefficient_table

        return coefficient_table(self)

    # --- variance components ---------------------------------------------------------------------

    @property
    def theta(self) -> np.ndarray:
        """Relative covariance parameters, shape (n_theta,), in lme4's order."""
        return self.raw.theta

    @cached_property
    def theta_names(self) -> tuple[str, ...]:
        """Their names: ``"Subject.Days.(Intercept)"``."""
        names = []
        for term, bars in zip(self.design.terms, self.raw.prepared.structures, strict=True):
            at = 0
            for structure in bars:
                columns = term.columns[at : at + structure.size]
                names += [f"{term.group}.{name}" for name in structure.theta_names(columns)]
                at += structure.size
        return tuple(names)

    @property
    def sigma(self) -> float:
        """Residual standard deviation, in units of the response."""
        return float(self.raw.estimate.fixed.sigma)

    @cached_property
    def varcorr(self) -> VarCorr:
        """Variances and correlations of the random effects; prints as in R."""
        from lmmjax.reading.varcorr import varcorr

        return varcorr(self)

    # --- criteria and counts ---------------------------------------------------------------------

    @property
    def criterion(self) -> float:
        """What was minimised: the REML criterion, or the deviance under ML."""
        return float(self.raw.estimate.criterion)

    @property
    def deviance(self) -> float:
        """-2 ``llf``; for a REML fit this is the REML criterion, as ``deviance()`` in lme4."""
        return self.criterion

    @property
    def llf(self) -> float:
        """Log-likelihood; the restricted one for a REML fit."""
        return -0.5 * self.criterion

    @property
    def df_model(self) -> int:
        """Number of parameters: coefficients, theta and sigma (under REML too, as in lme4)."""
        return self.design.p + self.raw.prepared.n_theta + 1

    @property
    def df_resid(self) -> int:
        """Number of observations less that of parameters."""
        return self.nobs - self.df_model

    @property
    def aic(self) -> float:
        """Akaike's information criterion."""
        return self.criterion + 2.0 * self.df_model

    @property
    def bic(self) -> float:
        """Bayesian information criterion, with ``nobs`` as the sample size."""
        return self.criterion + float(np.log(self.nobs)) * self.df_model

    @property
    def nobs(self) -> int:
        """Number of rows used."""
        return self.design.n

    @property
    def ngroups(self) -> dict[str, int]:
        """Number of levels of each grouping factor."""
        return {term.group: len(term.levels) for term in self.design.terms}

    # --- how it went -----------------------------------------------------------------------------

    @property
    def converged(self) -> bool:
        """Whether the minimiser met its conditions."""
        return int(self.raw.estimate.solution.status) == Status.CONVERGED

    @cached_property
    def is_singular(self) -> bool:
        """Whether a variance is zero or a correlation ±1.

        lme4's rule, a diagonal of the relative Cholesky factor below 1e-4, applied to columns of
        unit scale: the answer does not depend on units, or on where a predictor's zero is.
        """
        return bool(singular_bars(self.raw))

    @cached_property
    def problems(self) -> tuple[tuple[type[LmmWarning], str], ...]:
        """What the fit warned of: category and text."""
        return tuple(fit_messages(self))

    @property
    def messages(self) -> tuple[str, ...]:
        """Everything to know before reading the numbers, one sentence each."""
        return (*design_messages(self.design), *(text for _, text in self.problems))

    @cached_property
    def optimizer_summary(self) -> OptimizerSummary:
        """Status, evaluations, gradient and curvature at the end."""
        from lmmjax.reading.optimizer import optimizer_summary

        return optimizer_summary(self)

    # --- statsmodels' names ----------------------------------------------------------------------

    def _by_coefficient(self, values: np.ndarray, name: str) -> pd.Series:
        # Not a column of the table: loops of refits read these, and a frame costs ten times more.
        import pandas as pd

        return pd.Series(values, index=self.x_index, name=name, copy=False)

    @property
    def params(self) -> pd.Series:
        """Same as :attr:`fixef`."""
        return self.fixef

    @cached_property
    def bse(self) -> pd.Series:
        """Standard errors of the fixed effects."""
        return self._by_coefficient(self.standard_errors, "Std. Error")

    @cached_property
    def df(self) -> pd.Series:
        """Satterthwaite's degrees of freedom of the fixed effects."""
        return self._by_coefficient(np.asarray(self.raw.estimate.df), "df")

    @cached_property
    def tvalues(self) -> pd.Series:
        """Estimates over standard errors."""
        return self._by_coefficient(self.beta / self.standard_errors, "t value")

    @cached_property
    def pvalues(self) -> pd.Series:
        """Two-sided p values from Student's t."""
        from lmmjax.reading.coefficients import two_sided_p

        t, df = self.beta / self.standard_errors, np.asarray(self.raw.estimate.df)
        return self._by_coefficient(two_sided_p(t, df), "Pr(>|t|)")

    def cov_params(self) -> pd.DataFrame:
        """Same as :attr:`vcov`."""
        return self.vcov
