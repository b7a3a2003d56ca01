"""Formulas that nobody would write: only lmmjax's errors come of them, soon, and no code is run."""

import os
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lmmjax.design import build_design
from lmmjax.errors import FormulaError, LmmError
from lmmjax.formula import parse, quote
from lmmjax.functions import known_functions

#: More of them by hand: LMMJAX_EXAMPLES=50000 pytest tests/test_hostile_formulas.py
EXAMPLES = int(os.environ.get("LMMJAX_EXAMPLES", "200"))
#: Seconds of this process that one formula may take.
SOON = 5.0
#: What Python reports when it compiles, runs, imports, opens or calls something.
FORBIDDEN = (
    "compile",
    "exec",
    "import",
    "open",
    "os.",
    "subprocess.",
    "ctypes.",
    "socket.",
    "code.",
)

many = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)

FRAME = pd.DataFrame(
    {
        "y": np.arange(1.0, 25) ** 1.5,
        "x": np.random.default_rng(2).uniform(1, 5, 24),
        "n": np.arange(24) % 5,
        "f": pd.Categorical(["lo", "mid", "hi"] * 8, ["lo", "mid", "hi"]),
        "t": ["u", "v", "v"] * 8,
        "b": [True, False] * 12,
        "g": np.repeat(np.arange(6), 4),
        "a b": np.random.default_rng(3).normal(size=24),
        "yield": np.random.default_rng(4).normal(size=24),
        "pi": np.random.default_rng(5).normal(size=24),
    }
)


class _Watch:
    """Python's own account of what is done; a hook stays for good, so that it is switched."""

    def __init__(self):
        self.on = False
        self.seen = []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.on and event.startswith(FORBIDDEN):
            self.seen.append((event, repr(arguments)[:80]))


@pytest.fixture(scope="module")
def watch():
    """Everything that is loaded when first needed is loaded before it watches."""
    for terms in ("poly(x, 2) + bs(x, df = 4) + cr(x, df = 4) + C(f, contr.sum) + scale(x)", "x"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            build_design(f"y ~ {terms} + (1 | g)", FRAME)
            build_design("y ~ C(f, contr.poly) + C(t, contr.helmert) + (1 | g)", FRAME)
    with pytest.raises(LmmError):
        build_design("y ~ lgo(x) + zz + (1 | g)", FRAME)
    return _Watch()


def _soon(run, watch=None):
    """What `run` gives, or None after one of lmmjax's errors."""
    start = time.process_time()
    if watch is not None:
        watch.seen.clear()
        watch.on = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run()
    except LmmError:
        return None
    finally:
        if watch is not None:
            watch.on = False
            assert not watch.seen
        assert time.process_time() - start < SOON


PIECES = [
    *("y", "x", "f", "g", "`a b`", "yield", "lambda", "pi", "np", "_", ".", "1", "0", "2", "1e5"),
    *("+", "-", "*", "/", ":", "^", "**", "%in%", "%%", "%/%", "~", "|", "||", "&", "!", "=", "=="),
    *("(", ")", "[", "]", "{", "}", ",", "@", "<", ">", "'s'", '"', "`", "\\", "$", "#", ";", "\n"),
    *(
        "log(",
        "I(",
        "poly(",
        "offset(",
        "C(",
        "factor(",
        "interaction(",
        "c(",
        "(1 | g)",
        "(x || g)",
    ),
    *(
        "TRUE",
        "NULL",
        "None",
        "if",
        "else",
        "in",
        "and",
        "not",
        "for",
        "import",
        "__import__('os')",
    ),
    *(
        "x.y",
        "x.__class__",
        "eval(",
        "exec(",
        "2L",
        ".5",
        "..",
        "é",
        "²",
        "٣",
        "\u0301",
        "\x00",
        "😀",
    ),
]

soups = st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join)
glued = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)
framed = st.tuples(soups, soups).map(lambda p: f"y ~ {p[0]} + (1 | g) {p[1]}")

names = st.sampled_from([quote(name) for name in FRAME])
numbers = st.one_of(
    st.integers(-3, 12).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1e999", "9" * 40, "2L", "TRUE", "NULL", "Inf", "NaN", "pi", "T"]),
)
texts = st.sampled_from(
    ['"lo"', "'u'", "'contr.sum'", "contr.poly", "Sum", "c(1, 2)", "[2, 3]", "1:4"]
)
functions = st.sampled_from(
    [*known_functions(), "eval", "open", "x.clip", "np.load", "getattr", "nothing"]
)


def _calls(inner):
    keyed = st.tuples(st.sampled_from(["", "degree = ", "df = ", "levels = ", "base = "]), inner)
    arguments = st.lists(keyed.map("".join), max_size=3).map(", ".join)
    operators = st.sampled_from(
        ["+", "-", "*", "/", "^", "**", "%%", "%/%", "//", "%", ":", "==", "<", "!=", "&", "|"]
    )
    return st.one_of(
        st.tuples(functions, arguments).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(inner, operators, inner).map(" ".join),
        st.tuples(st.sampled_from("-!+"), inner).map("".join),
        inner.map(lambda e: f"({e})"),
    )


