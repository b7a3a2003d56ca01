"""The formula parser: what each spelling means, and what it says of the ones that mean nothing."""

import pytest

from lmmjax.errors import FormulaError, LmmError
from lmmjax.formula import Bar, FormulaSpec, parse

# formula -> (response, fixed, bars as "(lhs | group)", offsets)
READS = {
    "y ~ x + (1 | g)": ("y", "1 + x", ["(1 | g)"], []),
    "y~x+(1|g)": ("y", "1 + x", ["(1 | g)"], []),
    "y ~ (1 | g)": ("y", "1", ["(1 | g)"], []),
    "y ~ 1 + (1 | g)": ("y", "1", ["(1 | g)"], []),
    "y ~ (1 | g) + x": ("y", "1 + x", ["(1 | g)"], []),
    "y ~ a + (1 | g) + b": ("y", "1 + a + b", ["(1 | g)"], []),
    "y ~ (a + (1 | g)) + b": ("y", "1 + a + b", ["(1 | g)"], []),
    "y ~ x + ((1 | g))": ("y", "1 + x", ["(1 | g)"], []),
    "y ~ 0 + x + (1 | g)": ("y", "0 + x", ["(1 | g)"], []),
    "y ~ x - 1 + (1 | g)": ("y", "0 + x", ["(1 | g)"], []),
    "y ~ -1 + x + (1 | g)": ("y", "0 + x", ["(1 | g)"], []),
    "y ~ 0 + x + 1 + (1 | g)": ("y", "1 + x", ["(1 | g)"], []),
    "y ~ 0 + (1 | g)": ("y", "0", ["(1 | g)"], []),
    "y ~ x + x + (1 | g)": ("y", "1 + x", ["(1 | g)"], []),
    "y ~ x + (x | g)": ("y", "1 + x", ["(1 + x | g)"], []),
    "y ~ x + (1 + x | g)": ("y", "1 + x", ["(1 + x | g)"], []),
    "y ~ x + (x + 1 | g)": ("y", "1 + x", ["(1 + x | g)"], []),
    "y ~ x + (0 + x | g)": ("y", "1 + x", ["(0 + x | g)"], []),
    "y ~ x + (-1 + x | g)": ("y", "1 + x", ["(0 + x | g)"], []),
    "y ~ x + (x - 1 | g)": ("y", "1 + x", ["(0 + x | g)"], []),
    "y ~ x + (x || g)": ("y", "1 + x", ["(1 + x || g)"], []),
    "y ~ x + (1 + x || g)": ("y", "1 + x", ["(1 + x || g)"], []),
    "y ~ x + (1 | g) + (0 + x | g)": ("y", "1 + x", ["(1 | g)", "(0 + x | g)"], []),
    "y ~ (1 | a) + (1 | b)": ("y", "1", ["(1 | a)", "(1 | b)"], []),
    "y ~ (1 | a:b)": ("y", "1", ["(1 | a:b)"], []),
    "y ~ (1 | a/b)": ("y", "1", ["(1 | b:a)", "(1 | a)"], []),
    "y ~ (x || a/b)": ("y", "1", ["(1 + x || b:a)", "(1 + x || a)"], []),
    "y ~ (1 | a/b/c)": ("y", "1", ["(1 | c:b:a)", "(1 | b:a)", "(1 | a)"], []),
    "y ~ (1 | (a/b))": ("y", "1", ["(1 | b:a)", "(1 | a)"], []),
    "y ~ (1 | (a:b))": ("y", "1", ["(1 | a:b)"], []),
    "y ~ (1 | a/(b:c))": ("y", "1", ["(1 | b:c:a)", "(1 | a)"], []),
    "y ~ (1 | (a:b)/c)": ("y", "1", ["(1 | c:a:b)", "(1 | a:b)"], []),
    "y ~ (1 | factor(g))": ("y", "1", ["(1 | g)"], []),
    "y ~ (1 | interaction(a, b))": ("y", "1", ["(1 | a:b)"], []),
    "y ~ (f | g)": ("y", "1", ["(1 + f | g)"], []),
    "y ~ (0 + f:x + f | g)": ("y", "1", ["(0 + f:x + f | g)"], []),
    "y ~ a*b + (a*b | g)": ("y", "1 + a * b", ["(1 + a * b | g)"], []),
    "y ~ a:b + (1 | g)": ("y", "1 + a:b", ["(1 | g)"], []),
    "y ~ a %in% b + (1 | g)": ("y", "1 + a:b", ["(1 | g)"], []),
    "y ~ a/b + (1 | g)": ("y", "1 + a/b", ["(1 | g)"], []),
    "y ~ (a + b)^2 + (1 | g)": ("y", "1 + (a + b)^2", ["(1 | g)"], []),
    "y ~ (a + b)**2 + (1 | g)": ("y", "1 + (a + b)^2", ["(1 | g)"], []),
    "y ~ a*b - a:b + (1 | g)": ("y", "1 + a * b - a:b", ["(1 | g)"], []),
    "y ~ a*(b + c) + (1 | g)": ("y", "1 + a * (b + c)", ["(1 | g)"], []),
    "log(y) ~ x + (1 | g)": ("log(y)", "1 + x", ["(1 | g)"], []),
    "y/1000 ~ x + (1 | g)": ("y/1000", "1 + x", ["(1 | g)"], []),
    "sqrt(y + 1) ~ (1 | g)": ("sqrt(y + 1)", "1", ["(1 | g)"], []),
    "I(y^2) ~ (1 | g)": ("I(y^2)", "1", ["(1 | g)"], []),
    "`my y` ~ `a b` + (`a b` | `g g`)": ("`my y`", "1 + `a b`", ["(1 + `a b` | `g g`)"], []),
    "y ~ `in` + (1 | g)": ("y", "1 + `in`", ["(1 | g)"], []),
    "y ~ I(x^2) + (1 | g)": ("y", "1 + I(x^2)", ["(1 | g)"], []),
    "y ~ I(x**2) + (I(x**2) | g)": ("y", "1 + I(x^2)", ["(1 + I(x^2) | g)"], []),
    "y ~ I(-x) + (1 | g)": ("y", "1 + I(-x)", ["(1 | g)"], []),
    "y ~ I((a>1)|(b<2)) + (1 | g)": ("y", "1 + I((a > 1) | (b < 2))", ["(1 | g)"], []),
    "y ~ I(x %% 2) + (1 | g)": ("y", "1 + I(x%%2)", ["(1 | g)"], []),
    "y ~ {x + 1} + (1 | g)": ("y", "1 + {x + 1}", ["(1 | g)"], []),
    "y ~ poly(x,2) + (poly(x, 2) | g)": (*("y", "1 + poly(x, 2)", ["(1 + poly(x, 2) | g)"], []),),
    "y ~ poly(x, 2, raw=TRUE) + (1 | g)": ("y", "1 + poly(x, 2, raw = TRUE)", ["(1 | g)"], []),
    "y ~ bs(x, knots = c(1, 2.5), degree = 3L) + (1|g)": (
        *("y", "1 + bs(x, knots = c(1, 2.5), degree = 3)", ["(1 | g)"], []),
    ),
    "y ~ scale(x, scale = FALSE) + (1 | g)": ("y", "1 + scale(x, scale = FALSE)", ["(1 | g)"], []),
    "y ~ factor(x) + as.factor(z) + (1 | g)": (
        "y",
        "1 + factor(x) + as.factor(z)",
        ["(1 | g)"],
        [],
    ),
    "y ~ C(x, contr.sum) + (1 | g)": ("y", "1 + C(x, contr.sum)", ["(1 | g)"], []),
    "y ~ C(x, Treatment('b')) + (1|g)": ("y", '1 + C(x, Treatment("b"))', ["(1 | g)"], []),
    "y ~ np.log1p(x) + (1 | g)": ("y", "1 + np.log1p(x)", ["(1 | g)"], []),
    "y ~ Sepal.Length + log(Sepal.Length) + (1 | sp.ecies)": (
        *("y", "1 + Sepal.Length + log(Sepal.Length)", ["(1 | sp.ecies)"], []),
    ),
    "y ~ x + offset(z) + (1 | g)": ("y", "1 + x", ["(1 | g)"], ["z"]),
    "y ~ offset(log(n)) + x + offset(z) + (1 | g)": ("y", "1 + x", ["(1 | g)"], ["log(n)", "z"]),
    "y ~ offset(2*`a b`) + (1 | g)": ("y", "1", ["(1 | g)"], ["2 * `a b`"]),
    "y\n  ~ x +\n (1 |\tg)": ("y", "1 + x", ["(1 | g)"], []),
    "größe ~ länge + (1 | schüler)": ("größe", "1 + länge", ["(1 | schüler)"], []),
}

