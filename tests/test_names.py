"""Names: columns of any text, R's names of coefficients, and what a formula can call."""

import keyword
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import lmmjax as lj
from lmmjax.design import build_design
from lmmjax.errors import DataError, FormulaError, LmmError, LmmWarning
from lmmjax.formula import parse, quote
from lmmjax.functions import known_functions

X = np.array([1.0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12])


def _frame(**columns) -> pd.DataFrame:
    base = {
        "y": np.arange(1.0, 13) ** 1.5,
        "x": X,
        "z": [4, 9, 16] * 4,
        "f": pd.Categorical(["lo", "mid", "hi"] * 4, ["lo", "mid", "hi"]),
        "kk": [True, False] * 6,
        "g": np.repeat([1, 2, 3], 4),
    }
    return pd.DataFrame({**base, **columns})


def _build(formula, data, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error", LmmWarning)
        return build_design(formula, data, **kwargs)


# d <- data.frame(y=(1:12)^1.5, x=c(1,3,2,5,4,7,6,9,8,11,10,12), z=rep(c(4,9,16),4),
#   f=factor(rep(c("lo","mid","hi"),4), levels=c("lo","mid","hi")), kk=rep(c(TRUE,FALSE),6))
# colnames(model.matrix(~ I(x**2), d)) and so on
R_NAMES = {
    "I(x**2)": ["I(x^2)"],
    "I( x ^2 )": ["I(x^2)"],
    "poly(x,2)": ["poly(x, 2)1", "poly(x, 2)2"],
    "poly(x,2,raw=TRUE)": ["poly(x, 2, raw = TRUE)1", "poly(x, 2, raw = TRUE)2"],
    "kk": ["kkTRUE"],
    "kk*f": ["kkTRUE", "fmid", "fhi", "kkTRUE:fmid", "kkTRUE:fhi"],
    "C(f,contr.sum)": ["C(f, contr.sum)1", "C(f, contr.sum)2"],
    "C(f,'contr.sum')": ['C(f, "contr.sum")1', 'C(f, "contr.sum")2'],
    "I(x>1)": ["I(x > 1)TRUE"],
    "as.factor(z)": ["as.factor(z)9", "as.factor(z)16"],
    "relevel(f,'hi')": ['relevel(f, "hi")lo', 'relevel(f, "hi")mid'],
    "log(x+1,base=2)": ["log(x + 1, base = 2)"],
    "I(x/1000)": ["I(x/1000)"],
    "I(x*100000)": ["I(x * 1e+05)"],
    "I(x*1e-3)": ["I(x * 0.001)"],
    "I(2*x %% 2)": ["I(2 * x%%2)"],
    "I(-x^2)": ["I(-x^2)"],
    "I((x>3)|(z<9))": ["I((x > 3) | (z < 9))TRUE"],
    "I(x>1 & z<9)": ["I(x > 1 & z < 9)TRUE"],
    "ifelse(x>5,'a','b')": ['ifelse(x > 5, "a", "b")b'],
    "I(!kk)": ["I(!kk)TRUE"],
    "log(`x`)": ["log(x)"],
    "I(x - mean(x))": ["I(x - mean(x))"],
    "I(.5*x+2L)": ["I(0.5 * x + 2)"],
    "I(1e15*x)": ["I(1e+15 * x)"],
    "I(x*-1)": ["I(x * -1)"],
    "I(x^-1)": ["I(x^-1)"],
    "exp(-x/3)": ["exp(-x/3)"],
    "I(kk*1.0)": ["I(kk * 1)"],
    "factor(z,levels=c(9,4,16))": [f"factor(z, levels = c(9, 4, 16)){k}" for k in (4, 16)],
    "f/x": ["fmid", "fhi", "flo:x", "fmid:x", "fhi:x"],
}


@pytest.mark.parametrize("terms", R_NAMES)
def test_coefficients_are_named_as_in_r(terms):
    design = _build(f"y ~ {terms} + (1 | g)", _frame())
    assert list(design.x_names) == ["(Intercept)", *R_NAMES[terms]]
    # The formula that is printed means the same.
    assert _build(str(design.formula), _frame()).x_names == design.x_names


@pytest.mark.parametrize(
    ("contrasts", "names"),
    [
        # contrasts(d$f) <- contr.sum(3); colnames(model.matrix(~ f, d))
        ("contr.sum", ["f1", "f2"]),
        ("contr.helmert", ["f1", "f2"]),
        ("contr.poly", ["f.L", "f.Q"]),
        ("contr.SAS", ["flo", "fmid"]),
        ("contr.treatment", ["fmid", "fhi"]),
        # MASS::contr.sdif
        ("contr.diff", ["fmid-lo", "fhi-mid"]),
        (np.array([[1, 0], [-1, 1], [0, -1]]), ["f1", "f2"]),
        (pd.DataFrame({"u": [1, -1, 0], "v": [0, 1, -1]}), ["fu", "fv"]),
        ({"u": [1, -1, 0], "v": [0, 1, -1]}, ["fu", "fv"]),
    ],
    ids=str,
)
def test_contrasts_are_named_as_in_r(contrasts, names):
    design = _build("y ~ f + (1 | g)", _frame(), contrasts={"f": contrasts})
    assert list(design.x_names[1:]) == names


def test_polynomial_contrasts_of_many_levels_are_named_as_in_r():
    data = {"y": np.arange(24.0) ** 1.5, "t": [f"t{k}" for k in range(6)] * 4, "g": [1, 2, 3] * 8}
    design = _build("y ~ t + (1 | g)", data, contrasts={"t": "contr.poly"})
    assert list(design.x_names[1:]) == ["t.L", "t.Q", "t.C", "t^4", "t^5"]


def test_hypotheses_find_the_names_in_any_spelling():
    from lmmjax.inference.hypotheses import parse_hypotheses

    names = [
        "(Intercept)",
        "I(x^2)",
        "poly(x, 2)1",
        "kkTRUE",
        "f.L",
        "f1",
        "poly(x, 2, raw = TRUE)1",
    ]
    for text, column in [
        ("I(x^2) = 0", 1),
        ("I(x ** 2)", 1),
        ("I(x**2)", 1),
        ("poly(x,2)1", 2),
        ("kkTRUE - kkTrue + kkTRUE", 3),
        ("f.L", 4),
        ("f1", 5),
        ("poly(x, 2, raw=True)1", 6),
    ]:
        assert parse_hypotheses(text, names).L.tolist() == [[float(j == column) for j in range(7)]]


# Columns of any name

ODD_NAMES = [
    *keyword.kwlist,
    *("pi", "Inf", "NaN", "np", "log", "I", "poly", "C", "T", "F", "TRUE", "NULL", "NA", "mean"),
    *("1", "2", "0", "-1", "1e5", ".5", "..", " ", "a b", "a.b", "a:b", "a|b", "a`b", "a\\b", "\\"),
    *("x^2", "log(x)", "I(x ** 2)", "(Intercept)", "größe", "été", "été", "x²", "身長", "ऊँचाई"),
    *("__class__", "__import__('os')", "{x}", "y ~ x", "'", '"', "a\tb", "%in%", "emoji 😀"),
    *("_v0", "Intercept", "x.clip", "f'x'", "lambda: 0"),
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_columns_of_any_name(name):
    expected = _build("y ~ x * f + log(x) + (x | g)", _frame())
    data = _frame().rename(columns={"x": name})
    written = quote(name)
    formula = f"y ~ {written} * f + log(`{written.strip('`')}`) + ({written} | g)"
    design = _build(formula, data)
    assert_array_equal(design.X, expected.X)
    assert_array_equal(design.terms[0].Z, expected.terms[0].Z)
    assert design.x_names[1] == name
    assert design.terms[0].columns == ("(Intercept)", name)
    assert str(parse(str(design.formula))) == str(design.formula)
    again = _build(str(design.formula), data)
    assert_array_equal(again.X, expected.X)
    assert_array_equal(design.coding.new_data(data.iloc[::-1]).X, expected.X[::-1])
    # The same name for the response, and for the groups.
    response = _build(f"{written} ~ x + (1 | g)", _frame(**{name: X}).assign(x=_frame()["y"]))
    assert_array_equal(response.y, _frame()["y"] if name == "x" else X)
    groups = _build(f"y ~ x + (1 | {written})", _frame(**{name: [1, 2, 3] * 4}))
    assert groups.terms[0].group == name


@pytest.mark.parametrize("name", [n for n in ODD_NAMES if n in keyword.kwlist])
def test_words_of_python_are_names(name):
    data = _frame(**{name: X**2})
    if name in ("True", "False", "None", "if", "else", "for", "while", "in", "break"):
        # R reserves these (and these three of Python's are constants here), so that calls need
        # backquotes; a term cannot be anything but a column.
        assert _build(f"y ~ {name} + (1 | g)", data).x_names[1] == name
        return
    design = _build(f"y ~ {name} + sqrt({name}) + (1 | g)", data)
    assert_array_equal(design.X[:, 1:], np.stack([X**2, X], axis=1))
    assert_array_equal(_build(f"{name} ~ x + (1 | g)", data).y, X**2)
    assert_array_equal(_build(f"log({name}) ~ x + (1 | g)", data).y, np.log(X**2))


def test_integer_labels_of_columns_are_columns():
    data = {"y": _frame()["y"].to_numpy(), 1: X, 2: X**2 % 7, "g": _frame()["g"].to_numpy()}
    for frame in (data, pd.DataFrame(data)):
        design = _build("y ~ `1` * `2` + (`1` | g)", frame)
        assert design.x_names == ("(Intercept)", "1", "2", "1:2")
        assert_array_equal(design.X[:, 3], X * (X**2 % 7))
        assert_array_equal(design.terms[0].Z[:, 1], X)


def test_columns_win_over_constants_and_not_over_functions():
    data = _frame(pi=X + 1, Inf=X + 2, np=X + 3, T=X + 4, log=X + 5, mean=X + 6, exp=X + 7)
    cases = {
        "I(pi * x)": X * (X + 1),
        "I(Inf * x)": X * (X + 2),
        "I(np * x)": X * (X + 3),
        "np.exp(np / 10)": np.exp((X + 3) / 10),
        "I(T * x)": X * (X + 4),
        "log(log)": np.log(X + 5),
        "log(x)": np.log(X),
        "I(mean - mean(mean))": X - X.mean(),
        "exp(exp / 10) ": np.exp((X + 7) / 10),
    }
    for terms, expected in cases.items():
        assert_allclose(_build(f"y ~ {terms} + (1 | g)", data).X[:, 1], expected, err_msg=terms)
    # Where there is no such column they are what they are called.
    plain = _build("y ~ I(pi * x) + (1 | g)", _frame())
    assert_allclose(plain.X[:, 1], np.pi * X)
    assert plain.formula.variables == ("y", "x", "g")
    # What a name meant at the fit it means ever after.
    assert_allclose(plain.coding.new_data(data).X, plain.X)
    own = _build("y ~ I(pi * x) + (1 | g)", data)
    with pytest.raises(DataError, match="no column 'pi'"):
        own.coding.new_data(_frame())
    with pytest.raises(DataError, match="no column 'pi'"):
        build_design("y ~ pi + (1 | g)", _frame())
    with pytest.raises(DataError, match="no column 'pi'"):
        build_design("y ~ log(`pi`) + (1 | g)", _frame())


# Expressions


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # x <- c(1,3,2,5,4,7,6,9,8,11,10,12): R's values of the same text
        ("2 * x %% 4", 2 * (X % 4)),
        ("2 * x % 4", (2 * X) % 4),  # Python's operator has Python's precedence
        ("-x %% 3", (-X) % 3),
        ("x %/% 2 * 3", X // 2 * 3),
        ("x // 2 * 3", X // 2 * 3),
        ("-x^2", -(X**2)),
        ("2^-x", 2.0**-X),
        ("2^x^0.5", 2 ** (X**0.5)),
        ("x - 1 - 2", X - 3),
        ("x / 2 / 2", X / 4),
        ("(x > 2 & x < 8 | x == 11) * 1", 1.0 * ((X > 2) & (X < 8) | (X == 11))),
        ("(!x > 6) * 1", 1.0 * ~(X > 6)),
        ("kk + kk", 2.0 * np.array([True, False] * 6)),
        ("(f == 'mid') * 1", 1.0 * (np.arange(12) % 3 == 1)),
        ("(f != \"lo\") * x", X * (np.arange(12) % 3 != 0)),
        ("z * 100000000000 * 100000000000", np.array([4.0, 9, 16] * 4) * 1e22),
        ("x - min(x) + sum(x) / sd(x)", X - 1 + X.sum() / X.std(ddof=1)),
        ("exp10(x / 10)", 10 ** (X / 10)),
        ("pmax(x, 3) + pmin(x, 3)", np.maximum(X, 3) + np.minimum(X, 3)),
        ("clip(x, 2, 5)", np.clip(X, 2, 5)),
    ],
)  # fmt: skip
def test_expressions_have_the_values_of_r(expression, expected):
    for text in (expression, str(parse(f"I({expression}) ~ (1 | g)").response)[2:-1]):
        design = _build(f"y ~ I({text}) + (1 | g)", _frame())
        assert_allclose(design.X[:, 1], expected, rtol=1e-14)
    assert_allclose(_build(f"{expression} ~ x + (1 | g)", _frame()).y, expected, rtol=1e-14)


@pytest.mark.parametrize("text", ["x - mean(x)", "x / sd(x)", "np.max(x) - x", "scale(x) * sum(x)"])
def test_summaries_are_those_of_the_fit(text):
    design = _build(f"y ~ I({text}) + (I({text}) | g)", _frame())
    new = pickle.loads(pickle.dumps(design)).coding.new_data(_frame().iloc[[3, 7]])
    assert_array_equal(new.X, design.X[[3, 7]])
    assert_array_equal(new.terms[0].Z, design.terms[0].Z[[3, 7]])


def test_a_boolean_response_is_refused_where_it_is_one():
    data = _frame(b=[True, False, False] * 4)
    assert_array_equal(_build("I(b * 1.0) ~ x + (1 | g)", data).y, [1, 0, 0] * 4)
    assert_array_equal(_build("ifelse(f == 'lo', 2, 3) ~ x + (1 | g)", data).y, [2, 3, 3] * 4)
    for response in ("b", "I(b)", "I(x > 3)", "!b"):
        with pytest.raises(DataError, match=r"boolean|true or false"):
            build_design(f"{response} ~ x + (1 | g)", data)


def test_polynomials_that_the_values_do_not_determine_are_refused():
    # R: 'degree' must be less than number of unique points
    with pytest.raises(DataError, match=r"3 distinct values, which determine .* degree 2 at most"):
        build_design("y ~ poly(z, 3) + (1 | g)", _frame())
    assert _build("y ~ poly(z, 2) + (1 | g)", _frame()).p == 3


# What can be called

REFUSED_CODE = [
    "__import__('os')",
    "eval('1')",
    "exec('1')",
    "open('/etc/passwd')",
    "getattr(x, 'a')",
    "np.load('f')",
    "np.fromfile('f')",
    "np.exp.at(x)",
    "x.__class__()",
    "x.to_csv('f')",
    "x.clip(0, 5)",
    "builtins.eval('1')",
    "contr.custom(x)",
    "print(x)",
    "system('true')",
    "get('x')",
]


@pytest.mark.parametrize("call", REFUSED_CODE)
def test_calls_go_to_known_functions_only(call):
    for formula in (
        f"y ~ {call} + (1 | g)",
        f"{call} ~ x + (1 | g)",
        f"y ~ I(x + {call}) + (1 | g)",
    ):
        with pytest.raises(FormulaError, match=r"no function|methods of columns|cannot stand"):
            build_design(formula, _frame())


@pytest.mark.parametrize(
    "expression",
    ["x.T", "x[0]", "x.__class__", "[k for k in x]", "lambda: 0", "x if x else x", "(yield)",
     "f'{x}'", "{x: 1}", "x := 1", "*x", "**x", "x.real.imag", "a.b.c", "x @ x", "x; x",
     "x == x == x", "not x", "x and x", "`x`.y", "-", "x &&x"],
)  # fmt: skip
def test_there_is_nothing_else_in_the_grammar(expression):
    with pytest.raises(LmmError):
        build_design(f"y ~ I({expression}) + (1 | g)", _frame())


def test_what_the_caller_passes_in():
    seen = []

    def half(values, times=1):
        seen.append(values)
        return values / 2**times

    data = _frame(z=_frame()["z"].astype(float))
    env = {"half": half, "k": 3.0, "log": lambda v: v * 10, "levels": [16, 4, 9]}
    design = _build("y ~ half(x) + I(k^x) + half(z, times = 2) + log(x^3) + (1 | g)", data, env=env)
    assert design.x_names[1:] == ("half(x)", "I(k^x)", "half(z, times = 2)", "log(x^3)")
    expected = [X / 2, 3**X, data["z"] / 4, 10 * X**3]
    assert_array_equal(design.X[:, 1:].T, expected)
    assert isinstance(seen[0], np.ndarray)
    assert_array_equal(design.coding.new_data(data.iloc[:4]).X, design.X[:4])
    # A column wins over a constant.
    named = _build("y ~ I(k * x) + (1 | g)", data.assign(k=X), env=env)
    assert_array_equal(named.X[:, 1], X * X)
    relevelled = _build("y ~ factor(z, levels = levels) + (1 | g)", data, env=env)
    assert relevelled.x_names[1:] == tuple(f"factor(z, levels = levels){v}" for v in (4, 9))
    # Text arrives as it is.
    lengths = _build("y ~ size(f) + (1 | g)", data, env={"size": np.vectorize(len)})
    assert_array_equal(lengths.X[:, 1], [2.0, 3, 2] * 4)
    # The caller's own variables are not looked at.
    k = seen  # noqa: F841
    with pytest.raises(DataError, match="no column 'k'"):
        build_design("y ~ I(k * x) + (1 | g)", data)
    with pytest.raises(FormulaError, match=r"no function half\(\) .*env=\{'half': ...\}"):
        build_design("y ~ half(x) + (1 | g)", data)
    with pytest.raises(DataError, match=r"cannot compute 'bad\(x\)': ZeroDivisionError"):
        build_design("y ~ bad(x) + (1 | g)", data, env={"bad": lambda v: 1 / 0})
    with pytest.raises(LmmError, match="env must map names"):
        build_design("y ~ x + (1 | g)", data, env=["half"])


def test_a_fit_keeps_what_was_passed_in(fits):
    data = fits.data("sleepstudy")
    own = lj.lmm("Reaction ~ half(Days) + (1 | Subject)", data, env={"half": lambda x: x / 2})
    plain = fits("sleepstudy", "Reaction ~ Days + (1 | Subject)")
    assert_allclose(own.predict(data), plain.predict(data), rtol=1e-8)
    assert_allclose(own.anova().frame["F value"], plain.anova().frame["F value"], rtol=1e-6)


@pytest.mark.parametrize("call", ["factor(temp)", "as.factor(temp)", "C(temp, contr.sum)", "temp"])
def test_means_know_a_factor_in_any_spelling(call, fits):
    # The fits differ in their coding alone: means of the groups of temperatures are the same.
    written = f"angle ~ recipe + {call} + (1 | recipe:replicate)"
    means = fits("cake", written).emmeans("temp").frame
    expected = [175.0, 185, 195, 205, 215, 225] if call != "temp" else [200.0]
    assert means["temp"].astype(float).tolist() == expected
    same = fits("cake", "angle ~ recipe + temperature + (1 | recipe:replicate)")
    if call != "temp":
        assert_allclose(means["emmean"], same.emmeans("temperature").frame["emmean"], rtol=1e-6)


def test_units_are_those_of_numbers_and_not_of_levels():
    from lmmjax.inference.units import column_units

    design = _build("y ~ as.factor(z) + poly(x, 2, raw = T) + (1 | g)", _frame(x=X**1.5))
    units = column_units(design.coding).tolist()
    assert units[design.x_names.index("as.factor(z)9")] == units[0] == 0
    powers = [units[j] for j, name in enumerate(design.x_names) if name.startswith("poly")]
    assert len(set(powers)) == len(powers)


def test_known_functions_are_called_as_they_are_listed():
    # Nothing is listed that is not there, and nothing that reaches further than its arguments.
    assert {"log", "poly", "C", "I", "np.exp", "contr.sum"} <= set(known_functions())
    assert not {"eval", "open", "getattr", "np.load", "np.save", "print"} & set(known_functions())
    for name in known_functions():
        for arguments in ("x", "x, 2", "f", "f, 'lo'", "x > 3, x, 1"):
            try:
                build_design(f"y ~ {name}({arguments}) + (1 | g)", _frame())
            except LmmError:
                continue
