"""Files that are not what they should be: the command line says so in a line, whatever they hold.

LMMJAX_FUZZ=2000 tries that many files of each kind.
"""

import copy
import json
import os
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lmmjax as lj
from lmmjax.cli import main
from lmmjax.studies import spec as specs
from lmmjax.studies.curve import _axes

EXAMPLES = int(os.environ.get("LMMJAX_FUZZ", "60"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SPEC = {
    "formula": "y ~ arm * time + (1 + time | id)",
    "test": "time",
    "design": {
        "groups": {"id": 12},
        "per_group": 3,
        "within": {"time": [0, 1, 2]},
        "between": {"arm": {"a": 0.5, "b": 0.5}},
        "dropout": 0.1,
        "seed": 1,
    },
    "truth": {"fixed": {"time": 0.5}, "sd": [2.0, 1.0], "correlation": 0.1, "sigma": 3.0},
    "study": {"alpha": 0.05, "nsim": 100, "ddf": "kr", "method": "REML", "key": 4},
    "along": {"effect": [0.1, 0.5], "groups": [10, 12]},
}
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-20, 40)
    | st.floats(-1e9, 1e9)
    | st.sampled_from([float("inf"), float("nan"), 1e300, "", "time", "id", "y", "1e5", -(2**70)])
    | st.text(string.printable, max_size=12)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "time", "arm", "a", "x", "(Intercept)", ""]), inner, max_size=3
        )
    ),
    max_leaves=4,
)


def paths(tree, at=()):
    yield at
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            yield from paths(tree[key], (*at, key))


class WouldRunError(lj.LmmError):
    """The study would run now."""


@pytest.fixture
def described(monkeypatch):
    """Studies are read, and their designs and truths made, but not run."""

    def curve(design, parameters, test, *, along, **_):
        axes = _axes(along)
        parameters(design(**{name: values[0] for name, values in axes.items() if name != "effect"}))
        raise WouldRunError("would run")

    def power(*_, **__):
        raise WouldRunError("would run")

    monkeypatch.setattr(specs, "power", power)
    monkeypatch.setattr(specs, "power_curve", curve)


def answered(arguments, capsys):
    """One line, and the status of an error: or of success."""
    status = main(arguments)
    out = capsys.readouterr()
    assert status in (0, 2)
    if status == 2:
        assert out.out == ""
        errors = [t for t in out.err.splitlines() if t.startswith("lmmjax: error: ")]
        assert len(errors) == 1
    assert "Traceback" not in out.err


@FUZZ
@given(data=st.data())
def test_any_value_in_a_study_is_read_or_refused(data, tmp_path, capsys, described):
    tree = copy.deepcopy(SPEC)
    if data.draw(st.booleans()):
        del tree["along"]
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from([p for p in paths(tree) if p]))
        place = tree
        for key in way:
            place = place[key]
        place[last] = data.draw(VALUES)
    file = tmp_path / "study.json"
    file.write_text(json.dumps(tree))
    answered(["power", str(file)], capsys)


@FUZZ
@given(content=st.binary(max_size=200) | st.text(string.printable, max_size=200).map(str.encode))
def test_any_file_for_a_study_is_refused(content, tmp_path, capsys):
    for name in ("study.toml", "study.json"):
        (tmp_path / name).write_bytes(content)
        answered(["power", str(tmp_path / name)], capsys)


@FUZZ
@given(
    content=st.binary(max_size=300)
    | st.text("ab,;\t\"'\n\r 01.-\x00é", max_size=300).map(str.encode),
    options=st.lists(
        st.sampled_from(
            [
                *("--sep=;", "--sep=a", "--sep=\\t", "--decimal=,", "--thousands=."),
                *("--encoding=latin-1", "--encoding=utf-16", "--encoding=idna"),
                *("--na-values=1", "--factor=a", "--weights=b"),
            ]
        ),
        max_size=3,
    ),
    name=st.sampled_from(["t.csv", "t.tsv", "t.csv.gz", "t.zip", "t.xz", "t.parquet", "t.dta"]),
)
def test_any_table_is_read_or_refused(content, options, name, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    answered(["fit", "a ~ b + (1 | c)", str(tmp_path / name), *options], capsys)