# formula -> (a part of the message, the text above the carets or None)
REFUSES = {
    "": ("empty", None),
    "   ": ("empty", None),
    "y + x + (1 | g)": ("no '~'", ""),
    "~ x + (1 | g)": ("no response", "~"),
    "y ~ z ~ (1 | g)": ("one '~'", "~"),
    "y ~ x": ("no random-effects term", ""),
    "y ~": ("no random-effects term", ""),
    "y ~ offset(x)": ("no random-effects term", ""),
    "y ~ x + (1 | g": ("never closed", "("),
    "y ~ (x + (1 | g)": ("never closed", "("),
    "y ~ log(x + (1 | g)": ("never closed", "("),
    "log(y ~ x + (1 | g)": ("'~'", "~"),
    "y ~ x + (1 | g))": ("closes nothing", ")"),
    "y ~ x + (1 | )": ("grouping factor is missing", "| )"),
    "y ~ x + (1 |": ("grouping factor is expected", ""),
    "y ~ x + ( | g)": ("nothing stands left of the bar", "|"),
    "y ~ 1 | g": ("in parentheses", "|"),
    "y ~ x * (1 | g)": ("only be added, not combined by '*'", "(1 | g)"),
    "y ~ (1 | g):x": ("only be added, not combined by ':'", "(1 | g)"),
    "y ~ x / (1 | g)": ("only be added, not combined by '/'", "(1 | g)"),
    "y ~ (x + (1 | g))^2": ("only be added, not combined by '^'", "(1 | g)"),
    "y ~ x - (1 | g)": ("cannot be subtracted", "(1 | g)"),
    "y ~ (1 | g | h)": ("one bar", "|"),
    "y ~ ((1 | g) | h)": ("inside a random-effects term", "(1 | g)"),
    "y ~ (offset(x) | g)": ("an offset cannot stand inside", "offset(x)"),
    "y ~ (1 | a + b)": ("(1 | a) + (1 | b) for crossed", "+"),
    "y ~ (1 | a * b)": ("cannot join grouping factors", "*"),
    "y ~ (1 | 2)": ("name of a column", "2"),
    "y ~ (1 | log(g))": ("compute it in the data frame", "log(g)"),
    "y ~ (1 | g:g)": ("combined with itself", "g"),
    "y ~ (1 | a/(b/c))": ("from the outside in", "("),
    "y ~ (1 | a:(b/c))": ("write the terms out", "a"),
    "y ~ (0 | g)": ("has no columns", "(0 | g)"),
    "y ~ (1 | g) + (1 | g)": ("twice", "(1 | g)"),
    "y ~ (1 | a/b) + (1 | a)": ("twice", "(1 | a)"),
    "y ~ x:offset(z) + (1 | g)": ("an offset can only be added", "offset(z)"),
    "y ~ x - offset(z) + (1 | g)": ("cannot be subtracted", "offset(z)"),
    "y ~ offset() + (1 | g)": ("needs a column", "offset()"),
    "y ~ x^2 + (1 | g)": ("write I(x^2)", "x^2"),
    "y ~ (a + b)^x + (1 | g)": ("whole number", "x"),
    "y ~ . + (1 | g)": ("name the columns", "."),
    "y ~ 2*x + (1 | g)": ("only the numbers 0 and 1", "2"),
    "y ~ 1:x + (1 | g)": ("a number cannot be part", "1"),
    "y ~ x z + (1 | g)": ("expected an operator", "z"),
    "y ~ x + + * z + (1 | g)": ("expected a term", "*"),
    "y ~ x + (1 | g) +": ("ends where a term", ""),
    "y ~ () + (1 | g)": ("nothing between", "("),
    "y ~ 'a' + (1 | g)": ("a string cannot be a term", "'a'"),
    "y ~ df$x + (1 | g)": ("not `df$x`", "$"),
    "y ~ `x + (1 | g)": ("never closed", "`"),
    "y ~ `` + (1 | g)": ("no name between", "``"),
    "y ~ log(x,, 2) + (1 | g)": ("a value is missing before ','", ","),
    "y ~ log(x z) + (1 | g)": ("is missing before", "z"),
    "y ~ log(x]) + (1 | g)": ("closes nothing", "]"),
    "y ~ I(a %in% b) + (1 | g)": ("cannot stand inside a call", "%in%"),
    "y ~ ns(x, 3) + (1 | g)": ("use cr(x, df=...)", "ns"),
    "y ~ s(x) + (1 | g)": ("bs(x, df=...)", "s"),
    "y ~ as.numeric(x) + (1 | g)": ("in the data frame", "as.numeric"),
    "cbind(a, b) ~ (1 | g)": ("one numeric response", "cbind"),
    "y | z ~ (1 | g)": ("cannot be part of the response", "|"),
    "y + ~ (1 | g)": ("a value is missing before '~'", "~"),
    "y ~ ~ (1 | g)": ("one '~'", "~"),
}


