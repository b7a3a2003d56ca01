"""What the README tells a newcomer to type is run, and prints what it shows."""

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest
from printed import same_print

from lmmjax.cli import main

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks():
    """Language, text, and what stands in the output block right after it (None if nothing)."""
    text = README.read_text(encoding="utf-8")
    found = list(BLOCK.finditer(text))
    out = []
    for i, match in enumerate(found):
        after = found[i + 1] if i + 1 < len(found) else None
        between = text[match.end() : after.start()].strip() if after else "end"
        shown = after[2] if after and after[1] == "text" and not between else None
        out.append((match[1], match[2], shown))
    return out


def test_python_blocks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    count = 0
    for language, code, shown in blocks():
        if language != "python":
            continue
        count += 1
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, f"README block {count}", "exec"), names)
        assert same_print(shown or "", out.getvalue()), out.getvalue()
    assert count >= 4


def test_command_lines(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(README.parent / "examples", tmp_path / "examples")
    commands = [
        shlex.split(line)[1:]
        for language, text, _ in blocks()
        if language == "sh"
        for line in text.splitlines()
        if line.startswith("lmmjax ")
    ]
    assert [command[0] for command in commands] == ["datasets", "fit", "demo", "power"]
    for command in commands:
        assert main(command) == 0
        assert capsys.readouterr().err == ""
    assert (tmp_path / "fit.json").stat().st_size > 0
    assert (tmp_path / "power.png").stat().st_size > 1000
    assert len(list((tmp_path / "pictures").glob("*.png"))) >= 4


def test_names_of_the_table():
    """Every attribute that the table from lme4 names is there."""
    import lmmjax as lj

    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"\bfit\.(\w+)", text)) - {"json"}
    assert {"fixef", "ranef", "predict", "theta"} <= named
    assert [name for name in named if not hasattr(lj.LinearMixedModelResult, name)] == []
    functions = set(re.findall(r"\blj\.(\w+)", text))
    assert [name for name in functions if not hasattr(lj, name)] == []
    drawn = set(re.findall(r"\blj\.plot\.(\w+)", text))
    assert [name for name in drawn if not hasattr(lj.plot, name)] == []


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_make_commands_stand_on_lines_of_their_own(command):
    assert command in README.read_text(encoding="utf-8").splitlines()
