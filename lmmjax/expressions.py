"""What stands inside calls: ``log(x)``, ``I(x^2)``, ``poly(x, 2, raw = TRUE)``, the response.

R's expressions are read into a small tree, with R's precedence; Python's spelling of the same
things is understood. The tree is all that is ever evaluated (:mod:`lmmjax.evaluate`): no part of a
formula reaches Python's own parser. There is no attribute, subscript, comprehension or lambda in
the grammar, so that none can be asked for.

Precedence, tightest first: ``^``/``**`` (to the right), unary ``-`` and ``+``, ``:``, ``%%`` and
``%/%``, ``*``, ``/`` and Python's ``%`` and ``//``, ``+`` and ``-``, comparisons, ``!``, ``&``,
``|``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .errors import FormulaError
from .functions import CONSTANTS
from .tokens import Token

#: Brackets within brackets, and operators in a row, beyond which a formula is not read: Python's
#: stack would not hold the tree.
MAX_NESTING = 50
MAX_DEPTH = 150

_LITERALS = {
    **{"TRUE": True, "True": True, "FALSE": False, "False": False},
    **{"NULL": None, "None": None},
}
#: Words of R's (and three of Python's) that are names only in backquotes, where R reads them too.
RESERVED = frozenset(
    {
        *(*_LITERALS, "Inf", "NaN", "NA"),
        *("if", "else", "repeat", "while", "function", "for", "next", "break", "in"),
    }
)
_SPELLED = {"**": "^", "%": "%%", "//": "%/%"}
# How tightly operators bind: to their left, as in R's grammar.
_BINDING = {
    **{"|": 1, "&": 2},
    **dict.fromkeys(("==", "!=", "<", ">", "<=", ">="), 4),
    **{"+": 5, "-": 5, "*": 6, "/": 6, "%": 6, "//": 6},
    **{"%%": 7, "%/%": 7, ":": 8, "^": 10, "**": 10},
}
_NOT, _SIGN, _COMPARED = 3, 9, 4
_TIGHT = {"/", "^", ":", "%%", "%/%"}
UNSUPPORTED = {
    "ns": "use cr(x, df=...), a natural cubic regression spline, or bs(x, df=...)",
    "rcs": "use cr(x, df=...), a natural cubic regression spline",
    "s": "smooth terms are not mixed-model terms here: use cr(x, df=...) or bs(x, df=...)",
    "te": "tensor smooths are not available: use products of bs(...) terms",
    "as.numeric": "convert the column in the data frame before fitting",
    "as.integer": "convert the column in the data frame before fitting",
    "cut": "make the grouped column in the data frame (pandas.cut) before fitting",
    "interaction": "write the interaction as a:b",
    "cbind": "a model has one numeric response; fit one model for each",
    "lag": "shift within each group, data.groupby(...)['x'].shift(), before fitting",
    "hashed": "make the column in the data frame before fitting",
    "Q": "write the column's name in backquotes: `my column`",
    "mo": "monotonic effects are not available",
    "ar1": "only unstructured and diagonal covariances are available",
    "us": "write (x | g)",
    "diag": "write (x || g)",
}


@dataclass(frozen=True)
class Number:
    """A number, with the text that reads as it."""

    value: int | float
    depth: int = 1

    def __str__(self) -> str:
        return write_number(self.value)


@dataclass(frozen=True)
class Text:
    """A string, verbatim."""

    value: str
    depth: int = 1

    def __str__(self) -> str:
        mark = "'" if '"' in self.value else '"'
        return f"{mark}{self.value}{mark}"


@dataclass(frozen=True)
class Literal:
    """``TRUE``, ``FALSE`` or ``NULL``."""

    value: bool | None
    depth: int = 1

    def __str__(self) -> str:
        return {True: "TRUE", False: "FALSE", None: "NULL"}[self.value]


@dataclass(frozen=True)
class Name:
    """A column; without backquotes also a constant, where there is no such column."""

    name: str
    quoted: bool = False
    depth: int = 1

    def __str__(self) -> str:
        # Without its backquotes a column could become the constant of that name.
        return quote(self.name, always=self.quoted and self.name in CONSTANTS)


@dataclass(frozen=True)
class Call:
    """A call; each argument has its keyword, or None."""

    function: str
    arguments: tuple[tuple[str | None, Node], ...]
    depth: int = 1

    def __str__(self) -> str:
        inside = (f"{key} = {value}" if key else str(value) for key, value in self.arguments)
        return f"{self.function}({', '.join(inside)})"


@dataclass(frozen=True)
class Unary:
    """``-x``, ``+x`` or ``!x``."""

    operator: str
    operand: Node
    depth: int = 1

    def __str__(self) -> str:
        return f"{self.operator}{self.operand}"


@dataclass(frozen=True)
class Binary:
    """Two values and an operator, in R's spelling."""

    operator: str
    left: Node
    right: Node
    depth: int = 1

    def __str__(self) -> str:
        op = self.operator
        return f"{self.left}{op}{self.right}" if op in _TIGHT else f"{self.left} {op} {self.right}"


