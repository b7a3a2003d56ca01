"""The grammar of mixed-model formulas, by recursive descent.

Precedence, as in R, tightest first: ``^``/``**``, ``:``, ``%in%``, ``*`` and ``/``, ``+`` and
``-``, ``|`` and ``||`` (inside parentheses only), ``~``.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

from . import terms as algebra
from .errors import FormulaError
from .expressions import Call, ExpressionReader, Name, Node, names_in
from .formula import Bar, FormulaSpec
from .functions import CONSTANTS
from .group_parser import GroupParser
from .terms import Factor, Terms
from .tokens import Token


@dataclass(frozen=True)
class _Piece:
    """A parsed part of the right side: its text, where it was, and what is special about it."""

    text: str
    start: int
    end: int
    kind: str = "term"  # term, number, paren, bar, offset
    names: tuple[str, ...] = ()
    terms: tuple[tuple[str, "_Piece"], ...] = ()  # of a paren: its signed terms
    bars: tuple[Bar, ...] = ()
    masks: algebra.Masks = ()  # the terms that it stands for

    def find(self, kinds: tuple[str, ...]) -> "_Piece | None":
        """The first piece, itself or inside it, that is of one of `kinds`."""
        if self.kind in kinds:
            return self
        for _, term in self.terms:
            found = term.find(kinds)
            if found is not None:
                return found
        return None


def _merge(*names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(n for some in names for n in some))


class _Parser(GroupParser):
    def __init__(self, formula: str) -> None:
        super().__init__(formula)
        # Variables and calls in the order in which they are first named, and their places by text.
        self.factors: list[Factor] = []
        self.places: dict[str, int] = {}

    # formula := response ~ terms

    def parse(self) -> FormulaSpec:
        tilde = self._find_tilde()
        if tilde == 0:
            raise self.error("there is no response before '~': write y ~ ...", 0)
        response = self._expression()
        self._check_response(tilde)
        self.i = tilde + 1
        terms = [] if self.token.kind == "end" else self.signed_terms()
        self._check_end()
        return self._assemble(str(response), _names(response), self._flatten(terms))

    def parse_terms(self) -> Terms:
        """Read terms alone, the fixed part or a bar's left side: what they stand for."""
        pieces = self._flatten(self.signed_terms())
        self._check_end()
        return algebra.collect(
            [(sign, piece.masks, piece.kind == "number") for sign, piece in pieces],
            self.factors,
        )

    def parse_value(self) -> Node:
        """Read one expression alone: the response, an offset."""
        node = self._expression()
        if self.token.kind != "end":
            raise self.error(f"{self.token.text!r} cannot stand here", self.token.start)
        return node

    def _expression(self) -> Node:
        reader = ExpressionReader(self.formula, self.tokens, self.i)
        node = reader.expression()
        self.i = reader.i
        return node

    def _check_response(self, tilde: int) -> None:
        if self.i == tilde:
            return
        token = self.token
        if token.is_operator(")", "]", "}"):
            raise self.error(f"this '{token.text}' closes nothing", token.start)
        raise self.error(f"{token.text!r} cannot stand here", token.start, token.end)

    def _find_tilde(self) -> int:
        found = [k for k, t in enumerate(self.tokens) if t.is_operator("~")]
        if not found:
            raise self.error("there is no '~': write response ~ terms", len(self.formula))
        if len(found) > 1:
            raise self.error("a formula has one '~'", self.tokens[found[1]].start)
        depth = 0
        for t in self.tokens[: found[0]]:
            depth += t.is_operator("(") - t.is_operator(")")
            # In parentheses it means "or".
            if depth == 0 and t.is_operator("|", "||"):
                raise self.error("a random-effects term cannot be part of the response", t.start)
        return found[0]

    def _check_end(self) -> None:
        token = self.token
        if token.kind == "end":
            return
        if token.is_operator("|", "||"):
            raise self.error(
                "a random-effects term is written in parentheses: (1 | group)",
                token.start,
                token.end,
            )
        if token.is_operator(")"):
            raise self.error("this ')' closes nothing", token.start)
        raise self.error(f"expected an operator before {token.text!r}", token.start, token.end)

    # terms := [sign] product (sign product)*

    def signed_terms(self) -> list[tuple[str, _Piece]]:
        terms = []
        sign = self._sign("+")
        while True:
            terms.append((sign, self.product()))
            if not self.token.is_operator("+", "-"):
                return terms
            sign = self._sign(None)

    def _sign(self, sign: str | None) -> str:
        while (token := self.accept("+", "-")) is not None:
            sign = token.text if sign is None or token.text == "-" else sign
        return sign or "+"

    def product(self) -> _Piece:
        left = self.nesting_terms()
        while (op := self.accept("*", "/")) is not None:
            spaced = " * " if op.text == "*" else "/"
            left = self._join(left, spaced, self.nesting_terms())
        return left

    def nesting_terms(self) -> _Piece:
        left = self.interaction()
        while self.accept("%in%") is not None:
            # `b %in% a` is the interaction of b with a.
            left = self._join(left, ":", self.interaction())
        return left

    def interaction(self) -> _Piece:
        left = self.power()
        while self.accept(":") is not None:
            left = self._join(left, ":", self.power())
        return left

    def _join(self, left: _Piece, op: str, right: _Piece) -> _Piece:
        for side in (left, right):
            self._only_added(side, op.strip())
            if side.kind == "number":
                raise self.error(
                    "a number cannot be part of an interaction: use I(...) for arithmetic",
                    side.start,
                    side.end,
                )
        combine = {"*": algebra.product, "/": algebra.nest, ":": algebra.cross}[op.strip()]
        masks = self._limited(lambda: combine(left.masks, right.masks), left.start, right.end)
        names = _merge(left.names, right.names)
        text = f"{left.text}{op}{right.text}"
        return _Piece(text, left.start, right.end, names=names, masks=masks)

    def _limited(self, make: Callable[[], algebra.Masks], start: int, end: int) -> algebra.Masks:
        """Terms, or an error where they are too many to be meant."""
        try:
            return make()
        except algebra.TooManyTerms as error:
            raise self.error(str(error), start, end) from None

    def _only_added(self, piece: _Piece, op: str) -> None:
        bar = piece.find(("bar", "offset"))
        if bar is not None:
            what = "a random-effects term" if bar.kind == "bar" else "an offset"
            raise self.error(
                f"{what} can only be added, not combined by '{op}': put '+' before it",
                bar.start,
                bar.end,
            )

    def power(self) -> _Piece:
        base = self.atom()
        op = self.accept("^", "**")
        if op is None:
            return base
        exponent = self.token
        whole = exponent.kind == "number" and exponent.text.isdigit() and len(exponent.text) < 19
        if not whole or int(exponent.text) < 1:
            raise self.error(
                f"the power after '{op.text}' must be a whole number", exponent.start, exponent.end
            )
        self.i += 1
        if base.kind != "paren":
            raise self.error(
                f"in a formula {base.text}{op.text}{exponent.text} means interactions of "
                f"{base.text} with itself; for arithmetic write I({base.text}^{exponent.text})",
                base.start,
                exponent.end,
            )
        self._only_added(base, op.text)
        power = int(exponent.text)
        masks = self._limited(lambda: algebra.power(base.masks, power), base.start, exponent.end)
        text = f"{base.text}^{power}"
        return _Piece(text, base.start, exponent.end, names=base.names, masks=masks)

    # atom := number | name | call | {python} | ( terms ) | ( terms | group )

    def atom(self) -> _Piece:
        token = self.token
        if token.kind == "number":
            self.i += 1
            if token.text not in ("0", "1"):
                raise self.error(
                    "only the numbers 0 and 1 (no intercept, intercept) can be terms",
                    token.start,
                    token.end,
                )
            masks = (0,) if token.text == "1" else ()
            return _Piece(token.text, token.start, token.end, "number", masks=masks)
        if token.kind == "quoted":
            self.i += 1
            return self._factor_piece(Name(token.text, quoted=True), token.start, token.end)
        if token.kind == "name":
            return self._name()
        if token.is_operator("("):
            return self._parenthesis()
        if token.is_operator("{"):
            return self._braces()
        if token.kind == "end":
            raise self.error("the formula ends where a term is expected", token.start)
        if token.kind == "string":
            raise self.error("a string cannot be a term", token.start, token.end)
        if token.is_operator("|", "||"):
            raise self.error(
                "nothing stands left of the bar: write (1 | group)", token.start, token.end
            )
        raise self.error(f"expected a term before {token.text!r}", token.start, token.end)

    def _factor_piece(self, node: Node, start: int, end: int) -> _Piece:
        """A variable, a call, or an expression in braces as a term by itself."""
        factor = Factor.of(node)
        place = self.places.setdefault(factor.source, len(self.places))
        if place == len(self.factors):
            self.factors.append(factor)
        if place >= algebra.MAX_TERMS:
            raise self.error(f"a formula has up to {algebra.MAX_TERMS} variables", start, end)
        return _Piece(factor.source, start, end, names=_names(node), masks=(1 << place,))

    def _name(self) -> _Piece:
        token, follower = self.token, self.tokens[self.i + 1]
        if not follower.is_operator("("):
            self.i += 1
            if token.text == ".":
                raise self.error("'.' is not supported: name the columns", token.start)
            # As a term even a reserved word can only be a column.
            return self._factor_piece(Name(token.text, quoted=True), token.start, token.end)
        reader = ExpressionReader(self.formula, self.tokens, self.i)
        call = reader.call()
        self.i = reader.i
        end = self.tokens[self.i - 1].end
        if call.function != "offset":
            return self._factor_piece(call, token.start, end)
        if len(call.arguments) != 1 or call.arguments[0][0] is not None:
            raise self.error("offset() needs a column or an expression", token.start, end)
        node = call.arguments[0][1]
        return _Piece(str(node), token.start, end, "offset", _names(node))

    def _braces(self) -> _Piece:
        opener = self.token
        self.i += 1
        try:
            node = self._expression()
        except FormulaError as error:
            if error.position is not None and error.position >= len(self.formula):
                raise self.error("this '{' is never closed", opener.start) from None
            raise
        closer = self.accept("}")
        if closer is None:
            token = self.token
            if token.kind == "end":
                raise self.error("this '{' is never closed", opener.start)
            raise self.error(f"{token.text!r} cannot stand here", token.start, token.end)
        return self._factor_piece(node, opener.start, closer.end)

    def _parenthesis(self) -> _Piece:
        opener = self.token
        self.enter(opener)
        self.i += 1
        if self.token.is_operator(")"):
            raise self.error("there is nothing between these parentheses", opener.start, opener.end)
        terms = self.signed_terms()
        self.nesting -= 1
        bar = self.accept("|", "||")
        if bar is not None:
            return self._bar(opener, terms, bar)
        closer = self.close(opener)
        text = f"({_signed_text(terms)})"
        names = _merge(*(p.names for _, p in terms))
        inside = [(sign, p.masks, p.kind == "number") for sign, p in terms]
        masks = self._limited(lambda: algebra.added(inside), opener.start, closer.end)
        return _Piece(text, opener.start, closer.end, "paren", names, tuple(terms), masks=masks)

    # bar := ( terms | group )

    def _bar(self, opener: Token, terms: list[tuple[str, _Piece]], bar: Token) -> _Piece:
        for _, term in terms:
            inner = term.find(("bar", "offset"))
            if inner is not None:
                what = "another random-effects term" if inner.kind == "bar" else "an offset"
                raise self.error(
                    f"{what} cannot stand inside a random-effects term", inner.start, inner.end
                )
        if self.token.is_operator(")"):
            raise self.error(
                "the grouping factor is missing: write (1 | group)", bar.start, self.token.end
            )
        groups, group_text = self.group()
        if self.token.is_operator("|", "||"):
            raise self.error("a random-effects term has one bar", self.token.start, self.token.end)
        if self.token.is_operator("+", "*", "-"):
            raise self.error(
                f"'{self.token.text}' cannot join grouping factors: write (1 | a) + (1 | b) for "
                "crossed factors, (1 | a/b) for nested ones, (1 | a:b) for their combinations",
                self.token.start,
                self.token.end,
            )
        closer = self.close(opener)
        lhs = _canonical(self._flatten(terms))
        if lhs == "0":
            raise self.error(
                "this random-effects term has no columns: write (1 | group) or (0 + x | group)",
                opener.start,
                closer.end,
            )
        names = _merge(*(p.names for _, p in terms))
        text = f"({lhs} {bar.text} {group_text})"
        bars = tuple(Bar(lhs, g, bar.text == "|", names, text) for g in groups)
        return _Piece(text, opener.start, closer.end, "bar", bars=bars)

    # Assembly

    def _flatten(self, terms) -> list[tuple[str, _Piece]]:
        """Open the parentheses that only group added terms."""
        out: list[tuple[str, _Piece]] = []
        for sign, piece in terms:
            special = piece.find(("bar", "offset"))
            if sign == "-" and special is not None:
                raise self.error(
                    "a random-effects term or an offset cannot be subtracted: leave it out",
                    special.start,
                    special.end,
                )
            if piece.kind == "paren" and sign == "+":
                out.extend(self._flatten(piece.terms))
            else:
                out.append((sign, piece))
        return out

    def _assemble(self, response, response_names, terms) -> FormulaSpec:
        bars: dict[Bar, None] = {}
        for _, piece in terms:
            for bar in piece.bars:
                if bar in bars:
                    raise self.error(
                        f"the random-effects term {bar} is here twice: leave one out",
                        piece.start,
                        piece.end,
                    )
                bars[bar] = None
        if not bars:
            raise self.error(
                "there is no random-effects term: add one such as (1 | group), or fit a model "
                "without random effects by ordinary least squares",
                len(self.formula),
            )
        fixed = [(s, p) for s, p in terms if p.kind not in ("bar", "offset")]
        names = _merge(*(p.names for _, p in terms if p.kind != "bar"))
        offsets = tuple(p.text for _, p in terms if p.kind == "offset")
        return FormulaSpec(response, _canonical(fixed), tuple(bars), offsets, response_names, names)


