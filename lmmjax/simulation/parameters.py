"""True parameters of a model, given as people think of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.covariance import canonical_factor
from lmmjax.errors import LmmError
from lmmjax.likelihood.pytree import register, static

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.estimates import Estimates

#: A correlation matrix may miss being semidefinite by this much, for rounding.
PSD_TOL = 1e-8


@register
@dataclass(frozen=True, eq=False, repr=False)
class TrueParameters:
    """What data are simulated from; a pytree, whose leaves are the numbers.

    Made by :meth:`for_design` or :meth:`from_fit`; the other methods give a changed copy.

    Attributes
    ----------
    beta : ndarray, shape (p,)
        Fixed effects.
    factors : tuple of ndarray, each (k_t, k_t)
        Lower-triangular ``L_t`` of each term: a level's effects have covariance ``L_t L_t'``, in
        units of the response.
    sigma : float
        Residual standard deviation (of a row of weight 1).
    x_names : tuple of str
        Names of the coefficients.
    groups : tuple of str
        Names of the grouping factors.
    columns : tuple of tuple of str
        Names of each term's effects.
    blocks : tuple of tuple of int
        Sizes of each term's blocks of correlated effects.

    Examples
    --------
    >>> import lmmjax as lj
    >>> frame = lj.simulate_design({"id": 50}, within={"time": range(5)})
    >>> design = lj.Design.from_formula("score ~ time + (1 + time | id)", frame)
    >>> truth = lj.TrueParameters.for_design(
    ...     design,
    ...     fixed={"(Intercept)": 50, "time": 3},
    ...     sd={"id": {"(Intercept)": 10, "time": 2}},
    ...     correlation={"id": 0.25},
    ...     sigma=5,
    ... )
    >>> truth
    TrueParameters
     Groups   Name        Std.Dev. Corr
     id       (Intercept) 10
              time         2       0.250
     Residual              5
     Fixed effects: (Intercept) = 50, time = 3
    >>> truth.with_fixed(time=1).fixed
    {'(Intercept)': 50.0, 'time': 1.0}
    """

    beta: Any
    factors: tuple[Any, ...]
    sigma: Any
    x_names: tuple[str, ...] = static()
    groups: tuple[str, ...] = static()
    columns: tuple[tuple[str, ...], ...] = static()
    blocks: tuple[tuple[int, ...], ...] = static()

    # --- making ----------------------------------------------------------------------------------

    @classmethod
    def for_design(
        cls,
        design: Design,
        fixed: Mapping[str, float] | Sequence[float] | None = None,
        sd: Any = None,
        correlation: Any = None,
        covariance: Any = None,
        *,
        sigma: float,
    ) -> TrueParameters:
        """Parameters of a design's model.

        Parameters
        ----------
        design : Design
            Names the coefficients, grouping factors and effects.
        fixed : {name: value} or sequence of p values, optional
            Fixed effects; those that are not named are 0.
        sd : mapping, optional
            Standard deviations of the random effects, by grouping factor: a mapping by effect, a
            sequence in order, or a number for a single effect. With one grouping factor its name
            may be left out.
        correlation : mapping, optional
            By grouping factor: one number for all pairs, a matrix of shape (k, k), or a mapping
            ``{("(Intercept)", "time"): 0.25}``; 0 where nothing is said. With one grouping factor
            its name may be left out.
        covariance : mapping, optional
            Covariance matrices, shape (k, k), by grouping factor, for those that have no `sd`.
        sigma : float
            Residual standard deviation.

        Returns
        -------
        TrueParameters

        Raises
        ------
        LmmError
            For a name that the model does not have, a wrong number of values, or numbers that are
            no covariance matrix; it lists the right names.
        """
        x_names = design.x_names
        groups = tuple(term.group for term in design.terms)
        columns = tuple(term.columns for term in design.terms)
        blocks = tuple(term.blocks for term in design.terms)
        beta = np.zeros(len(x_names))
        if isinstance(fixed, Mapping):
            beta = _put_named(beta, x_names, fixed, "fixed effect", "coefficients")
        elif fixed is not None:
            beta = _vector(fixed, x_names, "fixed effects")
        sds = _by_group(sd, groups, columns, "sd")
        correlations = _by_group(correlation, groups, columns, "correlation")
        covariances = _by_group(covariance, groups, columns, "covariance")
        factors = []
        for group, names, sizes in zip(groups, columns, blocks, strict=True):
            if group in covariances:
                if group in sds or group in correlations:
                    raise LmmError(
                        f"the covariance of {group!r} is given, so its sd and correlation are not "
                        "to be given too"
                    )
                matrix = _matrix(covariances[group], names, f"the covariance of {group!r}")
            elif group in sds:
                s = _deviations(sds[group], group, names)
                matrix = s[:, None] * _correlations(correlations.get(group), group, names) * s
            else:
                raise LmmError(
                    f"the random effects of {group!r} ({_list(names)}) need standard deviations: "
                    f"sd={{{group!r}: {{{', '.join(f'{name!r}: ...' for name in names)}}}}}, or "
                    "covariance="
                )
            factors.append(_factor(matrix, group, names, sizes))
        return cls(beta, tuple(factors), _sigma(sigma), x_names, groups, columns, blocks)

    @classmethod
    def from_fit(cls, fit: Estimates) -> TrueParameters:
        """The estimates of a fit, as if they were the truth.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
        >>> lj.TrueParameters.from_fit(fit).beta.round(2)
        array([1527.5])
        """
        terms = fit.design.terms
        return cls(
            np.array(fit.beta),
            tuple(fit.sigma * factor for factor in fit.raw.factors),
            np.asarray(fit.sigma),
            fit.design.x_names,
            tuple(term.group for term in terms),
            tuple(term.columns for term in terms),
            tuple(term.blocks for term in terms),
        )

    # --- changing --------------------------------------------------------------------------------

    def with_fixed(
        self, values: Mapping[str, float] | None = None, /, **named: float
    ) -> TrueParameters:
        """Other values for some fixed effects, in a mapping or by keyword.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> truth = lj.TrueParameters.from_fit(fit).with_fixed({"(Intercept)": 250}, Days=5)
        >>> truth.fixed
        {'(Intercept)': 250.0, 'Days': 5.0}
        """
        given = {**(values or {}), **named}
        beta = _put_named(
            np.array(self.beta, np.float64), self.x_names, given, "fixed effect", "coefficients"
        )
        return replace(self, beta=beta)

    def with_sigma(self, sigma: float) -> TrueParameters:
        """Another residual standard deviation."""
        return replace(self, sigma=_sigma(sigma))

    def with_sd(self, sd: Any) -> TrueParameters:
        """Other standard deviations of some random effects; correlations stay.

        Parameters
        ----------
        sd : mapping
            As in :meth:`for_design`; what is not named stays.

        Examples
        --------
        >>> import lmmjax as lj
        >>> fit = lj.lmm("Reaction ~ Days + (Days | Subject)", lj.datasets.load("sleepstudy"))
        >>> truth = lj.TrueParameters.from_fit(fit).with_sd({"Subject": {"Days": 3}})
        >>> {name: round(sd, 2) for name, sd in truth.sd["Subject"].items()}
        {'(Intercept)': 24.74, 'Days': 3.0}
        """
        given = _by_group(sd, self.groups, self.columns, "sd")
        factors = []
        for group, names, factor, sizes in zip(
            self.groups, self.columns, self.factors, self.blocks, strict=True
        ):
            if group in given:
                old = np.array(list(self.sd[group].values()))
                new = _deviations(given[group], group, names, old)
                corr = _correlation_matrix(factor)
                factor = _factor(new[:, None] * corr * new, group, names, sizes)
            factors.append(factor)
        return replace(self, factors=tuple(factors))

    def with_correlation(self, correlation: Any) -> TrueParameters:
        """Other correlations, as in :meth:`for_design`; standard deviations stay."""
        given = _by_group(correlation, self.groups, self.columns, "correlation")
        factors = []
        for group, names, factor, sizes in zip(
            self.groups, self.columns, self.factors, self.blocks, strict=True
        ):
            if group in given:
                s = np.array(list(self.sd[group].values()))
                corr = _correlations(given[group], group, names, _correlation_matrix(factor))
                factor = _factor(s[:, None] * corr * s, group, names, sizes)
            factors.append(factor)
        return replace(self, factors=tuple(factors))

    # --- reading ---------------------------------------------------------------------------------

    @property
    def fixed(self) -> dict[str, float]:
        """Fixed effects by name."""
        return dict(zip(self.x_names, np.asarray(self.beta).tolist(), strict=True))

    @property
    def covariance(self) -> dict[str, np.ndarray]:
        """Covariance matrix of the effects of each grouping factor."""
        return {g: np.asarray(f @ f.T) for g, f in zip(self.groups, self.factors, strict=True)}

    @property
    def sd(self) -> dict[str, dict[str, float]]:
        """Standard deviations by grouping factor and effect."""
        return {
            group: dict(zip(names, np.linalg.norm(factor, axis=1).tolist(), strict=True))
            for group, names, factor in zip(self.groups, self.columns, self.factors, strict=True)
        }

    @property
    def correlation(self) -> dict[str, np.ndarray]:
        """Correlation matrix of the effects of each grouping factor; 0 beside a zero variance."""
        return {g: _correlation_matrix(f) for g, f in zip(self.groups, self.factors, strict=True)}

    @property
    def relative_factors(self) -> tuple[Any, ...]:
        """``Lambda_t = L_t / sigma``, what a fit's theta describes."""
        return tuple(factor / self.sigma for factor in self.factors)

    def __str__(self) -> str:
        from lmmjax.reading.varcorr import VarCorr, VarCorrBlock

        made: list[VarCorrBlock] = []
        for group, names, matrix, sizes in zip(
            self.groups, self.columns, self.covariance.values(), self.blocks, strict=True
        ):
            at = 0
            for count, size in enumerate(sizes):
                own = slice(at, at + size)
                label = f"{group}.{count}" if count else group
                made.append(VarCorrBlock(group, label, names[own], matrix[own, own]))
                at += size
        lines = VarCorr(tuple(made), float(self.sigma)).lines()
        effects = ", ".join(f"{name} = {value:.6g}" for name, value in self.fixed.items())
        return "\n".join([*lines, f" Fixed effects: {effects or 'none'}"])

    def __repr__(self) -> str:
        # Inside a trace there are no numbers to show.
        if not isinstance(self.sigma, (float, int, np.ndarray, np.generic)):
            return f"TrueParameters({_list(self.x_names)}; {_list(self.groups)})"
        return f"TrueParameters\n{self}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")