@dataclass(frozen=True)
class Brackets:
    """``(x)``; several values in parentheses or square brackets are a list, as ``c(...)`` is."""

    opener: str
    items: tuple[Node, ...]
    depth: int = 1

    def __str__(self) -> str:
        return f"{self.opener}{', '.join(map(str, self.items))}{_CLOSERS[self.opener]}"


Node = Number | Text | Literal | Name | Call | Unary | Binary | Brackets

_CLOSERS = {"(": ")", "[": "]", "{": "}"}


def is_plain(name: str) -> bool:
    """Whether a name reads as one token that means it, without backquotes."""
    if not name.replace(".", "_").isidentifier() or name in RESERVED:
        return False
    return name != "." and not (name[0] == "." and name[1:2].isdigit())


def quote(name: str, always: bool = False) -> str:
    """A column name as it must be written in a formula."""
    if is_plain(name) and not always:
        return name
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def write_number(value: int | float) -> str:
    """A number as R writes it in 15 digits; with more where it takes more to read it again.

    Examples
    --------
    >>> [write_number(v) for v in (2, 0.5, 100000, 123456, 0.001, 1e-5, 1e15)]
    ['2', '0.5', '1e+05', '123456', '0.001', '1e-05', '1e+15']
    """
    number = float(value) if abs(value) <= 2**53 else value
    if isinstance(number, int):
        return str(number)
    if number == float("inf"):
        return "1e999"  # Inf could be a column
    digits, _, exponent = f"{number:.14e}".partition("e")
    if float(f"{digits}e{exponent}") != number:
        return repr(number)
    digits = digits.rstrip("0").rstrip(".")
    places = max(len(digits.replace(".", "").lstrip("-")) - 1 - int(exponent), 0)
    scientific = f"{digits}e{exponent}"
    fixed = f"{number:.{places}f}" if abs(int(exponent)) <= 20 else scientific
    return fixed if len(fixed) <= len(scientific) else scientific


def names_in(node: Node) -> tuple[str, ...]:
    """Names that are (or may be) columns, in order of appearance."""
    return tuple(dict.fromkeys(found.name for found in walk(node) if isinstance(found, Name)))


