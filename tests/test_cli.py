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
        (["fit", SLEEP, str(binary)], "--encoding latin-1"),
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


def test_outputs_are_looked_at_before_anything_is_computed(csv, tmp_path, capsys, monkeypatch):
    """A study of hours must not end in the name of its picture."""

    def computed(*_, **__):
        raise AssertionError("computed first")

    for module, name in (("model", "lmm"), ("studies.spec", "run_spec")):
        monkeypatch.setattr(f"lmmjax.{module}.{name}", computed)
    spec = tmp_path / "study.toml"
    spec.write_text(
        'formula = "y ~ time + (1 | id)"\n[design]\ngroups = {id = 9}\n[truth]\nsigma = 1\n'
        "[along]\ngroups = [9, 10]\n"
    )
    nowhere = str(tmp_path / "no" / "such" / "file")
    for arguments, expected in [
        (["power", str(spec), "--plot", str(tmp_path / "x.docx")], "--plot cannot write .docx"),
        (["power", str(spec), "--plot", f"{nowhere}.png"], "there is no folder"),
        (["power", str(spec), "--json", f"{nowhere}.json"], "there is no folder"),
        (["fit", SLEEP, str(csv), "--json", f"{nowhere}.json"], "there is no folder"),
        (["fit", SLEEP, str(csv), "--json", str(tmp_path)], "it is a folder"),
        (["datasets", "sleepstudy", "--save", f"{nowhere}.csv"], "there is no folder"),
    ]:
        assert expected in failure(arguments, capsys)


def test_an_interrupted_study_says_what_is_kept(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lmmjax.studies.spec.run_spec", interrupted)
    spec = tmp_path / "study.toml"
    spec.write_text(
        'formula = "y ~ time + (1 | id)"\n[design]\ngroups = {id = 9}\n[truth]\nsigma = 1\n'
    )
    for more, expected in (
        ([], "--checkpoint FILE keeps"),
        (["--checkpoint", str(tmp_path / "kept.json")], "kept.json has what was done"),
    ):
        assert main(["power", str(spec), *more]) == 130
        out = capsys.readouterr()
        assert out.err.strip().startswith("lmmjax: interrupted: ")
        assert out.err.strip().count("\n") == 0
        assert expected in out.err


def test_dialects_of_tables(csv, tmp_path, monkeypatch):
    """The same numbers whatever the marks, the encoding and the kind of file."""
    expected = read_table(str(csv))
    frame = expected.assign(Who=["Zoë", "Åsa", "ß"] * 60)
    frame.to_csv(tmp_path / "comma.csv", sep=";", decimal=",", index=False)
    frame.to_csv(tmp_path / "utf16.csv", index=False, encoding="utf-16")
    frame.to_csv(tmp_path / "latin.csv", index=False, encoding="latin-1")
    frame.to_csv(tmp_path / "bom.csv", index=False, encoding="utf-8-sig")
    frame.to_parquet(tmp_path / "t.parquet")
    (tmp_path / "misnamed.csv").write_bytes((tmp_path / "t.parquet").read_bytes())
    frame.to_stata(tmp_path / "t.dta", write_index=False, version=118)
    for name, options in [
        ("comma.csv", {"decimal": ","}),
        ("comma.csv", {"decimal": ",", "sep": ";", "thousands": "."}),
        ("utf16.csv", {}),
        ("latin.csv", {"encoding": "latin-1"}),
        ("bom.csv", {}),
        ("t.parquet", {}),
        ("misnamed.csv", {}),
        ("t.dta", {}),
    ]:
        found = read_table(str(tmp_path / name), **options)
        assert list(found) == list(frame), name
        assert np.array_equal(found["Reaction"], frame["Reaction"]), name
        assert found["Who"].astype(str).tolist() == frame["Who"].tolist(), name
    coded = frame.astype({"Days": object})
    coded.loc[[3, 5], "Days"] = ["n.d.", -999]
    coded.to_csv(tmp_path / "coded.csv", index=False)
    found = read_table(str(tmp_path / "coded.csv"), na_values=["n.d.", "-999"])
    assert np.flatnonzero(found["Days"].isna()).tolist() == [3, 5]
    (tmp_path / "thousands.csv").write_text("x;y\n1.234,5;2\n")
    found = read_table(str(tmp_path / "thousands.csv"), decimal=",", thousands=".")
    assert found["x"].tolist() == [1234.5]


def test_tables_that_cannot_be_read_are_named(csv, tmp_path, capsys):
    latin = tmp_path / "latin.csv"
    latin.write_bytes("y,Größe\n1,2\n".encode("latin-1"))
    for name in ("t.sav", "t.rds", "t.json", "t.xlsx", "t.parquet"):
        (tmp_path / name).write_bytes(b"PK or not")
    for arguments, expected in [
        ([str(latin)], "add --encoding latin-1"),
        ([str(latin), "--encoding", "utf-16"], "as utf-16"),
        ([str(latin), "--encoding", "klingon"], "--encoding 'klingon' is not known"),
        ([str(csv), "--decimal", ",,"], "--decimal must be one character"),
        ([str(csv), "--decimal", ",", "--sep", ","], "must be different"),
        ([str(tmp_path / "t.sav")], "a file of SPSS, which is not read: save it as CSV"),
        ([str(tmp_path / "t.rds")], "a file of R,"),
        ([str(tmp_path / "t.json")], "a file of JSON,"),
        ([str(tmp_path / "t.xlsx")], "Excel"),
        ([str(tmp_path / "t.parquet")], "cannot read"),
    ]:
        text = failure(["fit", SLEEP, *arguments], capsys)
        assert expected in text
        assert text.count("\n") == 1


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
