"""The public names: imported when used, the same for type checkers and at run time."""

import ast
import importlib.util
import subprocess
import sys
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
    assert set(lj._HOME) <= set(dir(lj))


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