def _number(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise LmmError(f"{what} must be a finite number, not {value!r}")
    return number


def _sigma(value: Any) -> np.ndarray:
    number = _number(value, "sigma")
    if number <= 0:
        raise LmmError(f"sigma must be positive, not {value!r}")
    return np.asarray(number)


def _put_named(
    vector: np.ndarray, names: Sequence[str], given: Mapping[str, Any], what: str, whose: str
) -> np.ndarray:
    """`vector` with the given values at the places of their names."""
    for name, value in given.items():
        if name not in names:
            raise LmmError(f"there is no {what} {name!r}; the {whose} are {_list(names)}")
        vector[names.index(name)] = _number(value, f"the {what} {name!r}")
    return vector


def _vector(given: Any, names: Sequence[str], what: str) -> np.ndarray:
    try:
        vector = np.atleast_1d(np.array(given, np.float64))
    except (TypeError, ValueError):
        raise LmmError(f"the {what} must be numbers, not {given!r}") from None
    if vector.shape != (len(names),) or not np.all(np.isfinite(vector)):
        raise LmmError(
            f"the {what} must be {len(names)} finite numbers, for {_list(names)}; found {given!r}"
        )
    return vector


def _by_group(
    given: Any, groups: tuple[str, ...], columns: tuple[tuple[str, ...], ...], what: str
) -> dict[str, Any]:
    """What is given for each grouping factor; a single one need not be named."""
    if given is None:
        return {}
    named = isinstance(given, Mapping)
    if named and all(key in groups for key in given):
        return dict(given)
    if len(groups) == 1:
        # By effect (or pair of effects) at once; a wrong name is found there.
        inner = {*columns[0]}
        if not named or any(
            key in inner or (isinstance(key, tuple) and inner.intersection(key)) for key in given
        ):
            return {groups[0]: given}
    if not named:
        raise LmmError(f"{what} must be a mapping by grouping factor: {_list(groups)}")
    wrong = next(key for key in given if key not in groups)
    raise LmmError(
        f"{what} names the grouping factor {wrong!r}, which the model does not have; it has "
        f"{_list(groups)}"
    )


def _deviations(
    given: Any, group: str, names: tuple[str, ...], old: np.ndarray | None = None
) -> np.ndarray:
    if isinstance(given, Mapping):
        start = np.full(len(names), np.nan) if old is None else old
        sds = _put_named(start, names, given, f"random effect of {group!r}", "effects")
        if np.isnan(sds).any():
            lost = [name for name, value in zip(names, sds, strict=True) if np.isnan(value)]
            raise LmmError(f"the sd of {group!r} lacks {_list(lost)} (0 is possible)")
    else:
        sds = _vector(given, names, f"sds of {group!r}")
    if sds.min(initial=0.0) < 0:
        raise LmmError(f"standard deviations cannot be negative: {group!r} has {sds.min():g}")
    return sds


def _correlations(
    given: Any, group: str, names: tuple[str, ...], old: np.ndarray | None = None
) -> np.ndarray:
    k = len(names)
    out = np.eye(k) if old is None else old.copy()
    if given is None:
        return out
    if isinstance(given, Mapping):
        for pair, value in given.items():
            if not isinstance(pair, tuple) or len(pair) != 2 or pair[0] == pair[1]:
                raise LmmError(
                    f"correlations of {group!r} go by pairs of effects, as "
                    f"{{({names[0]!r}, {names[-1]!r}): 0.5}}, not {pair!r}"
                )
            for name in pair:
                if name not in names:
                    raise LmmError(
                        f"there is no random effect {name!r} of {group!r}; the effects are "
                        f"{_list(names)}"
                    )
            i, j = (names.index(name) for name in pair)
            out[i, j] = out[j, i] = _number(value, f"the correlation of {pair[0]!r}, {pair[1]!r}")
    elif np.ndim(given) == 0:
        value = _number(given, f"the correlation of {group!r}")
        out = np.full((k, k), value)
        np.fill_diagonal(out, 1.0)
    else:
        out = _matrix(given, names, f"the correlation of {group!r}")
        if not np.allclose(np.diagonal(out), 1.0):
            raise LmmError(f"the correlation matrix of {group!r} must have ones on its diagonal")
    if np.abs(out).max(initial=0.0) > 1 + PSD_TOL:
        raise LmmError(f"correlations lie between -1 and 1: {group!r} has {np.abs(out).max():g}")
    return out


def _matrix(given: Any, names: tuple[str, ...], what: str) -> np.ndarray:
    k = len(names)
    try:
        matrix = np.array(given, np.float64)
    except (TypeError, ValueError):
        raise LmmError(f"{what} must be a matrix of numbers, not {given!r}") from None
    if matrix.shape != (k, k) and k == 1 and matrix.size == 1:
        matrix = matrix.reshape(1, 1)
    if matrix.shape != (k, k):
        raise LmmError(f"{what} must have shape ({k}, {k}), for {_list(names)}, not {matrix.shape}")
    if not np.all(np.isfinite(matrix)) or not np.allclose(matrix, matrix.T):
        raise LmmError(f"{what} must be finite and symmetric")
    return 0.5 * (matrix + matrix.T)


def _correlation_matrix(factor: Any) -> np.ndarray:
    length = np.linalg.norm(factor, axis=1)
    unit = np.asarray(factor) / np.where(length > 0, length, 1.0)[:, None]
    corr = unit @ unit.T
    np.fill_diagonal(corr, 1.0)
    return corr


def _factor(
    matrix: np.ndarray, group: str, names: tuple[str, ...], sizes: tuple[int, ...]
) -> np.ndarray:
    """Lower-triangular factor of a covariance matrix, block by block; it may be singular."""
    scale = np.sqrt(np.abs(np.diagonal(matrix)))
    factor = np.zeros_like(matrix)
    block = np.repeat(np.arange(len(sizes)), sizes)
    outside = np.where(block[:, None] == block, 0.0, matrix)
    if np.any(np.abs(outside) > PSD_TOL * np.outer(scale, scale)):
        i, j = np.unravel_index(np.argmax(np.abs(outside)), outside.shape)
        raise LmmError(
            f"the formula keeps {names[i]!r} and {names[j]!r} of {group!r} independent: they "
            "cannot be correlated"
        )
    unit = matrix / np.outer(np.where(scale > 0, scale, 1.0), np.where(scale > 0, scale, 1.0))
    at = 0
    for size in sizes:
        own = slice(at, at + size)
        values, vectors = np.linalg.eigh(unit[own, own])
        if values[0] < -PSD_TOL:
            raise LmmError(
                f"the random effects of {group!r} have no such covariance: the matrix of "
                f"{_list(names[own])} has a negative eigenvalue ({values[0]:.3g} in correlations)"
            )
        if values[0] > PSD_TOL:
            factor[own, own] = scale[own, None] * np.linalg.cholesky(unit[own, own])
        else:
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            factor[own, own] = canonical_factor(scale[own, None] * root)
        at += size
    return factor
