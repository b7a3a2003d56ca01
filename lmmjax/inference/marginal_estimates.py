"""Means, slopes and contrasts of a fit, with their tests, intervals and joint tests.

They are linear functions of the fixed effects (see :mod:`.reference_grid`), carried as rows until a
table is asked for. Defaults are those of R's emmeans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.inference.contrasts import standard_errors_and_df
from lmmjax.inference.interaction_contrasts import (
    SimpleContrasts,
    interaction_contrasts,
    simple_contrasts,
)
from lmmjax.inference.joint_tests import JointTests, joint_table, joint_test
from lmmjax.inference.marginal_contrasts import contrasts_of
from lmmjax.inference.marginal_table import table_of
from lmmjax.inference.multiplicity import Family, check_adjustment, check_side
from lmmjax.inference.response_scale import Scale, check_back
from lmmjax.keywords import methods_know_keywords
from lmmjax.reading.coefficients import check_level, covariance_of
from lmmjax.reading.marginal_means import Shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from lmmjax.result import LinearMixedModelResult


@methods_know_keywords
@dataclass(frozen=True, eq=False, repr=False)
class MarginalEstimates(Shown):
    """Means, trends or contrasts of a fit: prints as in R's emmeans, and is a frame.

    Made by :meth:`LinearMixedModelResult.emmeans` and :meth:`LinearMixedModelResult.emtrends`, and
    by methods here.

    Attributes
    ----------
    fit : LinearMixedModelResult
    functions : ndarray, shape (m, p + r + 1)
        Rows as in :class:`ReferenceGrid`.
    labels : pandas.DataFrame, m rows
        What each row is of: levels, or a contrast's name.
    by : tuple of str
        Columns of `labels` whose levels stand apart.
    estimate_name : str
        ``"emmean"``, ``"Days.trend"``, ``"estimate"``.
    ddf : str
        Method of the degrees of freedom.
    averaged_over : tuple of str
    notes : tuple of str
        What to know before reading the numbers.
    level : float
        Of the intervals.
    adjust : str
    null : float
        What is tested.
    side : {-1, 0, 1}
    interval, tested : bool
        Whether the table has intervals, and tests.
    pairwise, size
        The family, as in :class:`Family`.
    scale : Scale or None
        The response's transformation, which the estimates are on.
    back : bool
        Whether the table is on the response's own scale.
    """

    fit: LinearMixedModelResult
    functions: np.ndarray
    labels: pd.DataFrame
    by: tuple[str, ...]
    estimate_name: str
    ddf: str
    averaged_over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    level: float = 0.95
    adjust: str = "none"
    null: float = 0.0
    side: int = 0
    interval: bool = True
    tested: bool = False
    pairwise: bool = False
    size: int = 0
    scale: Scale | None = None
    back: bool = False

    # --- numbers ---------------------------------------------------------------------------------

    @property
    def L(self) -> np.ndarray:
        """Weights of the fixed effects, shape (m, p)."""
        return self.functions[:, : self.fit.design.p]

    @property
    def offset(self) -> np.ndarray:
        """What is added to ``L beta``, shape (m,)."""
        return self.functions[:, -1]

    @cached_property
    def estimable(self) -> np.ndarray:
        """Whether the data determine each function, shape (m,)."""
        gap = self.functions[:, self.fit.design.p : -1]
        return np.all(np.isfinite(self.functions), axis=1) & np.all(np.abs(gap) < 1e-8, axis=1)

    @cached_property
    def estimates(self) -> np.ndarray:
        """Estimates, shape (m,); NaN where the data do not determine them."""
        return np.where(self.estimable, self.L @ self.fit.beta + self.offset, np.nan)

    @cached_property
    def errors_and_df(self) -> tuple[np.ndarray, np.ndarray]:
        """Standard errors and degrees of freedom, each of shape (m,)."""
        se, df = np.full((2, len(self.functions)), np.nan)
        # A function without any weight is known, and has no degrees of freedom.
        some = np.any(np.nan_to_num(self.L) != 0.0, axis=1)
        ok = self.estimable & some
        if ok.any():
            se[ok], df[ok] = standard_errors_and_df(self.fit, self.L[ok], self.ddf)
        se[self.estimable & ~some] = 0.0
        return se, df

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance matrix of the estimates, shape (m, m)."""
        if self.ddf == "kenward-roger":
            return self.fit.kenward_roger.covariance(self.L)
        return covariance_of(self.L, self.fit.raw.estimate.fixed)

    def groups(self, by: Sequence[str]) -> list[np.ndarray]:
        """Rows at each combination of the levels of `by`."""
        if not by:
            return [np.arange(len(self.labels))]
        keys: dict[tuple, list[int]] = {}
        for row, key in enumerate(self.labels[list(by)].itertuples(index=False, name=None)):
            keys.setdefault(key, []).append(row)
        return [np.array(rows) for rows in keys.values()]

    @cached_property
    def family(self) -> Family:
        """Which of the rows are judged together."""
        groups = self.groups(self.by)
        L = np.nan_to_num(self.L)
        # Coefficients may be in any units.
        size = np.abs(L).max(axis=0, initial=0.0)
        L = L / np.where(size > 0.0, size, 1.0)
        ranks = [np.linalg.matrix_rank(L[rows], tol=1e-7) for rows in groups]
        size = self.size or len(self.labels)
        return Family(tuple(groups), self.pairwise, size, tuple(map(int, ranks)))

    # --- the table -------------------------------------------------------------------------------

    @cached_property
    def _table(self) -> tuple[pd.DataFrame, tuple[str, ...]]:
        return table_of(self)

    @property
    def frame(self) -> pd.DataFrame:
        """The table: what the rows are of, the estimate, ``SE``, ``df``, then as asked for.

        Intervals are ``lower.CL`` and ``upper.CL``, tests ``t.ratio`` and ``p.value``; with the
        normal distribution ``asymp.LCL``, ``asymp.UCL`` and ``z.ratio``.
        """
        return self._table[0]

    @property
    def messages(self) -> tuple[str, ...]:
        """What stands under the table: averages, methods, adjustments."""
        return self._table[1]

    # --- other views -----------------------------------------------------------------------------

    def conf_int(self, level: float | None = None, adjust: str | None = None) -> MarginalEstimates:
        """The same with intervals.

        Parameters
        ----------
        level : float, optional
            As before by default (0.95).
        adjust : str, optional
            As in :meth:`test`. Intervals have an adjustment of their own for ``"tukey"``,
            ``"scheffe"``, ``"sidak"``, ``"dunnettx"`` and ``"bonferroni"``; for those that only
            order p values they take Bonferroni's.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("angle ~ recipe + temp + (1 | recipe:replicate)", lj.datasets.load("cake"))
        >>> fit.emmeans("recipe").pairs().conf_int()
         contrast estimate   SE df lower.CL upper.CL
         A - B      1.4778 2.46 42    -4.49     7.45
         A - C      1.5222 2.46 42    -4.45     7.49
         B - C      0.0444 2.46 42    -5.92     6.01
        <BLANKLINE>
        Degrees-of-freedom method: satterthwaite
        Confidence level used: 0.95
        Conf-level adjustment: tukey method for comparing a family of 3 estimates
        """
        return replace(
            self,
            interval=True,
            tested=False,
            level=self.level if level is None else check_level(level),
            adjust=self.adjust if adjust is None else check_adjustment(adjust),
        )

    def test(
        self,
        null: float = 0.0,
        *,
        adjust: str | None = None,
        side: str = "two-sided",
        joint: bool = False,
    ) -> MarginalEstimates | JointTests:
        """Test each of them, or all of them at once.

        Parameters
        ----------
        null : float, default 0
            What they are tested against.
        adjust : str, optional
            Adjustment of the p values within each table: ``"none"``, ``"tukey"`` (pairwise
            differences only, else Sidak's is taken, with a note), ``"scheffe"``, ``"sidak"``,
            ``"dunnettx"``, ``"bonferroni"``, ``"holm"``, ``"fdr"`` (Benjamini and Hochberg) or
            ``"fdr_by"``. As before by default: Tukey's for pairwise differences, none for means.
        side : {"two-sided", "<", ">"}, default "two-sided"
        joint : bool, default False
            Whether to test all rows (of each level of ``by``) in one F test.

        Returns
        -------
        MarginalEstimates or JointTests

        Raises
        ------
        LmmError
            An argument is not one of its choices, or nothing can be tested.

        Notes
        -----
        Joint tests are those of :meth:`LinearMixedModelResult.contest`, which are lmerTest's and
        pbkrtest's. R's emmeans takes the smallest of the single functions' df instead, and does
        not scale Kenward and Roger's F.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("angle ~ recipe * temp + (1 | recipe:replicate)", lj.datasets.load("cake"))
        >>> fit.emtrends("recipe", var="temp").pairs().test(joint=True)
         df1 df2 F.ratio p.value
           2 222   0.042  0.9592
        <BLANKLINE>
        df1 reduced due to linear dependence
        """
        null = float(null)
        if not np.isfinite(null):
            raise LmmError(f"null must be a finite number, not {null!r}")
        if joint:
            if side != "two-sided" or adjust not in (None, "none"):
                raise LmmError("a joint test is one two-sided test: it takes no side and no adjust")
            return self._joint(null)
        return replace(
            self,
            interval=False,
            tested=True,
            null=null,
            side=check_side(side),
            adjust=self.adjust if adjust is None else check_adjustment(adjust),
        )

    def summary(
        self, *, interval: bool = True, tested: bool = True, **kwargs: Any
    ) -> MarginalEstimates:
        """The same with intervals and tests side by side.

        Parameters
        ----------
        interval, tested : bool, default True
            Which to show.
        **kwargs
            ``null``, ``side`` and ``adjust`` of :meth:`test`, and ``level``.
        """
        level = check_level(kwargs.pop("level", self.level))
        shown = self.test(**kwargs)
        if not isinstance(shown, MarginalEstimates):
            raise LmmError("a joint test has no intervals: use test(joint=True)")
        return replace(shown, interval=interval, tested=tested, level=level)

    def response(self) -> MarginalEstimates:
        """The same on the response's own scale, where the model is of its logarithm or root.

        Means become medians of the response (of logarithms: geometric means), differences of
        logarithms become ratios. Standard errors are by the delta method; intervals are brought
        back as they are; tests stay where they were.

        Raises
        ------
        LmmError
            The response is not ``log``, ``log2``, ``log10``, ``log1p`` or ``sqrt`` of a column, or
            the estimates are contrasts that have no such form.

        Examples
        --------
        >>> import lmmjax as lj
        >>> sleep = lj.datasets.load("sleepstudy")
        >>> fit = lj.lmm("log(Reaction) ~ Days + (1 | Subject)", sleep)
        >>> fit.emmeans("Days", at={"Days": [0, 9]}).response()
         Days response    SE   df lower.CL upper.CL
            0      252  8.34 21.8      235      270
            9      341 11.29 21.8      319      366
        <BLANKLINE>
        Degrees-of-freedom method: satterthwaite
        Confidence level used: 0.95
        Intervals are back-transformed from the log scale
        """
        check_back(self.scale, self.fit.design.y_name)
        labels, name = self.labels, "response"
        if self.estimate_name in ("estimate", "ratio"):
            labels, name = labels.copy(), "ratio"
            column = next(c for c in labels.columns if c not in self.by)
            labels[column] = [text.replace(" - ", " / ") for text in labels[column]]
        return replace(self, labels=labels, estimate_name=name, back=True)

    def _joint(self, null: float) -> JointTests:
        rows, notes = [], []
        for group in self.groups(self.by):
            where = dict(zip(self.by, self.labels[list(self.by)].iloc[group[0]], strict=True))
            test = joint_test(self, group, null)
            rows.append({**where, **test.numbers})
            notes.append(test.notes)
        return joint_table(rows, notes)

    # --- contrasts -------------------------------------------------------------------------------

    def contrast(
        self,
        method: Any = "eff",
        *,
        by: str | Sequence[str] | None = None,
        adjust: str | None = None,
        ref: str | int | None = None,
        interaction: bool | str | Sequence[Any] | None = None,
        simple: str | Sequence[str] | None = None,
    ) -> MarginalEstimates | SimpleContrasts:
        """Contrasts between them.

        Parameters
        ----------
        method : str or mapping, default "eff"
            ``"pairwise"``: all differences. ``"revpairwise"``: the other way round.
            ``"trt.vs.ctrl"``: from a control, the first (``"trt.vs.ctrlk"``: the last) or `ref`.
            ``"consec"``: between neighbours. ``"eff"``: from their mean; ``"del.eff"``: from the
            mean of the others. ``"poly"``: orthogonal polynomials. ``"identity"``: themselves. Or
            contrasts by name, each by its weights or by a mapping of levels to weights:
            ``{"A vs others": [1, -0.5, -0.5]}``.
        by : str or sequence of str, optional
            Columns within whose levels to contrast; as before by default, ``[]`` for none.
        adjust : str, optional
            As in :meth:`test`. By default Tukey's for pairwise differences, ``"dunnettx"`` for
            those from a control, the false discovery rate for effects, Sidak's between neighbours
            (R's emmeans has the multivariate t there, which is not available here), else none.
        ref : str or int, optional
            The control.
        interaction : bool, str or sequence, optional
            Contrasts of contrasts: a method for each factor that is not in `by`, in their order
            (``["poly", "pairwise"]``), one for all, or True for `method` in all. Their p values
            are not adjusted unless asked for.
        simple : str or sequence of str, optional
            Factors whose levels to contrast at each combination of all others. ``"each"``: each
            factor in turn.

        Returns
        -------
        MarginalEstimates
            With tests; :meth:`conf_int` has the intervals. For ``simple="each"`` a dict of them,
            by factor.

        Raises
        ------
        LmmError
            The method or a level is unknown, or the tables of `by` differ in size.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("angle ~ recipe + temp + (1 | recipe:replicate)", lj.datasets.load("cake"))
        >>> fit.emmeans("recipe").contrast({"A vs others": {"A": 1, "B": -0.5, "C": -0.5}})
         contrast    estimate   SE df t.ratio p.value
         A vs others      1.5 2.13 42   0.705  0.4846
        <BLANKLINE>
        Degrees-of-freedom method: satterthwaite
        """
        if interaction is not None and interaction is not False:
            if simple is not None or ref is not None:
                raise LmmError("interaction= goes with neither simple= nor ref=")
            return interaction_contrasts(self, method, interaction, by=by, adjust=adjust)
        if simple is not None:
            if by is not None:
                raise LmmError("simple= says what is contrasted, by= within what: give one")
            return simple_contrasts(self, method, simple, adjust=adjust, ref=ref)
        return contrasts_of(self, method, by=by, adjust=adjust, ref=ref)

    def pairs(
        self,
        adjust: str | None = None,
        *,
        reverse: bool = False,
        by: str | Sequence[str] | None = None,
        simple: str | Sequence[str] | None = None,
    ) -> MarginalEstimates | SimpleContrasts:
        """All pairwise differences, by Tukey's method unless told otherwise.

        Parameters
        ----------
        adjust, by, simple
            As in :meth:`contrast`.
        reverse : bool, default False
            Whether to subtract the earlier from the later.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("angle ~ recipe + temp + (1 | recipe:replicate)", lj.datasets.load("cake"))
        >>> fit.emmeans("recipe").pairs()
         contrast estimate   SE df t.ratio p.value
         A - B      1.4778 2.46 42   0.602  0.8200
         A - C      1.5222 2.46 42   0.620  0.8102
         B - C      0.0444 2.46 42   0.018  0.9998
        <BLANKLINE>
        Degrees-of-freedom method: satterthwaite
        P value adjustment: tukey method for comparing a family of 3 estimates
        """
        method = "revpairwise" if reverse else "pairwise"
        return self.contrast(method, by=by, adjust=adjust, simple=simple)

    def plot(self, *, figure: Any = None, units: Mapping[str, str] | None = None) -> Figure:
        """Draw the estimates with their intervals; :func:`lmmjax.plot.means`."""
        from lmmjax.plot.means import means

        return means(self, figure=figure, units=units)
