"""What many fits tell: arrays with the replicates' axis first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from lmmjax.errors import LmmError
from lmmjax.estimate import Estimate
from lmmjax.inference.boundary import bars_at_boundary
from lmmjax.keywords import methods_know_keywords
from lmmjax.modes import CLOSE
from lmmjax.optimize.solution import Status

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.design import Design
    from lmmjax.inference.kenward_roger import KenwardRoger
    from lmmjax.likelihood.crossproducts import Prepared


@methods_know_keywords
@dataclass(frozen=True, eq=False, repr=False)
class ManyFits:
    """Fits of one model to many responses.

    Made by :func:`lmmjax.fit_many`.

    Attributes
    ----------
    design : Design
        What all fits share.
    prepared : Prepared
    reml : bool
    estimate : Estimate
        All estimates as arrays, replicates first.
    present : ndarray of bool, shape (replicates, n), or None
        Which rows each replicate has, where some are missing.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
    >>> many = lj.fit_many(fit, fit.simulate(100, key=1))
    >>> many
    <ManyFits: 100 fits, REML, 100 converged, 0 singular>
    >>> many.se.shape, many.pvalues.shape, many.theta.shape
    ((100, 2), (100, 2), (100, 3))
    """

    design: Design
    prepared: Prepared
    reml: bool
    estimate: Estimate
    present: np.ndarray | None = None

    @classmethod
    def collect(
        cls,
        design: Design,
        prepared: Prepared,
        reml: bool,
        parts: Sequence[Estimate],
        present: np.ndarray | None = None,
    ) -> ManyFits:
        """From the estimates of consecutive chunks."""
        whole = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
        return cls(design, prepared, reml, whole, present)

    def __repr__(self) -> str:
        close = np.count_nonzero(self.two_modes)
        gaps = 0 if self.present is None else np.count_nonzero(self.undetermined.any(axis=1))
        return (
            f"<{type(self).__name__}: {len(self)} fits, {'REML' if self.reml else 'ML'}, "
            f"{np.count_nonzero(self.converged)} converged, "
            f"{np.count_nonzero(self.singular)} singular"
            f"{f', {close} with two optima' if close else ''}"
            f"{f', {gaps} without all coefficients' if gaps else ''}>"
        )

    def __len__(self) -> int:
        return len(self.estimate.criterion)

    # --- how it went -----------------------------------------------------------------------------

    @property
    def status(self) -> np.ndarray:
        """How each minimisation ended, shape (replicates,): codes of ``Status``; 0 is converged."""
        return np.asarray(self.estimate.solution.status)

    @property
    def converged(self) -> np.ndarray:
        """Whether each fit converged, shape (replicates,)."""
        return self.status == Status.CONVERGED

    @property
    def iterations(self) -> np.ndarray:
        """Evaluations of the criterion, shape (replicates,)."""
        return np.asarray(self.estimate.solution.iterations)

    @property
    def criterion(self) -> np.ndarray:
        """REML criterion or deviance, shape (replicates,)."""
        return np.asarray(self.estimate.criterion)

    @property
    def rival(self) -> np.ndarray:
        """By how much the next best optimum's criterion is above the fit's, shape (replicates,).

        NaN where no other optimum was found, which is looked for in fits in doubt alone
        (:mod:`lmmjax.modes`).
        """
        return np.asarray(self.estimate.rival)

    @property
    def two_modes(self) -> np.ndarray:
        """Whether another optimum lies within 2 of the criterion, shape (replicates,)."""
        return self.rival <= CLOSE

    @property
    def undetermined(self) -> np.ndarray:
        """Coefficients without a value although there is a fit, shape (replicates, p).

        The rows of the replicate do not determine them, as where one arm is missing.
        """
        return np.isnan(self.beta) & np.isfinite(self.criterion)[:, None]

    # --- fixed effects ---------------------------------------------------------------------------

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return tuple(self.design.x_names)

    @property
    def beta(self) -> np.ndarray:
        """Fixed effects, shape (replicates, p)."""
        return np.asarray(self.estimate.fixed.beta)

    @property
    def vcov(self) -> np.ndarray:
        """Their covariance, shape (replicates, p, p)."""
        return np.asarray(self.estimate.fixed.vcov)

    @cached_property
    def se(self) -> np.ndarray:
        """Standard errors, shape (replicates, p)."""
        return np.sqrt(np.diagonal(self.vcov, axis1=1, axis2=2))

    @property
    def df(self) -> np.ndarray:
        """Satterthwaite's degrees of freedom, shape (replicates, p)."""
        return np.asarray(self.estimate.df)

    @cached_property
    def tvalues(self) -> np.ndarray:
        """Estimates over standard errors, shape (replicates, p)."""
        return self.beta / self.se

    @cached_property
    def pvalues(self) -> np.ndarray:
        """Two-sided p values of Student's t with ``df``, shape (replicates, p)."""
        from scipy.special import stdtr

        return 2.0 * stdtr(self.df, -np.abs(self.tvalues))

    def conf_int(self, level: float = 0.95) -> np.ndarray:
        """Intervals of the fixed effects, shape (replicates, p, 2).

        Raises
        ------
        LmmError
            `level` does not lie between 0 and 1.
        """
        from scipy.special import stdtrit

        if not 0 < level < 1:
            raise LmmError(f"level must lie between 0 and 1, not {level!r}")
        half = stdtrit(self.df, 0.5 + level / 2) * self.se
        return np.stack([self.beta - half, self.beta + half], axis=-1)

    @cached_property
    def kenward_roger(self) -> KenwardRoger:
        """Kenward and Roger's adjusted covariance of the fixed effects, of each fit.

        Arrays with the replicates' axis first; NaN for a fit without estimates.

        Raises
        ------
        LmmError
            The fits are by ML, or a covariance structure is not linear in its parameters.
        """
        from lmmjax.many.kenward_roger import kenward_roger_of_many

        return kenward_roger_of_many(self)

    def contest(
        self, L: Any, rhs: Any = None, *, joint: bool = True, ddf: str = "satterthwaite"
    ) -> pd.DataFrame:
        """Test contrasts of the fixed effects in every fit.

        Parameters
        ----------
        L : str, sequence of str, or array of shape (q, p) or (p,)
            Hypotheses such as ``"time = 0"``, or their weights.
        rhs : float or array of shape (q,), optional
            Right-hand sides of weights given as numbers; 0 by default.
        joint : bool, default True
            All hypotheses by one F test, or each by a t test.
        ddf : {"satterthwaite", "kenward-roger", "asymptotic"}

        Returns
        -------
        pandas.DataFrame
            A row for each replicate (and hypothesis), with the columns of
            :meth:`LinearMixedModelResult.contest`, ``status`` and ``singular``.

        Raises
        ------
        LmmError
            A hypothesis cannot be read, or follows from the others; the method is not known.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> many = lj.fit_many(fit, fit.simulate(3, key=1))
        >>> many.contest("Days = 10", ddf="kenward-roger")["DenDF"].round(3).tolist()
        [17.0, 17.0, 17.0]
        """
        from lmmjax.many.contests import contest

        return contest(self, L, rhs, joint=joint, ddf=ddf)

    # --- variances -------------------------------------------------------------------------------

    @property
    def sigma(self) -> np.ndarray:
        """Residual standard deviations, shape (replicates,)."""
        return np.asarray(self.estimate.fixed.sigma)

    @cached_property
    def relative_factors(self) -> tuple[np.ndarray, ...]:
        """``Lambda`` of each term, lower-triangular, shape (replicates, k_t, k_t)."""
        out = []
        for factor, transform in zip(self.estimate.factors, self.prepared.transforms, strict=True):
            root = np.linalg.solve(transform, factor)
            # L with L L' = root root', from QR of root'.
            lower = np.swapaxes(np.linalg.qr(np.swapaxes(root, -1, -2), mode="r"), -1, -2)
            sign = np.where(np.diagonal(lower, axis1=-2, axis2=-1) < 0, -1.0, 1.0)
            out.append(lower * sign[:, None, :])
        return tuple(out)

    @cached_property
    def covariances(self) -> tuple[np.ndarray, ...]:
        """Covariance matrices of each term's random effects, shape (replicates, k_t, k_t)."""
        return tuple(
            self.sigma[:, None, None] ** 2 * (f @ np.swapaxes(f, -1, -2))
            for f in self.relative_factors
        )

    @cached_property
    def theta(self) -> np.ndarray:
        """Relative covariance parameters in lme4's order, shape (replicates, n_theta)."""
        parts, at_all = [], 0
        for bars, factor in zip(self.prepared.structures, self.relative_factors, strict=True):
            at = 0
            for structure in bars:
                own = factor[:, at : at + structure.size, at : at + structure.size]
                at += structure.size
                found = np.asarray(
                    self.estimate.solution.theta[:, at_all : at_all + structure.n_theta]
                )
                at_all += structure.n_theta
                if structure.equivariance != "none":
                    found = np.stack([structure.from_factor(f) for f in own])
                parts.append(found)
        return np.concatenate(parts, axis=1)

    @cached_property
    def singular(self) -> np.ndarray:
        """Whether a covariance matrix of random effects is singular, shape (replicates,).

        By the rule of a single fit's ``is_singular``: a relative Cholesky diagonal below 1e-4,
        for columns of unit scale.
        """
        bars = [found for *_, found in bars_at_boundary(self.prepared, self.estimate)]
        return np.any(bars, axis=0) if bars else np.zeros(len(self), bool)

    # --- tables ----------------------------------------------------------------------------------

    def frame(self) -> pd.DataFrame:
        """A row for each coefficient of each replicate.

        Returns
        -------
        pandas.DataFrame
            Columns ``replicate``, ``term``, ``estimate``, ``std_error``, ``df``, ``statistic``,
            ``p_value``, ``status``, ``singular``.
        """
        import pandas as pd

        count, p = self.beta.shape
        columns: dict[str, Any] = {
            "replicate": np.repeat(np.arange(count), p),
            "term": np.tile(np.array(self.names, dtype=object), count),
            "estimate": self.beta.ravel(),
            "std_error": self.se.ravel(),
            "df": self.df.ravel(),
            "statistic": self.tvalues.ravel(),
            "p_value": self.pvalues.ravel(),
            "status": np.repeat(self.status, p),
            "singular": np.repeat(self.singular, p),
        }
        return pd.DataFrame(columns)
