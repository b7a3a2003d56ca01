"""What stands inside calls: R's spelling read, Python's written.

``log(x)``, ``I(x^2)``, ``poly(x, 2, raw = TRUE)`` and the response are evaluated as Python.
This module reads their tokens up to the closing bracket, spells R's idioms as Python, and notes
the names that may be columns.
"""

import ast
from dataclasses import dataclass

from .errors import FormulaError
from .tokens import Token

_OPENERS = {"(": ")", "[": "]", "{": "}"}
_CONSTANTS = {"TRUE": "True", "FALSE": "False", "NULL": "None", "pi": "np.pi", "Inf": "np.inf"}
_OPERATORS = {"^": "**", "%%": "%", "%/%": "//"}
# Calls that R spells with a dot, or that mean the same here as another one.
_RENAMED = {
    "as.factor": "factor",
    "as.character": "factor",
    "as.ordered": "factor",
    "ordered": "factor",
    "base::log": "log",
}
_NAMESPACES = ("np", "contr")
_PYTHON_NAMES = {"True", "False", "None", "np", "and", "or", "not", "in", "is", "if", "else"}
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
    "mo": "monotonic effects are not available",
    "ar1": "only unstructured and diagonal covariances are available",
    "us": "write (x | g)",
    "diag": "write (x || g)",
}


@dataclass(frozen=True)
class Expression:
    """A piece of Python: its text, the names in it that may be columns, and where it ended."""

    text: str
    names: tuple[str, ...]
    stop: int


def function_name(name: str, formula: str, token: Token) -> str:
    """The Python spelling of a called function, or the advice of what to use instead."""
    if name in UNSUPPORTED:
        raise FormulaError(
            f"{name}() is not available here: {UNSUPPORTED[name]}",
            formula,
            token.start,
            len(token.text),
        )
    return _RENAMED.get(name, name)


class _Reader:
    def __init__(self, formula: str, tokens: list[Token], start: int) -> None:
        self.formula = formula
        self.tokens = tokens
        self.i = start
        self.names: dict[str, None] = {}

    def _error(self, message: str, token: Token) -> FormulaError:
        return FormulaError(message, self.formula, token.start, max(1, token.end - token.start))

    def _name(self, token: Token) -> str:
        """A name becomes a column, a constant, a keyword or a function's name."""
        text, follower = token.text, self.tokens[self.i + 1]
        if follower.is_operator("("):
            called = function_name(text, self.formula, token)
            owner = called.split(".")[0]
            if "." in called and owner not in _NAMESPACES:
                # A method of a column, as in `x.clip(0, 5)`.
                self.names[owner] = None
            return called
        if follower.is_operator("="):
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text in _PYTHON_NAMES or text.split(".")[0] in _NAMESPACES:
            return text
        self.names[text] = None
        # R allows dots in names; in Python they would be attributes.
        return f"`{text}`" if "." in text else text

    def read(self, closers: tuple[str, ...]) -> str:
        """Read up to one of `closers` at this depth, which is left for the caller."""
        out: list[str] = []
        operand = False  # whether the last piece was a value: tells `a - b` from `-b`
        while True:
            token = self.tokens[self.i]
            if token.is_operator(*closers):
                return "".join(out)
            if token.kind == "end":
                raise self._error("the formula ends inside an expression", token)
            if token.kind in ("name", "quoted", "number", "string"):
                piece = token.text
                if token.kind == "name":
                    piece = self._name(token)
                elif token.kind == "quoted":
                    self.names[token.text] = None
                    piece = f"`{token.text}`"
                if piece in ("and", "or", "not", "in", "is", "if", "else"):
                    out.append(f" {piece} ")
                    operand = False
                else:
                    if operand and out and not out[-1].endswith(" "):
                        raise self._error("an operator or a comma is missing before this", token)
                    out.append(piece)
                    operand = True
                self.i += 1
            elif token.text in _OPENERS:
                out.append(self._bracket(token, out))
                operand = True
            elif token.text in (")", "]", "}"):
                raise self._error(f"this '{token.text}' closes nothing", token)
            elif token.text == ",":
                out.append(", ")
                operand = False
                self.i += 1
            elif token.text == "%in%":
                raise self._error("%in% cannot stand inside a call", token)
            elif token.text == "~":
                raise self._error("a formula has one '~'", token)
            else:
                symbol = _OPERATORS.get(token.text, token.text)
                # Keyword arguments and unary signs are written without spaces.
                tight = symbol in ("=", ":", "!", ".") or not operand
                out.append(symbol if tight else f" {symbol} ")
                operand = False
                self.i += 1

    def _bracket(self, token: Token, out: list[str]) -> str:
        opener, closer = token.text, _OPENERS[token.text]
        if opener == "(" and out and out[-1] == "c":
            # R's c(1, 2) is a Python list.
            out.pop()
            opener, written = "[", "]"
        else:
            written = closer
        self.i += 1
        depth_start = token
        try:
            inside = self.read((closer,))
        except FormulaError as error:
            if self.tokens[self.i].kind == "end":
                raise self._error(f"this '{token.text}' is never closed", depth_start) from error
            raise
        self.i += 1
        return f"{opener}{inside}{written}"


def read_expression(
    formula: str, tokens: list[Token], start: int, closers: tuple[str, ...]
) -> Expression:
    """Read an expression from `tokens[start]` up to a closer at the same depth.

    Parameters
    ----------
    formula : str
        The whole formula, for messages.
    tokens : list of Token
        Its tokens.
    start : int
        Index of the first token of the expression.
    closers : tuple of str
        Operators that end it (not consumed).

    Returns
    -------
    Expression
        Its Python text; an empty text if there was nothing.

    Raises
    ------
    FormulaError
        Where brackets do not match or the text is not an expression.

    Examples
    --------
    >>> from lmmjax.tokens import tokenize
    >>> text = "log(y^2, base = c(1, 2)) ~"
    >>> read_expression(text, tokenize(text), 0, ("~",)).text
    'log(y ** 2, base=[1, 2])'
    """
    reader = _Reader(formula, tokens, start)
    text = reader.read(closers)
    return Expression(text, tuple(reader.names), reader.i)


def check_python(text: str, formula: str, start: int, end: int) -> None:
    """Raise FormulaError unless `text` (with backquoted names) is a Python expression."""
    pieces = text.split("`")
    plain = "".join(p if k % 2 == 0 else "_quoted" for k, p in enumerate(pieces))
    try:
        ast.parse(plain, mode="eval")
    except SyntaxError as error:
        raise FormulaError(
            f"this is not a valid expression ({error.msg})", formula, start, max(1, end - start)
        ) from None
