"""`lmm()`: formula and data frame to fitted model, the stages tied together."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from lmmjax.arguments import is_reml
from lmmjax.covariance import Covariance, Unstructured
from lmmjax.design import build_design
from lmmjax.errors import LmmError
from lmmjax.fitting import fit_response, prepare_design
from lmmjax.keywords import known_keywords
from lmmjax.likelihood.preparation import default_structures
from lmmjax.messages import warn_about
from lmmjax.optimize.external import check_optimizer
from lmmjax.result import LinearMixedModelResult

if TYPE_CHECKING:
    from lmmjax.design import Design, RandomTerm


@known_keywords
def lmm(
    formula: str,
    data: Any,
    *,
    method: Literal["REML", "ML"] = "REML",
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    covariance: Mapping[str, Any] | None = None,
    optimizer: Any = "newton",
    na_action: Literal["drop", "error"] = "drop",
    env: Mapping[str, Any] | None = None,
) -> LinearMixedModelResult:
    """Fit a linear mixed model.

    Parameters
    ----------
    formula : str
        lme4's syntax: ``"score ~ time + (1 + time | id)"``.
    data : pandas.DataFrame, mapping of arrays, or polars, pyarrow and other eager frames
        One row per observation. It is not copied where that can be avoided.
    method : {"REML", "ML"}, default "REML"
        Restricted or full maximum likelihood; small letters will do.
    weights : array, shape (number of rows,), or str, optional
        Prior weights (an array or a column's name): a row's residual variance is sigma² / weight.
    offset : array, shape (number of rows,), or str, optional
        A known part of the mean.
    contrasts : mapping of str to str, contrast or matrix, optional
        Contrasts of factors in the fixed effects, where not treatment contrasts:
        ``{"dose": "contr.sum"}``. Random slopes keep treatment contrasts, as in lme4.
    covariance : mapping of str to Covariance, optional
        For a grouping factor, by its name (``"Subject"``, ``"class:school"``), the structure of its
        random effects: a class or an instance from :mod:`lmmjax.covariance`, or a sequence with one
        for each bar. Factors that are not named get what lme4 fits.
    optimizer : default "newton"
        The minimiser; see :func:`lmmjax.fitting.fit_response`.
    na_action : {"drop", "error"}, default "drop"
        What to do with rows in which a value that the model uses is missing.
    env : mapping of str to function or constant, optional
        What the formula may use besides columns and the functions that it knows
        (:mod:`lmmjax.functions`): ``{"half": lambda x: x / 2}``. Nothing else is looked up.

    Returns
    -------
    LinearMixedModelResult
        The fit: print its ``summary()``.

    Raises
    ------
    FormulaError
        If the formula cannot be read.
    DataError
        If the data cannot be used.
    LmmError
        If an argument is not one of its choices.

    Warns
    -----
    SingularFitWarning
        A variance is estimated as zero, or a correlation as ±1.
    ConvergenceWarning
        The minimiser stopped early, or a direction had to be left out of the degrees of freedom.
    ModeWarning
        Another optimum lies within 2 of the criterion.
    RankWarning, DesignWarning, ScaleWarning
        See :func:`lmmjax.build_design`.

    Notes
    -----
    The criterion may have several optima, and what is reported is the best that five starts find.
    The first start is a moment estimate. Where its end is in doubt (it did not converge, a group is
    further out than it can explain, or it is singular on a design with few or uninformative
    groups), the fit is run again with all standard deviations at 0.3, 5, 20 and 100 times the
    residual's. Other fits are run once. The same holds for `refit`, `fit_many` and bootstraps;
    see docs/modes.md for what this misses.

    References
    ----------
    Bates, Mächler, Bolker & Walker (2015), J. Stat. Softw. 67(1), for the model and its formulas;
    Kuznetsova, Brockhoff & Christensen (2017), J. Stat. Softw. 82(13), for the tests.

    Examples
    --------
    >>> import lmmjax as lj
    >>> df = lj.datasets.load("sleepstudy")
    >>> fit = lj.lmm("Reaction ~ Days + (1 + Days | Subject)", df)
    >>> fit.fixef.round(3).to_dict()
    {'(Intercept)': 251.405, 'Days': 10.467}
    >>> print(fit.varcorr)
     Groups   Name        Std.Dev. Corr
     Subject  (Intercept) 24.7405
              Days         5.9221  0.066
     Residual             25.5918
    """
    reml = is_reml(method)
    check_optimizer(optimizer)
    design = build_design(
        formula,
        data,
        weights,
        offset,
        contrasts,
        na_action,
        env=env,
        structured=_structured(covariance),
    )
    prepared = prepare_design(design, _structures(design, covariance))
    raw = fit_response(prepared, design.y, reml=reml, optimizer=optimizer)
    fit = LinearMixedModelResult(design, raw, str(formula), _reference(data))
    warn_about(fit)
    return fit


def _reference(data: Any) -> Any:
    """The data, so that later changes of a pandas frame (copied on write) do not show through."""
    if type(data).__module__.startswith("pandas"):
        return data.copy(deep=False)
    return data


def _structured(covariance: Any) -> list[str]:
    """The grouping factors that are given a structure other than lme4's."""
    if not isinstance(covariance, Mapping):
        return []
    free = Unstructured
    return [name for name, s in covariance.items() if s is not free and not isinstance(s, free)]


def _structures(
    design: Design, covariance: Mapping[str, Any] | None
) -> list[tuple[Covariance, ...]] | None:
    """Each term's structures, None where all are the default."""
    if not covariance:
        return None
    if not isinstance(covariance, Mapping):
        raise LmmError(
            "covariance must map names of grouping factors to structures, as in "
            f"{{{design.terms[0].group!r}: lj.covariance.Diagonal}}, not {covariance!r}"
        )
    groups = [term.group for term in design.terms]
    for name in covariance:
        if name not in groups:
            raise LmmError(
                f"covariance names {name!r}, which is no grouping factor of the formula: they are "
                f"{', '.join(map(repr, groups))}"
            )
    return [
        _term_structures(term, covariance[term.group])
        if term.group in covariance
        else default_structures(term.blocks)
        for term in design.terms
    ]


def _term_structures(term: RandomTerm, given: Any) -> tuple[Covariance, ...]:
    """What is given for one term, as instances whose sizes add up to its columns."""
    columns = ", ".join(term.columns)
    if isinstance(given, Covariance):
        # One instance may span all bars of the factor.
        given = (given,)
    elif inspect.isclass(given) and issubclass(given, Covariance):
        given = (given,) * len(term.blocks)
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise LmmError(
            f"the covariance of {term.group!r} must be a class or an instance from "
            f"lmmjax.covariance, or a sequence of them, not {given!r}"
        )
    made = []
    for at, item in enumerate(given):
        if isinstance(item, Covariance):
            made.append(item)
        elif inspect.isclass(item) and issubclass(item, Covariance):
            if len(given) != len(term.blocks):
                raise LmmError(
                    f"{len(given)} covariance structures are given for {term.group!r}, which has "
                    f"{len(term.blocks)} bars (columns {columns}): give one for each"
                )
            made.append(item(term.blocks[at]))
        else:
            raise LmmError(
                f"the covariance of {term.group!r} holds {item!r}, which is no structure from "
                "lmmjax.covariance"
            )
    sizes = tuple(s.size for s in made)
    if sum(sizes) != len(term.columns):
        raise LmmError(
            f"the covariance of {term.group!r} is of size {' + '.join(map(str, sizes))}, but the "
            f"term has {len(term.columns)} columns: {columns}"
        )
    return tuple(made)
