"""The notebooks: they run from start to end, and what is committed is what they print today."""

import re
from pathlib import Path

import pytest
from printed import same_print

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# Where something was run says nothing to a reader, and changes with every machine.
MACHINE_PATH = re.compile(r"(?:/(?:home|root|tmp|work|Users|usr|opt|mnt|var)/|[A-Z]:\\\\)[\w.-]+")


def by_name(path):
    return path.name


def printed(cell):
    return "".join(o["text"] for o in cell["outputs"] if o["output_type"] == "stream")


def pictures(cell):
    return [o for o in cell["outputs"] if "image/png" in o.get("data", {})]


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_committed_with_outputs(path):
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert any(pictures(cell) for cell in cells)
    for output in outputs:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr"
    found = MACHINE_PATH.search(re.sub(r'"image/png": "[^"]*"', "", text))
    assert found is None, found
    assert len(text) < 1_000_000


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_runs_and_prints_what_is_committed(path):
    committed = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    for cell in code_cells(fresh):
        cell["outputs"] = []
    client = nbclient.NotebookClient(
        fresh, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    # An error in a cell is raised here.
    client.execute()
    for before, after in zip(code_cells(committed), code_cells(fresh), strict=True):
        assert same_print(printed(before), printed(after)), (printed(before), printed(after))
        assert len(pictures(before)) == len(pictures(after)), before["source"]
