"""Which models are special cases of which: pairs of which it is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import lmmjax as lj
from lmmjax.bootstrap.nested import check_nested, check_nested_designs
from lmmjax.covariance import AR1, CompoundSymmetry, Diagonal, Identity


@pytest.fixture(scope="module")
def df():
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"g": np.repeat([f"g{i}" for i in range(12)], 6)})
    df["f"] = np.tile(np.repeat(list("abc"), 2), 12)
    df["recoded"] = df.f.map({"a": "r", "b": "q", "c": "p"})
    df["merged"] = df.f.map({"a": "ab", "b": "ab", "c": "c"})
    df["gf"] = df.g + df.f
    df["s"] = rng.choice(list("lmnop"), 72)
    df["x"] = rng.normal(size=72)
    df["z"] = 2 * df.x + 3
    df["y"] = rng.normal(size=72) + np.repeat(rng.normal(size=12), 6)
    return df


class Model:
    """What of a fit the comparison looks at; nothing is fitted."""

    def __init__(self, formula, df, structure=None, **kwargs):
        self.design = lj.build_design(formula, df, **kwargs)
        structures = None if structure is None else [(structure,)]
        prepared = lj.prepare_design(self.design, structures)
        self.raw = SimpleNamespace(prepared=prepared)
        self.df_model = self.design.p + prepared.n_theta + 1


@pytest.fixture(scope="module")
def model(df):
    return lambda formula, structure=None: Model(formula, df, structure)


NESTED = [
    # Fixed effects: in other units, another coding, fewer levels.
    ("y ~ x + (1 | g)", "y ~ 1 + (1 | g)"),
    ("y ~ f + x + (1 | g)", "y ~ z + (1 | g)"),
    ("y ~ f + x + (1 | g)", "y ~ recoded + (1 | g)"),
    ("y ~ f + (1 | g)", "y ~ merged + (1 | g)"),
    # Slopes.
    ("y ~ x + (1 + x | g)", "y ~ x + (1 | g)"),
    ("y ~ x + (1 + x | g)", "y ~ x + (0 + z | g)"),
    ("y ~ x + (1 + x | g)", "y ~ x + (1 + x || g)"),
    ("y ~ x + (1 + x || g)", "y ~ x + (0 + x | g)"),
    ("y ~ 1 + (f | g)", "y ~ 1 + (0 + recoded || g)"),
    # Factors within factors, whatever they are called.
    ("y ~ 1 + (1 | g / f)", "y ~ 1 + (1 | g)"),
    ("y ~ 1 + (1 | g / f)", "y ~ 1 + (1 | gf)"),
    ("y ~ 1 + (f | g)", "y ~ 1 + (1 | g) + (1 | g:f)"),
    ("y ~ 1 + (0 + f + x | g)", "y ~ 1 + (1 | g:merged)"),
    ("y ~ 1 + (1 | g) + (1 | s)", "y ~ 1 + (1 | s)"),
]
APART = [
    ("y ~ x * s + (1 | g)", "y ~ f + (1 | g)", "effects 'fb', 'fc' cannot be written"),
    ("y ~ merged + x + (1 | g)", "y ~ f + (1 | g)", "5 parameters .* one with more"),
    ("y ~ 0 + x + f + (1 | g)", "y ~ I(x**2) + (1 | g)", r"'I\(x\^2\)' cannot"),
    ("y ~ x + (1 + x || g)", "y ~ x + (0 + z | g)", r"\(z \| g\) are no special case"),
    ("y ~ x + f + (1 | g)", "y ~ x + (0 + x | g)", r"\(x \| g\) are no special case"),
    ("y ~ x + (1 + x | g)", "y ~ x + (1 | s)", r"of the large one's \(\(Intercept\) \+ x \| g\)"),
    ("y ~ x + (1 + x | g)", "y ~ x + (1 | g:f)", "no special case"),
    ("y ~ f + x + (1 | g:f)", "y ~ f + (1 | g)", "no special case"),
    ("y ~ 1 + (merged | g)", "y ~ 1 + (1 | g:f)", "no special case"),
    ("y ~ x + (1 | g)", "y ~ f + (1 | g)", "give the larger one first"),
]


@pytest.mark.parametrize(("large", "small"), NESTED)
def test_nested(model, large, small):
    check_nested(model(large), model(small))


@pytest.mark.parametrize(("large", "small", "said"), APART)
def test_not_nested(model, large, small, said):
    with pytest.raises(lj.LmmError, match=said):
        check_nested(model(large), model(small))


@pytest.mark.parametrize(
    ("large", "small", "nested"),
    [
        (None, CompoundSymmetry(3), True),
        (None, AR1(3), True),
        (None, Diagonal(3), True),
        (Diagonal(3), Identity(3), True),
        (CompoundSymmetry(3), Identity(3), True),
        (AR1(3), Identity(3), True),
        (Diagonal(3), CompoundSymmetry(3), False),
        (Diagonal(3), AR1(3), False),
    ],
)
def test_covariance_structures(model, large, small, nested):
    formula = "y ~ 1 + (0 + f | g)"
    if nested:
        check_nested(model(formula, large), model(formula, small))
    else:
        with pytest.raises(lj.LmmError, match="no special case"):
            check_nested(model(formula, large), model(formula, small))


def test_a_common_correlation_is_a_random_intercept_with_a_factor_within(model):
    one = model("y ~ x + (0 + f | g)", CompoundSymmetry(3))
    for small in ("y ~ 1 + (1 | g)", "y ~ 1 + (1 | g:f)"):
        check_nested(one, model(small))
    for small in ("y ~ 1 + (0 + x | g)", "y ~ 1 + (1 | g:merged)"):
        with pytest.raises(lj.LmmError, match="no special case"):
            check_nested(one, model(small))


def test_a_users_own_structure_is_within_itself_alone(model):
    class Own(Identity):
        """A structure that nothing is known of."""

    large = model("y ~ x + (0 + f | g)", Own(3))
    check_nested(large, model("y ~ 1 + (0 + f | g)", Own(3)))
    with pytest.raises(lj.LmmError, match="no special case"):
        check_nested(large, model("y ~ 1 + (1 | g)"))


def test_other_rows_weights_or_offsets(df, model):
    large = model("y ~ x + (1 | g)")
    with pytest.raises(lj.DataError, match=r"different responses or rows \(72 and 60\)"):
        check_nested(large, Model("y ~ 1 + (1 | g)", df.iloc[:60]))
    with pytest.raises(lj.DataError, match="different responses"):
        check_nested(large, model("I(y + 1) ~ 1 + (1 | g)"))
    w = np.linspace(1.0, 2.0, 72)
    for name in ("weights", "offset"):
        other = Model("y ~ 1 + (1 | g)", df, **{name: w})
        with pytest.raises(lj.DataError, match=f"different {name}"):
            check_nested(large, other)
        check_nested(Model("y ~ x + (1 | g)", df, **{name: w}), other)


@pytest.mark.parametrize(
    ("large", "small", "found"),
    [
        ("y ~ x + (1 | g)", "y ~ 1 + (1 | g)", 0),
        ("y ~ 1 + (1 + x | g)", "y ~ 1 + (1 | g)", 1),
        ("y ~ 1 + (1 + x | g)", "y ~ 1 + (1 + x || g)", 0),
        ("y ~ 1 + (1 + x || g)", "y ~ 1 + (1 | g)", 1),
        ("y ~ 1 + (1 | g) + (1 | s)", "y ~ 1 + (1 | g)", 1),
        ("y ~ 1 + (1 + x | g) + (1 | s)", "y ~ 1 + (1 | g)", 2),
        ("y ~ 1 + (0 + f | g)", "y ~ 1 + (1 | g)", 2),
        # Compound symmetry lies in the middle of all covariances: two variances, none at zero.
        ("y ~ 1 + (f | g)", "y ~ 1 + (1 | g) + (1 | g:f)", 0),
    ],
)
def test_variances_on_their_boundary_are_counted(model, large, small, found):
    one, other = model(large), model(small)
    pairs = (one.design, one.raw.prepared), (other.design, other.raw.prepared)
    assert check_nested_designs(*pairs) == found