def _bar(text: str) -> Bar:
    """Read "(lhs | a:b)" without the parser."""
    lhs, _, group = text[1:-1].rpartition("|")
    correlated = not lhs.endswith("|")
    names = tuple(part.strip().strip("`") for part in group.split(":"))
    return Bar(lhs.rstrip("|").strip(), names, correlated)


@pytest.mark.parametrize("formula", READS)
def test_reads(formula):
    response, fixed, bars, offsets = READS[formula]
    spec = parse(formula)
    assert spec == FormulaSpec(response, fixed, tuple(map(_bar, bars)), tuple(offsets))


@pytest.mark.parametrize("formula", READS)
def test_prints_as_a_formula_again(formula):
    spec = parse(formula)
    assert parse(str(spec)) == spec
    assert str(parse(str(spec))) == str(spec)


@pytest.mark.parametrize("formula", REFUSES)
def test_refuses_and_points(formula):
    message, marked = REFUSES[formula]
    with pytest.raises(FormulaError) as caught:
        parse(formula)
    assert message in str(caught.value)
    if marked is None:
        return
    _, shown, carets = str(caught.value).splitlines()
    start = carets.index("^")
    assert shown[start : start + carets.count("^")] == marked
    # Whatever is shown is the formula, column for column.
    assert shown[4:] == formula