expressions = st.recursive(st.one_of(names, names, numbers, texts), _calls, max_leaves=8)
terms = st.recursive(
    st.one_of(names, expressions.map(lambda e: f"I({e})"), expressions.map(lambda e: f"{{{e}}}")),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", " - ", ":", "*", "/", " %in% "]), inner).map(
            "".join
        ),
        st.tuples(inner, st.integers(1, 5)).map(lambda p: f"({p[0]})^{p[1]}"),
    ),
    max_leaves=5,
)


@many
@given(st.one_of(st.text(), soups, glued, framed))
@example("y ~ " + "(" * 5000 + "x" + ")" * 5000 + " + (1 | g)")
@example("y ~ I(" + "-" * 5000 + "x) + (1 | g)")
@example("y ~ I(" + "x + " * 5000 + "x) + (1 | g)")
@example("y ~ I(" + "x^" * 5000 + "x) + (1 | g)")
@example("y ~ " + "log(" * 5000 + "x + (1 | g)")
@example("y ~ (1 | " + "(" * 5000 + "g)")
@example("y ~ (1 | " + "/".join(f"g{k}" for k in range(5000)) + ")")
@example("y ~ " + " * ".join(f"x{k}" for k in range(60)) + " + (1 | g)")
@example("y ~ (" + " + ".join(f"x{k}" for k in range(40)) + ")^40 + (1 | g)")
@example("y ~ (a + b)^999999999 + (1 | g)")
@example("y ~ " + " + ".join(f"x{k}" for k in range(20_000)) + " + (1 | g)")
@example("y ~ " + ":".join(["x"] * 10_000) + " + (1 | g)")
@example("y ~ " + ":".join(f"x{k}" for k in range(2_000)) + " + (1 | g)")
@example("y ~ " + "x" * 1_000_000)
@example("y ~ " + "+" * 20_000 + "x + (1 | g)")
@example("y ~ " + "`" * 20_001)
@example("y ~ x" + " " * 20_000)
@example("`" + "\\" * 20_000)
def test_any_text_is_read_or_refused(formula):
    spec = _soon(lambda: parse(formula))
    if spec is not None:
        # What is printed means the same.
        assert parse(str(spec)) == spec
        assert parse(str(spec)).variables == spec.variables


@many
@given(expressions)
@example("9^9^9^9^9")
@example("1:999999999")
@example("poly(x, 99999999)")
@example("bs(x, df = 99999999)")
@example("bs(x, degree = 900)")
@example("factor(x, levels = 1:99999)")
@example("round(x, 999999999)")
@example("C(f, contr.poly(scores = c(1, 1, 1)))")
@example("contr.treatment()")
@example("c(f, f)")
@example("I()")
@example("x & NULL")
def test_any_expression_has_a_value_or_is_refused(watch, expression):
    for formula in (f"y ~ I({expression}) + (1 | g)", f"{expression} ~ x + (1 | g)"):
        design = _soon(lambda formula=formula: build_design(formula, FRAME), watch)
        if design is not None:
            assert np.isfinite(design.X).all()
            assert np.isfinite(design.y).all()
            assert design.y.dtype == design.X.dtype == np.float64
            # New rows are coded as these were, or refused.
            new = _soon(lambda design=design: design.coding.new_data(FRAME.iloc[:5]), watch)
            if new is not None:
                _, ours, theirs = np.intersect1d(
                    new.row_index, design.row_index, return_indices=True
                )
                np.testing.assert_array_equal(new.X[ours], design.X[theirs])


@many
@given(terms, terms)
def test_any_terms_are_columns_or_refused(watch, fixed, slopes):
    formula = f"y ~ {fixed} + ({slopes} | g)"
    design = _soon(lambda: build_design(formula, FRAME, weights=np.arange(1.0, 25)), watch)
    if design is not None:
        again = _soon(lambda: build_design(str(design.formula), FRAME, weights=np.arange(1.0, 25)))
        np.testing.assert_array_equal(again.X, design.X)
        assert len(set(design.x_names)) == design.p
        assert np.isfinite(design.terms[0].Z).all()


@many
@given(st.text(min_size=1, max_size=12))
@example("`")
@example("\\")
@example("a\nb")
def test_any_name_of_a_column_can_be_written(name):
    data = FRAME.rename(columns={"x": name})
    if (data.columns == name).sum() > 1:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        design = build_design(f"y ~ {quote(name)} + ({quote(name)} | g)", data)
    assert design.x_names == ("(Intercept)", name)
    np.testing.assert_array_equal(design.X[:, 1], FRAME["x"])
    assert parse(str(design.formula)).variables == ("y", name, "g")


def test_the_watch_sees_what_it_is_for(watch):
    watch.on = True
    compile("1 + 1", "", "eval")
    eval("1")
    with pytest.raises(OSError, match="nowhere"):
        os.open("/nowhere/at/all", os.O_RDONLY)
    watch.on = False
    assert {event for event, _ in watch.seen} >= {"compile", "exec", "open"}
    watch.seen.clear()


def test_errors_point_into_the_formula():
    for formula in ("y ~ x + (1 | g", "y ~ I(x +) + (1 | g)", "y ~ é$ + (1 | g)"):
        with pytest.raises(FormulaError) as caught:
            parse(formula)
        assert 0 <= caught.value.position <= len(formula)
