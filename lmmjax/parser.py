"""The grammar of mixed-model formulas, by recursive descent.

Precedence, as in R, tightest first: ``^``/``**``, ``:``, ``%in%``, ``*`` and ``/``, ``+`` and
``-``, ``|`` and ``||`` (inside parentheses only), ``~``.
"""

from dataclasses import dataclass

from .errors import FormulaError
from .expressions import Expression, check_python, function_name, read_expression
from .formula import Bar, FormulaSpec, quote
from .tokens import Token, tokenize


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


class _Parser:
    def __init__(self, formula: str) -> None:
        self.formula = formula
        self.tokens = tokenize(formula)
        self.i = 0

    # Tokens

    @property
    def token(self) -> Token:
        return self.tokens[self.i]

    def error(self, message: str, start: int, end: int | None = None) -> FormulaError:
        return FormulaError(message, self.formula, start, 1 if end is None else max(1, end - start))

    def accept(self, *symbols: str) -> Token | None:
        token = self.token
        if token.is_operator(*symbols):
            self.i += 1
            return token
        return None

    def close(self, opener: Token) -> Token:
        closer = self.accept(")")
        if closer is None:
            token = self.token
            if token.kind == "end":
                raise self.error("this '(' is never closed", opener.start)
            raise self.error(
                f"expected an operator or ')' before {token.text!r}", token.start, token.end
            )
        return closer

    # formula := response ~ terms

    def parse(self) -> FormulaSpec:
        tilde = self._find_tilde()
        if tilde == 0:
            raise self.error("there is no response before '~': write y ~ ...", 0)
        first, last = self.tokens[0], self.tokens[tilde - 1]
        response = read_expression(self.formula, self.tokens, 0, ("~",))
        check_python(response.text, self.formula, first.start, last.end)
        self.i = tilde + 1
        terms = [] if self.token.kind == "end" else self.signed_terms()
        self._check_end()
        return self._assemble(response.text, response.names, self._flatten(terms))

    def _find_tilde(self) -> int:
        found = [k for k, t in enumerate(self.tokens) if t.is_operator("~")]
        if not found:
            raise self.error("there is no '~': write response ~ terms", len(self.formula))
        if len(found) > 1:
            raise self.error("a formula has one '~'", self.tokens[found[1]].start)
        for t in self.tokens[: found[0]]:
            if t.is_operator("|", "||"):
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
        left = self.nesting()
        while (op := self.accept("*", "/")) is not None:
            left = self._join(left, f" {op.text} ", self.nesting())
        return left

    def nesting(self) -> _Piece:
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
            bar = side.find(("bar", "offset"))
            if bar is not None:
                what = "a random-effects term" if bar.kind == "bar" else "an offset"
                raise self.error(
                    f"{what} can only be added, not combined by '{op.strip()}': put '+' before it",
                    bar.start,
                    bar.end,
                )
            if side.kind == "number":
                raise self.error(
                    "a number cannot be part of an interaction: use I(...) for arithmetic",
                    side.start,
                    side.end,
                )
        names = _merge(left.names, right.names)
        return _Piece(f"{left.text}{op}{right.text}", left.start, right.end, names=names)

    def power(self) -> _Piece:
        base = self.atom()
        op = self.accept("^", "**")
        if op is None:
            return base
        exponent = self.token
        if exponent.kind != "number" or not exponent.text.isdigit() or int(exponent.text) < 1:
            raise self.error(
                f"the power after '{op.text}' must be a whole number", exponent.start, exponent.end
            )
        self.i += 1
        if base.kind != "paren":
            raise self.error(
                f"in a formula {base.text}{op.text}{exponent.text} means interactions of "
                f"{base.text} with itself; for arithmetic write I({base.text} ** {exponent.text})",
                base.start,
                exponent.end,
            )
        joined = self._join(base, "**", _Piece(exponent.text, exponent.start, exponent.end))
        return joined

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
            return _Piece(token.text, token.start, token.end, "number")
        if token.kind == "quoted":
            self.i += 1
            return _Piece(quote(token.text), token.start, token.end, names=(token.text,))
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

    def _name(self) -> _Piece:
        token, follower = self.token, self.tokens[self.i + 1]
        if not follower.is_operator("("):
            self.i += 1
            if token.text == ".":
                raise self.error("'.' is not supported: name the columns", token.start)
            return _Piece(quote(token.text), token.start, token.end, names=(token.text,))
        name = function_name(token.text, self.formula, token)
        start = self.i
        expression = self._bracket(self.i + 1, ")")
        end = self.tokens[self.i - 1].end
        text = f"{name}({expression.text})"
        check_python(text, self.formula, token.start, end)
        if name == "offset":
            if not expression.text:
                raise self.error("offset() needs a column or an expression", token.start, end)
            return _Piece(expression.text, token.start, end, "offset", expression.names)
        names = expression.names
        if "." in name and name.split(".")[0] not in ("np", "contr"):
            names = _merge((self.tokens[start].text.split(".")[0],), names)
        return _Piece(text, token.start, end, names=names)

    def _bracket(self, opener: int, closer: str) -> Expression:
        """The expression between tokens[opener] and its `closer`, which is consumed."""
        try:
            expression = read_expression(self.formula, self.tokens, opener + 1, (closer,))
        except FormulaError as error:
            if error.position == len(self.formula):
                token = self.tokens[opener]
                raise self.error(f"this '{token.text}' is never closed", token.start) from None
            raise
        self.i = expression.stop + 1
        return expression

    def _braces(self) -> _Piece:
        opener = self.token
        expression = self._bracket(self.i, "}")
        end = self.tokens[self.i - 1].end
        check_python(expression.text, self.formula, opener.start, end)
        return _Piece(f"{{{expression.text}}}", opener.start, end, names=expression.names)

    def _parenthesis(self) -> _Piece:
        opener = self.token
        self.i += 1
        if self.token.is_operator(")"):
            raise self.error("there is nothing between these parentheses", opener.start, opener.end)
        terms = self.signed_terms()
        bar = self.accept("|", "||")
        if bar is not None:
            return self._bar(opener, terms, bar)
        closer = self.close(opener)
        text = f"({_signed_text(terms)})"
        names = _merge(*(p.names for _, p in terms))
        return _Piece(text, opener.start, closer.end, "paren", names, tuple(terms))

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

    # group := crossing (/ crossing)*; crossing := factor (: factor)*

    def group(self) -> tuple[list[tuple[str, ...]], str]:
        """The factors, the finest first as lme4 lists them, and the text."""
        groups, text = self._crossing()
        while self.accept("/") is not None:
            start = self.token.start
            inner, inner_text = self._crossing()
            if len(inner) != 1:
                raise self.error("write nested factors from the outside in: a/b/c", start)
            # a/b is b:a + a.
            self._distinct(inner[0] + groups[0], start)
            groups = [inner[0] + groups[0], *groups]
            text = f"{text}/{inner_text}"
        return groups, text

    def _crossing(self) -> tuple[list[tuple[str, ...]], str]:
        start = self.token.start
        groups, text = self._factor()
        while self.accept(":") is not None:
            other, other_text = self._factor()
            if len(groups) != 1 or len(other) != 1:
                raise self.error(
                    "a nested factor a/b cannot be part of a:b; write the terms out", start
                )
            groups = [groups[0] + other[0]]
            self._distinct(groups[0], start)
            text = f"{text}:{other_text}"
        return groups, text

    def _distinct(self, factors: tuple[str, ...], start: int) -> None:
        if len(set(factors)) < len(factors):
            raise self.error("a factor is combined with itself here", start)

    def _factor(self) -> tuple[list[tuple[str, ...]], str]:
        token = self.token
        if token.kind in ("name", "quoted"):
            if token.kind == "name" and self.tokens[self.i + 1].is_operator("("):
                return self._group_call()
            self.i += 1
            return [(token.text,)], quote(token.text)
        if self.accept("(") is not None:
            groups, text = self.group()
            self.close(token)
            return groups, f"({text})" if len(groups) > 1 else text
        if token.kind == "end":
            raise self.error("the formula ends where a grouping factor is expected", token.start)
        raise self.error(
            "a grouping factor is the name of a column, a/b or a:b", token.start, token.end
        )

    def _group_call(self) -> tuple[list[tuple[str, ...]], str]:
        """Grouping columns are coded as factors anyway: factor(g) is g, interaction(a, b) a:b."""
        token = self.token
        expression = self._bracket(self.i + 1, ")")
        end = self.tokens[self.i - 1].end
        written = [part.strip().strip("`") for part in expression.text.split(", ")]
        is_factor = token.text in ("factor", "as.factor", "as.character", "C")
        columns_only = tuple(written) == expression.names
        if columns_only and ((is_factor and len(written) == 1) or token.text == "interaction"):
            return [tuple(written)], ":".join(map(quote, written))
        raise self.error(
            "a grouping factor is the name of a column: compute it in the data frame first",
            token.start,
            end,
        )

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
    out = "1" if intercept else "0"
    seen: set[str] = set()
    for sign, piece in rest:
        if sign == "+" and piece.text in seen:
            continue
        seen.add(piece.text)
        out += f" {sign} {piece.text}"
    return out


def read_formula(formula: str) -> FormulaSpec:
    """Parse a formula; :func:`lmmjax.formula.parse` is this behind a cache.

    Raises
    ------
    FormulaError
        With a caret under the offending piece.
    """
    return _Parser(formula).parse()
