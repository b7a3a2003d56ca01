"""Formula text cut into tokens, each of which knows where it stood.

The operators are R's and Python's together, since a formula may hold R (``%in%``, ``^``) in its
terms and Python (``==``, ``**``) inside calls.
"""

import re
from dataclasses import dataclass

from .errors import FormulaError

# Longest first: the scan takes the first that matches.
_OPERATORS = (
    "%in%", "%/%",
    "%%", "||", "&&", "**", "//", "==", "!=", "<=", ">=",
    "+", "-", "*", "/", ":", "^", "~", "|", "(", ")", "[", "]", "{", "}",
    ",", "=", "<", ">", "&", "!", "%", "@",
)  # fmt: skip


@dataclass(frozen=True)
class Token:
    """One token: `kind` is name, quoted (in backquotes), number, string, operator or end."""

    kind: str
    text: str
    start: int
    end: int

    def is_operator(self, *symbols: str) -> bool:
        """Whether this is one of the operators `symbols`."""
        return self.kind == "operator" and self.text in symbols


# Other scripts' digits are letters here: a column may be called x².
_NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_QUOTED = re.compile(r"`((?:[^`\\]|\\.)*)`", re.DOTALL)


def _starts_name(c: str) -> bool:
    return c.isalpha() or c in "_." or c.isidentifier()


def _continues_name(c: str) -> bool:
    # Marks that are put on letters, as in Devanagari or decomposed é, are no letters themselves.
    return c.isalnum() or c in "_." or ("a" + c).isidentifier()


def _unescaped(text: str) -> str:
    """A name between backquotes, in which a backslash stands before a backquote or another."""
    return re.sub(r"\\([`\\])", r"\1", text)


def tokenize(formula: str) -> list[Token]:
    """Cut a formula into tokens.

    Parameters
    ----------
    formula : str
        The whole formula.

    Returns
    -------
    list of Token
        The tokens, closed by one of kind ``"end"``.

    Raises
    ------
    FormulaError
        At a character that belongs to no token, or a quote that is never closed.

    Examples
    --------
    >>> [t.text for t in tokenize("y ~ (1 || g)")]
    ['y', '~', '(', '1', '||', 'g', ')', '']
    """
    tokens: list[Token] = []
    i, n = 0, len(formula)
    while i < n:
        c = formula[i]
        if c.isspace():
            i += 1
        elif c == "`":
            quoted = _QUOTED.match(formula, i)
            if quoted is None:
                raise FormulaError("the quote ` is never closed", formula, i)
            if not quoted[1]:
                raise FormulaError("there is no name between the backquotes", formula, i, 2)
            tokens.append(Token("quoted", _unescaped(quoted[1]), i, quoted.end()))
            i = quoted.end()
        elif c in "\"'":
            close = formula.find(c, i + 1)
            if close < 0:
                raise FormulaError(f"the quote {c} is never closed", formula, i)
            tokens.append(Token("string", formula[i : close + 1], i, close + 1))
            i = close + 1
        elif number := _NUMBER.match(formula, i):
            end = number.end()
            tokens.append(Token("number", formula[i:end], i, end))
            # R writes whole numbers as 2L.
            i = end + 1 if formula[end : end + 1] == "L" else end
        elif _starts_name(c):
            end = i + 1
            while end < n and _continues_name(formula[end]):
                end += 1
            tokens.append(Token("name", formula[i:end], i, end))
            i = end
        else:
            symbol = next((s for s in _OPERATORS if formula.startswith(s, i)), None)
            if symbol is None:
                hint = (
                    "name columns without '$': `x`, not `df$x`"
                    if c == "$"
                    else "put unusual column names in backquotes"
                )
                raise FormulaError(f"unexpected character {c!r}: {hint}", formula, i)
            tokens.append(Token("operator", symbol, i, i + len(symbol)))
            i += len(symbol)
    tokens.append(Token("end", "", n, n))
    return tokens
