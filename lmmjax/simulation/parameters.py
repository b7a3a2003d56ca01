"""True parameters of a model, given as people think of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lmmjax.errors import LmmError
from lmmjax.likelihood.pytree import register, static
from lmmjax.simulation.given import (
    correlation_matrix,
    covariance_factor,
    listed,
    put_named,
    read_by_group,
    read_correlations,
    read_deviations,
    read_matrix,
    read_sigma,
    read_vector,
)

if TYPE_CHECKING:
    from lmmjax.design import Design
    from lmmjax.estimates import Estimates


@register
@dataclass(frozen=True, eq=False, repr=False)
class TrueParameters:
    """What data are simulated from; a pytree, whose leaves are the numbers.

    Made by :meth:`for_design` or :meth:`from_fit`; the other methods give a changed copy. They
    serve any design with the same names: :meth:`aligned`.

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
            beta = put_named(beta, x_names, fixed, "fixed effect", "coefficients")
        elif fixed is not None:
            beta = read_vector(fixed, x_names, "fixed effects")
        sds = read_by_group(sd, groups, columns, "sd")
        correlations = read_by_group(correlation, groups, columns, "correlation")
        covariances = read_by_group(covariance, groups, columns, "covariance")
        factors = []
        for group, names, sizes in zip(groups, columns, blocks, strict=True):
            if group in covariances:
                if group in sds or group in correlations:
                    raise LmmError(
                        f"the covariance of {group!r} is given, so its sd and correlation are not "
                        "to be given too"
                    )
                matrix = read_matrix(covariances[group], names, f"the covariance of {group!r}")
            elif group in sds:
                s = read_deviations(sds[group], group, names)
                matrix = s[:, None] * read_correlations(correlations.get(group), group, names) * s
            else:
                raise LmmError(
                    f"the random effects of {group!r} ({listed(names)}) need standard deviations: "
                    f"sd={{{group!r}: {{{', '.join(f'{name!r}: ...' for name in names)}}}}}, or "
                    "covariance="
                )
            factors.append(covariance_factor(matrix, group, names, sizes))
        return cls(beta, tuple(factors), read_sigma(sigma), x_names, groups, columns, blocks)

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
        beta = put_named(
            np.array(self.beta, np.float64), self.x_names, given, "fixed effect", "coefficients"
        )
        return replace(self, beta=beta)

    def with_sigma(self, sigma: float) -> TrueParameters:
        """Another residual standard deviation."""
        return replace(self, sigma=read_sigma(sigma))

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
        given = read_by_group(sd, self.groups, self.columns, "sd")
        factors = []
        for group, names, factor, sizes in zip(
            self.groups, self.columns, self.factors, self.blocks, strict=True
        ):
            if group in given:
                old = np.array(list(self.sd[group].values()))
                new = read_deviations(given[group], group, names, old)
                corr = correlation_matrix(factor)
                factor = covariance_factor(new[:, None] * corr * new, group, names, sizes)
            factors.append(factor)
        return replace(self, factors=tuple(factors))

    def with_correlation(self, correlation: Any) -> TrueParameters:
        """Other correlations, as in :meth:`for_design`; standard deviations stay."""
        given = read_by_group(correlation, self.groups, self.columns, "correlation")
        factors = []
        for group, names, factor, sizes in zip(
            self.groups, self.columns, self.factors, self.blocks, strict=True
        ):
            if group in given:
                s = np.array(list(self.sd[group].values()))
                corr = read_correlations(given[group], group, names, correlation_matrix(factor))
                factor = covariance_factor(s[:, None] * corr * s, group, names, sizes)
            factors.append(factor)
        return replace(self, factors=tuple(factors))

    # --- matching --------------------------------------------------------------------------------

    def aligned(self, design: Design) -> TrueParameters:
        """The same parameters in the order of a design, matched by name.

        A design sorts its grouping factors by their number of levels, so parameters of a pilot can
        stand in another order than a larger design of the same formula. Every function that takes a
        :class:`Design` and parameters calls this; pure functions of arrays go by position, and
        need it called before.

        Parameters
        ----------
        design : Design
            Its coefficients, grouping factors and effects, in its order.

        Returns
        -------
        TrueParameters
            The object itself if the order is that already.

        Raises
        ------
        LmmError
            A name is missing or unknown, or effects are correlated that the design keeps
            independent.

        Examples
        --------
        >>> import lmmjax as lj
        >>> def design(subjects):
        ...     frame = lj.simulate_design({"subject": subjects}, crossed={"item": 10})
        ...     return lj.Design.from_formula("~ 1 + (1 | subject) + (1 | item)", frame)
        >>> pilot, larger = design(8), design(30)
        >>> truth = lj.TrueParameters.for_design(pilot, sd={"subject": 5, "item": 0.5}, sigma=1)
        >>> truth.groups, truth.aligned(larger).groups
        (('item', 'subject'), ('subject', 'item'))
        """
        x_names = tuple(design.x_names)
        groups = tuple(term.group for term in design.terms)
        columns = tuple(tuple(term.columns) for term in design.terms)
        blocks = tuple(tuple(term.blocks) for term in design.terms)
        if (self.x_names, self.groups, self.columns, self.blocks) == (
            x_names,
            groups,
            columns,
            blocks,
        ):
            return self
        order = _order(self.x_names, x_names, "coefficient")
        places = _order(self.groups, groups, "grouping factor")
        factors = []
        for place, group, names, sizes in zip(places, groups, columns, blocks, strict=True):
            own = _order(self.columns[place], names, "random effect", f" of {group!r}")
            factor = self.factors[place]
            if self.columns[place] != names or self.blocks[place] != sizes:
                # Rows in another order are no triangle any more.
                rows = np.asarray(factor)[own]
                factor = covariance_factor(rows @ rows.T, group, names, sizes)
            factors.append(factor)
        beta = self.beta if self.x_names == x_names else self.beta[np.array(order, np.int32)]
        return type(self)(beta, tuple(factors), self.sigma, x_names, groups, columns, blocks)

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
        return {g: correlation_matrix(f) for g, f in zip(self.groups, self.factors, strict=True)}

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
            return f"TrueParameters({listed(self.x_names)}; {listed(self.groups)})"
        return f"TrueParameters\n{self}"


def aligned_parameters(parameters: Any, design: Design) -> TrueParameters:
    """What a user gives as true parameters, checked and in a design's order.

    Raises
    ------
    LmmError
        They are no :class:`TrueParameters`, or those of another model.
    """
    if not isinstance(parameters, TrueParameters):
        raise LmmError(
            "parameters must be lj.TrueParameters (TrueParameters.for_design, or "
            f"TrueParameters.from_fit), not {type(parameters).__name__}"
        )
    return parameters.aligned(design)


def _order(given: tuple[str, ...], wanted: tuple[str, ...], what: str, of: str = "") -> list[int]:
    """Where each wanted name stands among the given ones, which must be the same names."""
    for name in wanted:
        if name not in given:
            raise LmmError(
                f"the parameters lack the {what} {name!r}{of} of the design; they have "
                f"{listed(given) or 'none'}. Make them of this design: "
                "lj.TrueParameters.for_design(design, ...)"
            )
    for name in given:
        if name not in wanted:
            raise LmmError(
                f"the parameters have the {what} {name!r}{of}, which the design does not have; it "
                f"has {listed(wanted) or 'none'}"
            )
    return [given.index(name) for name in wanted]
