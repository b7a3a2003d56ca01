"""Model formulas: text to FormulaSpec.

Random-effects terms (bars) and offsets are cut out of a formula; what remains of the fixed part
stays text, in R's spelling. The grammar itself is in :mod:`lmmjax.parser`, the meaning of terms in
:mod:`lmmjax.terms`, the names that calls may use in :mod:`lmmjax.functions`.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache

from .errors import FormulaError
from .expressions import quote

#: Characters beyond which a text is no formula.
MAX_LENGTH = 100_000


@dataclass(frozen=True)
class Bar:
    """One random-effects term ``(lhs | group)``, nesting already expanded.

    Attributes
    ----------
    lhs : str
        The left side with its intercept written out: ``"1 + Days"``, ``"0 + Days"``.
    group : tuple of str
        Columns whose observed combinations are the levels: ``("Subject",)``, ``("cask", "batch")``.
    correlated : bool
        False for ``||``: every column of the left side gets its own variance, no correlations.
    names : tuple of str
        Names in `lhs` that are (or, inside calls, may be) columns.
    original : str
        The term as written, before ``a/b`` was expanded; not part of equality.
    """

    lhs: str
    group: tuple[str, ...]
    correlated: bool = True
    names: tuple[str, ...] = field(default=(), compare=False)
    original: str = field(default="", compare=False)

    @property
    def group_name(self) -> str:
        """The grouping factor's name: ``"Subject"``, ``"cask:batch"``."""
        return ":".join(self.group)

    def __str__(self) -> str:
        bar = "|" if self.correlated else "||"
        return f"({self.lhs} {bar} {':'.join(map(quote, self.group))})"


@dataclass(frozen=True)
class FormulaSpec:
    """A parsed formula; ``str(spec)`` is a formula again.

    Attributes
    ----------
    response : str
        The left side: ``"Reaction"``, ``"log(y)"``.
    fixed : str
        The fixed part, its intercept written out: ``"1 + Days"``.
    bars : tuple of Bar
        Random-effects terms in the order written, ``a/b`` expanded to ``b:a`` and ``a``.
    offsets : tuple of str
        Arguments of ``offset(...)`` terms; they are added.
    response_names, names : tuple of str
        Names that are (or, inside calls, may be) columns: in the response, and in the fixed part
        and the offsets.

    Examples
    --------
    >>> spec = parse("y ~ (x | school/class) + x")
    >>> spec.fixed
    '1 + x'
    >>> [str(bar) for bar in spec.bars]
    ['(1 + x | class:school)', '(1 + x | school)']
    >>> print(spec)
    y ~ 1 + x + (1 + x | school/class)
    """

    response: str
    fixed: str
    bars: tuple[Bar, ...]
    offsets: tuple[str, ...] = ()
    response_names: tuple[str, ...] = field(default=(), compare=False)
    names: tuple[str, ...] = field(default=(), compare=False)

    @property
    def variables(self) -> tuple[str, ...]:
        """Every name that is (or, inside calls, may be) a column, in order of appearance."""
        found = dict.fromkeys(self.response_names + self.names)
        for bar in self.bars:
            found.update(dict.fromkeys(bar.names + bar.group))
        return tuple(found)

    def __str__(self) -> str:
        terms = [self.fixed, *(f"offset({o})" for o in self.offsets)]
        terms += dict.fromkeys(bar.original or str(bar) for bar in self.bars)
        return f"{self.response} ~ {' + '.join(terms)}"


def write_factor(factor: str, columns: Collection[str]) -> str:
    """Write a variable of a term, or an expression, so that it reads as one again.

    Examples
    --------
    >>> [write_factor(f, {"x", "a b"}) for f in ("x", "a b", "log(x)", "x + 1")]
    ['x', '`a b`', 'log(x)', '{x + 1}']
    """
    if factor in columns:
        return quote(factor)
    from .parser import reads_as_factor

    return factor if reads_as_factor(factor) else f"{{{factor}}}"


@lru_cache(maxsize=512)
def parse(formula: str) -> FormulaSpec:
    """Parse a mixed-model formula.

    Parameters
    ----------
    formula : str
        lme4's syntax: ``"y ~ x + (1 + x | g)"``.

    Returns
    -------
    FormulaSpec
        Frozen and hashable; repeated calls with one text return one object.

    Raises
    ------
    FormulaError
        With a caret under the offending piece and what to write instead.

    Notes
    -----
    The grammar of random-effects terms is that of Bates, Mächler, Bolker & Walker (2015), "Fitting
    linear mixed-effects models using lme4", J. Stat. Softw. 67(1), section 2.1. Differences:
    ``(f || g)`` gives every column of a factor `f` its own variance, and ``a/b/c`` names its finest
    factor ``c:b:a``.

    Examples
    --------
    >>> spec = parse("Reaction ~ Days + (Days || Subject)")
    >>> spec.response, spec.fixed, str(spec.bars[0])
    ('Reaction', '1 + Days', '(1 + Days || Subject)')
    """
    if not isinstance(formula, str):
        raise FormulaError(f"a formula is a string, not {type(formula).__name__}")
    if not formula.strip():
        raise FormulaError("the formula is empty: write y ~ x + (1 | group)")
    if len(formula) > MAX_LENGTH:
        raise FormulaError(
            f"the formula has {len(formula):,} characters: up to {MAX_LENGTH:,} are read"
        )
    from .parser import read_formula

    return read_formula(formula)
