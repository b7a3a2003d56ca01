"""The grammar of grouping factors, ``g``, ``a/b``, ``a:b``; and a place among its tokens."""

from .errors import FormulaError
from .expressions import MAX_NESTING, ExpressionReader, Name, quote
from .tokens import Token, tokenize


class Cursor:
    """A place among the tokens of a formula.

    Parameters
    ----------
    formula : str
        The whole formula.
    """

    def __init__(self, formula: str) -> None:
        self.formula = formula
        self.tokens = tokenize(formula)
        self.i = 0
        self.nesting = 0

    @property
    def token(self) -> Token:
        """The token that stands here."""
        return self.tokens[self.i]

    def error(self, message: str, start: int, end: int | None = None) -> FormulaError:
        """A FormulaError that points at a piece of the formula."""
        return FormulaError(message, self.formula, start, 1 if end is None else max(1, end - start))

    def accept(self, *symbols: str) -> Token | None:
        """Pass one of the operators `symbols`, if one stands here."""
        token = self.token
        if token.is_operator(*symbols):
            self.i += 1
            return token
        return None

    def close(self, opener: Token) -> Token:
        """Pass the ')' that belongs to a '('."""
        closer = self.accept(")")
        if closer is None:
            token = self.token
            if token.kind == "end":
                raise self.error("this '(' is never closed", opener.start)
            raise self.error(
                f"expected an operator or ')' before {token.text!r}", token.start, token.end
            )
        return closer

    def enter(self, opener: Token) -> None:
        """Count a bracket that opens, and refuse more than the stack would hold."""
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise self.error("this is nested too deeply", opener.start)


class GroupParser(Cursor):
    """Reads what stands right of a bar."""

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
            self.distinct(inner[0] + groups[0], start)
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
            self.distinct(groups[0], start)
            text = f"{text}:{other_text}"
        return groups, text

    def distinct(self, factors: tuple[str, ...], start: int) -> None:
        """Refuse a factor that is combined with itself, and more of them than anyone means."""
        if len(set(factors)) < len(factors):
            raise self.error("a factor is combined with itself here", start)
        if len(factors) > MAX_NESTING:
            raise self.error(f"more than {MAX_NESTING} factors are combined here", start)

    def _factor(self) -> tuple[list[tuple[str, ...]], str]:
        token = self.token
        if token.kind in ("name", "quoted"):
            if token.kind == "name" and self.tokens[self.i + 1].is_operator("("):
                return self._group_call()
            self.i += 1
            return [(token.text,)], quote(token.text)
        if self.accept("(") is not None:
            self.enter(token)
            groups, text = self.group()
            self.close(token)
            self.nesting -= 1
            return groups, f"({text})" if len(groups) > 1 else text
        if token.kind == "end":
            raise self.error("the formula ends where a grouping factor is expected", token.start)
        raise self.error(
            "a grouping factor is the name of a column, a/b or a:b", token.start, token.end
        )

    def _group_call(self) -> tuple[list[tuple[str, ...]], str]:
        """Grouping columns are coded as factors anyway: factor(g) is g, interaction(a, b) a:b."""
        token = self.token
        # interaction() has no meaning as a term, and is read here alone.
        reader = ExpressionReader(self.formula, self.tokens, self.i + 1)
        arguments = reader.arguments()
        self.i = reader.i
        end = self.tokens[self.i - 1].end
        columns = [node.name for key, node in arguments if key is None and isinstance(node, Name)]
        is_factor = token.text in ("factor", "as.factor", "as.character", "C")
        columns_only = len(columns) == len(arguments) > 0
        if columns_only and ((is_factor and len(columns) == 1) or token.text == "interaction"):
            self.distinct(tuple(columns), token.start)
            return [tuple(columns)], ":".join(map(quote, columns))
        raise self.error(
            "a grouping factor is the name of a column: compute it in the data frame first",
            token.start,
            end,
        )