@pytest.mark.parametrize("formula", [None, 3, b"y ~ (1|g)", ["y"]])
def test_refuses_what_is_not_text(formula):
    with pytest.raises((FormulaError, TypeError)):
        parse(formula)


def test_errors_are_value_errors():
    assert issubclass(FormulaError, LmmError)
    assert issubclass(LmmError, ValueError)


def test_specs_are_hashable_and_cached():
    one, other = parse("y ~ (x | g) + x"), parse("y ~ x + (1 + x | g)")
    assert one == other
    assert hash(one) == hash(other)
    assert parse("y ~ x + (1 + x | g)") is other
    with pytest.raises(AttributeError):
        one.fixed = "1"


@pytest.mark.parametrize(
    ("formula", "variables"),
    [
        ("y ~ x + (z | g)", ("y", "x", "z", "g")),
        ("log(y) ~ poly(x, 2) * `a b` + (1 | a/b)", ("y", "x", "a b", "b", "a")),
        ("y ~ C(x, contr.sum) + np.pi + offset(log(n)) + (1 | g)", ("y", "x", "np.pi", "n", "g")),
        ("y ~ bs(x, df=4, knots=None) + I(x > pi) + (1 | g)", ("y", "x", "pi", "g")),
        ("y ~ log(a.b, base=b) + clip(x, 0, 5) + (1|g)", ("y", "a.b", "b", "x", "g")),
        ("y ~ factor(x, levels=['a', 'b']) + (1 | g)", ("y", "x", "g")),
    ],
)  # fmt: skip
def test_variables(formula, variables):
    assert parse(formula).variables == variables


def test_a_bar_knows_what_was_written():
    bars = parse("y ~ (x|school / class)").bars
    assert [bar.original for bar in bars] == ["(1 + x | school/class)"] * 2
    assert [bar.group_name for bar in bars] == ["class:school", "school"]
    assert str(parse("y ~ (x|school / class)")) == "y ~ 1 + (1 + x | school/class)"
