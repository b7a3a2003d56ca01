"""The command line: what it prints, writes, and says when something is wrong."""

import gzip
import io
import json
import subprocess
import sys
import warnings

import numpy as np
import pytest

import lmmjax as lj
from lmmjax.cli import estimates, main, read_table

SLEEP = "Reaction ~ Days + (1 + Days | Subject)"


@pytest.fixture(scope="module")
def csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "sleep.csv"
    assert main(["datasets", "sleepstudy", "--save", str(path)]) == 0
    return path


def test_fit_prints_the_summary(csv, sleep, capsys):
    assert main(["fit", SLEEP, str(csv)]) == 0
    out = capsys.readouterr()
    assert out.out == f"{sleep.summary()}\n"
    assert out.err == ""


def test_maximum_likelihood_weights_and_offset(csv, fits, capsys):
    frame = lj.datasets.load("sleepstudy")
    frame["w"], frame["shift"] = 1.0 + frame["Days"], 0.5 * frame["Days"]
    path = csv.with_name("weighted.csv")
    frame.to_csv(path, index=False)
    command = ["fit", SLEEP, str(path), "--ml", "--weights", "w", "--offset", "shift"]
    assert main([*command, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    fit = lj.lmm(SLEEP, frame, method="ML", weights="w", offset="shift")
    assert found["method"] == "ML"
    assert found["criteria"]["deviance"] == pytest.approx(fit.deviance)
    assert found["fixed_effects"][1]["estimate"] == pytest.approx(fit.fixef["Days"])


def test_json(csv, sleep, capsys):
    path = csv.with_name("fit.json")
    assert main(["fit", SLEEP, str(csv), "--json", str(path)]) == 0
    assert "Fixed effects" in capsys.readouterr().out
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(estimates(sleep)))
    assert (found["n"], found["groups"], found["n_dropped"]) == (180, {"Subject": 18}, 0)
    assert (found["converged"], found["singular"], found["messages"]) == (True, False, [])
    days = found["fixed_effects"][1]
    row = sleep.coefficients.loc["Days"]
    assert [days[k] for k in ("estimate", "std_error", "df", "t_value", "p_value")] == row.tolist()
    assert [days["lower"], days["upper"]] == sleep.conf_int().loc["Days"].tolist()
    kinds = [(c["group"], c["kind"], c["effects"]) for c in found["variance_components"]]
    assert kinds == [
        ("Subject", "sd", ["(Intercept)"]),
        ("Subject", "sd", ["Days"]),
        ("Subject", "correlation", ["(Intercept)", "Days"]),
        ("Residual", "sd", []),
    ]
    assert np.allclose(
        [c["estimate"] for c in found["variance_components"]], sleep.varcorr.to_frame()["sdcor"]
    )


def test_no_number_is_null_and_warnings_go_to_stderr(csv, capsys):
    path = csv.with_name("dyestuff2.csv")
    main(["datasets", "Dyestuff2", "--save", str(path)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["fit", "Yield ~ 1 + (1 | Batch)", str(path), "--json", "-"]) == 0
    out = capsys.readouterr()
    found = json.loads(out.out)
    assert found["singular"]
    assert found["variance_components"][0]["lower"] is None
    assert out.err.startswith("lmmjax: warning: boundary (singular) fit")
    assert out.err.count("\n") == 1


def test_pictures(csv, tmp_path, capsys):
    assert main(["fit", SLEEP, str(csv), "--plots", str(tmp_path / "p")]) == 0
    assert len(list((tmp_path / "p").glob("*.png"))) >= 4
    assert "trajectories.png" in capsys.readouterr().out


def test_demo(tmp_path, capsys):
    assert main(["demo", "--seed", "3", "--plots", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "seed 3" in out
    assert "Recovery" in out
    names = {"trajectories.png", "residuals.png", "qq.png", "caterpillar.png"}
    assert names <= {p.name for p in tmp_path.glob("*.png")}


def test_datasets(capsys):
    assert main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "sleepstudy: 180 rows, 3 columns"
    assert len(lines) == len(lj.datasets.names())
    assert main(["datasets", "cake"]) == 0
    assert capsys.readouterr().out.strip() == lj.datasets.describe("cake")


def test_numbers_as_factors(csv, capsys):
    command = ["fit", "Reaction ~ Days + (1 | Subject)", str(csv), "--json", "-"]
    assert main([*command, "--factor", "Days"]) == 0
    terms = [row["term"] for row in json.loads(capsys.readouterr().out)["fixed_effects"]]
    assert terms == ["(Intercept)", *(f"Days{day}" for day in range(1, 10))]


def test_kinds_of_files(csv, tmp_path, monkeypatch):
    expected = read_table(str(csv))
    text = csv.read_text()
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.tsv").write_text(text.replace(",", "\t"))
    (tmp_path / "bom.csv").write_text("\ufeff" + text, encoding="utf-8")
    (tmp_path / "semi.csv").write_text(text.replace(",", "; "))
    assert read_table(str(tmp_path / "a.csv.gz")).equals(expected)
    assert read_table(str(tmp_path / "a.tsv")).equals(expected)
    assert read_table(str(tmp_path / "bom.csv")).equals(expected)
    assert read_table(str(tmp_path / "semi.csv"), ";").equals(expected)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert read_table("-").equals(expected)


def failure(arguments, capsys):
    assert main(arguments) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith("lmmjax: error: ")
    return out.err.removeprefix("lmmjax: error: ")


def test_what_is_wrong_is_said_in_a_line(csv, tmp_path, capsys):
    semi = tmp_path / "semi.csv"
    semi.write_text("a;b\n1;2\n")
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    ragged = tmp_path / "ragged.csv"
    ragged.write_text("a,b\n1,2\n1,2,3\n")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(bytes(range(128, 256)))
    file = str(csv)
    cases = [
        (["fit", SLEEP, "nonesuch.csv"], "cannot read 'nonesuch.csv': No such file"),
        (["fit", SLEEP, str(tmp_path)], "cannot read"),
        (["fit", SLEEP, str(semi)], "add --sep ';'"),
        (["fit", SLEEP, str(empty)], "No columns to parse"),
        (["fit", SLEEP, str(ragged)], "Expected 2 fields in line 3, saw 3"),
        (["fit", SLEEP, str(binary)], "can't decode"),
        (["fit", SLEEP, file, "--sep", "::"], "--sep must be one character"),
        (["fit", "Reaction ~ Dys + (1 | Subject)", file], "Dys"),
        (["fit", "Reaction ~ Days", file], ""),
        (["fit", SLEEP, file, "--weights", "w"], "w"),
        (["fit", SLEEP, file, "--factor", "w"], "--factor names 'w'"),
        (["fit", SLEEP, file, "--ml", "--offset", "shift"], "shift"),
        (["datasets", "nonesuch"], "there is no data set 'nonesuch'"),
        (["datasets", "--save", "x.csv"], "--save needs the name"),
        (["datasets", "cake", "--save", str(tmp_path)], "cannot write"),
    ]
    for arguments, expected in cases:
        text = failure(arguments, capsys)
        assert expected in text
        assert text.count("\n") == 1 or "(" in text
    # A malformed formula is shown with a caret under the place.
    assert failure(["fit", "Reaction ~ (1 | Subject", file], capsys).rstrip().endswith("^")


def test_files_that_cannot_be_written(csv, tmp_path, capsys):
    assert main(["fit", SLEEP, str(csv), "--json", str(tmp_path / "no" / "x.json")]) == 2
    assert "cannot write" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["fit", SLEEP, str(csv), "--plots", str(tmp_path / "file")]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_usage(capsys):
    for arguments in ([], ["nonesuch"], ["fit"], ["demo", "--seed", "x"], ["demo", "--seed", "-1"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "datasets" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("lmmjax 0.")


def test_as_a_process_whose_reader_goes_away():
    command = f"{sys.executable} -m lmmjax.cli datasets | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""