def _signed_text(terms: list[tuple[str, _Piece]]) -> str:
    out = ""
    for sign, piece in terms:
        if out:
            out += f" {sign} {piece.text}"
        else:
            out = piece.text if sign == "+" else f"-{piece.text}"
    return out


def _canonical(terms: list[tuple[str, _Piece]]) -> str:
    """The terms with the intercept first and written out, as R's rules settle it."""
    intercept, rest = True, []
    for sign, piece in terms:
        if piece.kind == "number":
            # The last of `+ 1`, `+ 0`, `- 1` decides.
            intercept = (piece.text == "1") == (sign == "+")
        else:
            rest.append((sign, piece))
    pieces = ["1" if intercept else "0"]
    seen: set[str] = set()
    for sign, piece in rest:
        if sign == "+" and piece.text in seen:
            continue
        if sign == "-":
            # What is taken away may come again.
            seen.clear()
        seen.add(piece.text)
        pieces.append(f" {sign} {piece.text}")
    return "".join(pieces)


def _names(node: Node) -> tuple[str, ...]:
    """Names in a value that may be columns; inside it a constant with a dot cannot be one."""
    if isinstance(node, Name):
        return (node.name,)
    return tuple(n for n in names_in(node) if "." not in n or n not in CONSTANTS)


@lru_cache(maxsize=512)
def read_terms(text: str) -> Terms:
    """Read the terms of a fixed part or of a bar's left side.

    Examples
    --------
    >>> [":".join(f.name for f in term) for term in read_terms("1 + a * b + log(x)").terms]
    ['a', 'b', 'log(x)', 'a:b']
    """
    return _Parser(text).parse_terms()


@lru_cache(maxsize=512)
def read_value(text: str) -> Node:
    """Read one expression: the response, an offset.

    Examples
    --------
    >>> read_value("log( y**2 )")  # doctest: +ELLIPSIS
    Call(function='log', ...)
    """
    return _Parser(text).parse_value()


def value_of_factor(factor: str, columns: Collection[str]) -> Node:
    """Read a term's variable or expression as tables name it.

    Examples
    --------
    >>> str(value_of_factor("a b", {"a b"})), str(value_of_factor("x + 1", {"x"}))
    ('`a b`', 'x + 1')
    """
    return Name(factor, quoted=True) if factor in columns else read_value(factor)


def reads_as_factor(text: str) -> bool:
    """Whether a text reads as one variable or one call, as a term of a formula does."""
    try:
        node = read_value(text)
    except FormulaError:
        return False
    return isinstance(node, (Name, Call))


def read_formula(formula: str) -> FormulaSpec:
    """Parse a formula; :func:`lmmjax.formula.parse` is this behind a cache.

    Raises
    ------
    FormulaError
        With a caret under the offending piece.
    """
    return _Parser(formula).parse()
