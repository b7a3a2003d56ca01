"""Formula text cut into tokens, each of which knows where it stood.

The operators are R's and Python's together, since a formula may hold R (``%in%``, ``^``) in its
terms and Python (``==``, ``**``) inside calls.
"""

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


def _scan_number(formula: str, start: int) -> int:
    n, i = len(formula), start
    while i < n and (formula[i].isdigit() or formula[i] == "."):
        i += 1
    if i < n and formula[i] in "eE":
        j = i + 2 if formula[i + 1 : i + 2] in ("+", "-") else i + 1
        if j < n and formula[j].isdigit():
            i = j
            while i < n and formula[i].isdigit():
                i += 1
    return i


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
        elif c in "`\"'":
            close = formula.find(c, i + 1)
            if close < 0:
                raise FormulaError(f"the quote {c} is never closed", formula, i)
            if c == "`" and close == i + 1:
                raise FormulaError("there is no name between the backquotes", formula, i, 2)
            if c == "`":
                tokens.append(Token("quoted", formula[i + 1 : close], i, close + 1))
            else:
                tokens.append(Token("string", formula[i : close + 1], i, close + 1))
            i = close + 1
        elif c.isdigit() or (c == "." and formula[i + 1 : i + 2].isdigit()):
            end = _scan_number(formula, i)
            tokens.append(Token("number", formula[i:end], i, end))
            # R writes whole numbers as 2L.
            i = end + 1 if formula[end : end + 1] == "L" else end
        elif c.isalpha() or c in "_.":
            end = i + 1
            while end < n and (formula[end].isalnum() or formula[end] in "_."):
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