def walk(node: Node) -> Iterator[Node]:
    """A tree's nodes, from left to right."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, Call):
            waiting += [value for _, value in reversed(node.arguments)]
        elif isinstance(node, Binary):
            waiting += [node.right, node.left]
        elif isinstance(node, Unary):
            waiting.append(node.operand)
        elif isinstance(node, Brackets):
            waiting += reversed(node.items)


class ExpressionReader:
    """Reads one expression from a formula's tokens; `i` is where it stands.

    Parameters
    ----------
    formula : str
        The whole formula, for messages.
    tokens : list of Token
        Its tokens.
    start : int
        Index of the first token of the expression.
    """

    def __init__(self, formula: str, tokens: list[Token], start: int) -> None:
        self.formula = formula
        self.tokens = tokens
        self.i = start
        self.nesting = 0

    def error(self, message: str, token: Token) -> FormulaError:
        """A FormulaError that points at a token."""
        return FormulaError(message, self.formula, token.start, max(1, token.end - token.start))

    @property
    def token(self) -> Token:
        """The token it stands at."""
        return self.tokens[self.i]

    def expression(self, binding: int = 0) -> Node:
        """Read as far as operators bind more tightly than `binding`."""
        left = self._prefix()
        while True:
            token = self.token
            if token.kind in ("name", "quoted", "number", "string") or token.is_operator("(", "["):
                raise self.error("an operator or a comma is missing before this", token)
            own = self._binding()
            if own is None:
                self._check_operator(token)
                return left
            if own <= binding:
                return left
            self.i += 1
            # Powers are read from the right, all else from the left.
            self._enter(token)
            right = self.expression(own - 1 if own == _BINDING["^"] else own)
            self.nesting -= 1
            if own == _COMPARED == self._binding():
                raise self.error("comparisons are joined by &: x > 1 & x < 3", self.token)
            left = self._checked(Binary(_spelled(token.text), *self._wrapped(token, left, right)))

    def _binding(self) -> int | None:
        """How tightly the operator that stands here binds; None if there is none."""
        return _BINDING.get(self.token.text) if self.token.kind == "operator" else None

    def _wrapped(self, token: Token, left: Node, right: Node) -> tuple[Node, Node, int]:
        """Both sides and the tree's depth; in parentheses where R would read them otherwise."""
        if token.text in ("%", "//"):
            # In R's spelling these bind more tightly than * and /, in Python's they do not.
            loose = isinstance(left, Binary) and _BINDING[left.operator] == _BINDING["*"]
            left = Brackets("(", (left,), left.depth + 1) if loose else left
            tight = isinstance(right, Binary) and _BINDING[right.operator] == _BINDING["%%"]
            right = Brackets("(", (right,), right.depth + 1) if tight else right
        return left, right, 1 + max(left.depth, right.depth)

    def _checked(self, node: Binary) -> Node:
        if node.depth > MAX_DEPTH:
            raise self.error("this expression is too long: compute it as a column", self.token)
        return node

    def _check_operator(self, token: Token) -> None:
        """Raise at an operator that has no meaning in an expression."""
        if token.is_operator("&&", "||"):
            raise self.error(f"write {token.text[0]}, which works row by row", token)
        if token.is_operator("%in%"):
            raise self.error("%in% cannot stand inside a call", token)
        if token.is_operator("@", "{"):
            raise self.error(f"{token.text!r} has no meaning inside an expression", token)

    def _prefix(self) -> Node:
        token = self.token
        if token.is_operator("-", "+", "!"):
            self.i += 1
            self._enter(token)
            operand = self.expression(_NOT if token.text == "!" else _SIGN)
            self.nesting -= 1
            return Unary(token.text, operand, operand.depth + 1)
        return self._value()

    def _enter(self, token: Token) -> None:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise self.error("this is nested too deeply: compute it as a column", token)

    def _value(self) -> Node:
        token = self.token
        if token.kind == "name" and self.tokens[self.i + 1].is_operator("("):
            return self.call()
        if token.kind in ("name", "quoted", "number", "string"):
            self.i += 1
            if token.kind == "name":
                if token.text in _LITERALS:
                    return Literal(_LITERALS[token.text])
                return Name(token.text)
            if token.kind == "quoted":
                return Name(token.text, quoted=True)
            if token.kind == "string":
                return Text(token.text[1:-1])
            return Number(_number(token))
        if token.is_operator("(", "["):
            items = tuple(value for _, value in self._bracket(keywords=False))
            if not items and token.text == "(":
                raise self.error("there is nothing between these parentheses", token)
            return Brackets(token.text, items, 1 + max((v.depth for v in items), default=0))
        if token.kind == "end":
            raise self.error("the formula ends inside an expression", token)
        if token.is_operator(")", "]", "}", "~"):
            raise self.error(f"a value is missing before {token.text!r}", token)
        self._check_operator(token)
        raise self.error(f"a value is missing before {token.text!r}", token)

    def call(self) -> Call:
        """Read a call, of which this is the name."""
        token = self.token
        if token.text in UNSUPPORTED:
            raise self.error(
                f"{token.text}() is not available here: {UNSUPPORTED[token.text]}", token
            )
        self.i += 1
        arguments = self._bracket(keywords=True)
        depth = 1 + max((value.depth for _, value in arguments), default=0)
        return Call(token.text, arguments, depth)

    def arguments(self) -> tuple[tuple[str | None, Node], ...]:
        """Read what stands in the parentheses that open here, each with its keyword or None."""
        return self._bracket(keywords=True)

    def _bracket(self, keywords: bool) -> tuple[tuple[str | None, Node], ...]:
        """What stands between this bracket and its closer, which is passed."""
        opener = self.token
        closer = _CLOSERS[opener.text]
        self._enter(opener)
        self.i += 1
        found: list[tuple[str | None, Node]] = []
        while not self.token.is_operator(closer):
            key = None
            token = self.token
            if keywords and token.kind == "name" and self.tokens[self.i + 1].is_operator("="):
                key = token.text
                self.i += 2
            try:
                found.append((key, self.expression()))
            except FormulaError as error:
                raise self._unclosed(opener, error) from None
            if self.token.is_operator(","):
                self.i += 1
                if not self.token.is_operator(closer):
                    continue
            if not self.token.is_operator(closer):
                token = self.token
                if token.kind == "end":
                    raise self.error(f"this '{opener.text}' is never closed", opener)
                if token.is_operator("~"):
                    raise self.error("a formula has one '~'", token)
                if token.is_operator(")", "]", "}"):
                    raise self.error(f"this '{token.text}' closes nothing", token)
                raise self.error(f"{token.text!r} cannot stand here", token)
        self.i += 1
        self.nesting -= 1
        return tuple(found)

    def _unclosed(self, opener: Token, error: FormulaError) -> FormulaError:
        """An error at the formula's end is one of the bracket that is open there."""
        if error.position is not None and error.position >= len(self.formula):
            return self.error(f"this '{opener.text}' is never closed", opener)
        return error


def _spelled(operator: str) -> str:
    return _SPELLED.get(operator, operator)


def _number(token: Token) -> int | float:
    return int(token.text) if token.text.isdigit() and len(token.text) < 19 else float(token.text)
