"""The public names: imported when used, the same for type checkers and at run time."""

import ast
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import lmmjax as lj


def test_type_checkers_see_the_table():
    tree = ast.parse(Path(lj.__file__).read_text())
    seen = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lmmjax"):
            for alias in node.names:
                assert alias.asname == alias.name
                seen[alias.name] = node.module.removeprefix("lmmjax").lstrip(".")
    assert seen == lj._HOME


def test_every_name_is_what_its_module_defines():
    for name, module in lj._HOME.items():
        home = importlib.import_module(f"lmmjax.{module or name}")
        assert getattr(lj, name) is (getattr(home, name) if module else home), name
        assert not module or importlib.util.find_spec(f"lmmjax.{name}") is None, name


def test_what_completion_shows_is_public():
    assert dir(lj) == sorted(["__doc__", "__version__", *lj._HOME])
    assert "TYPE_CHECKING" not in dir(lj)
    # The version is written in one place, which the installed package has it from.
    assert lj.__version__ == importlib.metadata.version("lmmjax")


def test_the_declared_dependencies_are_those_imported():
    """Whatever the package imports, but for its extras, is installed with it."""
    package = Path(lj.__file__).parent
    imported = set()
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                imported.add(node.module.partition(".")[0])
    outside = imported - set(sys.stdlib_module_names) - {"lmmjax"}
    project = tomllib.loads((package.parent / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"\W", text)[0] for text in project["dependencies"]}
    extras = {"matplotlib", "narwhals", "tqdm"}
    assert declared <= outside
    assert outside - extras == declared


def test_neither_the_import_nor_help_loads_jax():
    script = (
        "import sys, lmmjax, lmmjax.cli\n"
        "try: lmmjax.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'numpy', 'pandas', 'formulaic', 'matplotlib', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
