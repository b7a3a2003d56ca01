"""Power studies on disk: killed, damaged, shared and without room, they lose nothing in silence.

The study that is killed here is killed twice; LMMJAX_KILLS=10 kills it ten times.
"""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import lmmjax as lj
from lmmjax.cli import main
from lmmjax.studies.checkpoint import Checkpoint
from lmmjax.studies.tally import Tally

SPEC = """
formula = "y ~ time + (1 | id)"
test = "time"
[design]
groups = {id = 12}
within = {time = [0, 1, 2, 3, 4]}
[truth]
fixed = {time = 0.5}
sd = [2.0]
sigma = 3.0
[study]
key = 4
"""
CELLS = {
    "one": Tally(3000, 700, 1, 20, 0.123456789012345678, 3.5, 2900, 1, 800.25),
    "two, with a name": Tally(10, 1, 0, 0, -1e-17, 1e300, 9),
}


@pytest.fixture
def kept(tmp_path):
    """A file with two cells."""
    file = tmp_path / "study.json"
    checkpoint = Checkpoint(file)
    for cell, tally in CELLS.items():
        checkpoint.write(cell, "a study", tally)
    return file


def test_what_is_written_is_read(kept):
    again = Checkpoint(kept)
    assert {cell: again.read(cell, "a study") for cell in CELLS} == CELLS
    assert again.read("three", "a study") == Tally()
    assert os.listdir(kept.parent) == [kept.name]


def test_no_damage_is_taken_for_a_study(kept):
    """Cut anywhere, or with any bit turned: an error, never another number."""
    whole = kept.read_bytes()
    draw = random.Random(1)
    damaged = [whole[:end] for end in range(0, len(whole), 7)]
    for _ in range(1000):
        bits = bytearray(whole)
        bits[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        damaged.append(bytes(bits))
    damaged += [b"null", b"[]", b"{}", b'{"cells": 1}', b'{"cells": {}}', b"[" * 10**5, whole * 2]
    for content in damaged:
        kept.write_bytes(content)
        with pytest.raises(lj.LmmError, match=r"delete it|Delete it"):
            Checkpoint(kept)
        assert kept.read_bytes() == content
    kept.write_bytes(whole)
    assert Checkpoint(kept).read("one", "a study") == CELLS["one"]


def test_another_study_is_never_written_over(kept):
    """Neither at the start, nor where it was written while this one ran."""
    whole = kept.read_bytes()
    with pytest.raises(lj.LmmError, match="another study"):
        Checkpoint(kept).read("one", "another")
    early = Checkpoint(kept.with_name("new.json"))
    early.path = kept
    with pytest.raises(lj.LmmError, match="another study"):
        early.write("one", "another", Tally(5000))
    assert kept.read_bytes() == whole


def test_a_full_disk_leaves_what_was_there(kept, monkeypatch):
    whole = kept.read_bytes()
    checkpoint = Checkpoint(kept)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(lj.LmmError, match="No space left on device"):
            checkpoint.write("one", "a study", Tally(9999))
    assert kept.read_bytes() == whole
    assert os.listdir(kept.parent) == [kept.name]
    checkpoint.write("one", "a study", Tally(9999))
    assert Checkpoint(kept).read("one", "a study") == Tally(9999)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_disk_that_is_really_full(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "study.json")
    opened = Path.open

    def on_full_disk(self, *args, **kwargs):
        return opened(Path("/dev/full") if self.suffix == ".part" else self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", on_full_disk)
    with pytest.raises(lj.LmmError, match="No space left on device"):
        checkpoint.write("one", "a study", Tally(1))
    assert os.listdir(tmp_path) == []


def test_runs_that_share_a_file_keep_each_others_cells(tmp_path):
    file, started = tmp_path / "study.json", threading.Barrier(4)

    def run(cell):
        checkpoint = Checkpoint(file)
        started.wait()
        for done in range(1, 41):
            checkpoint.write(cell, f"study of {cell}", Tally(done))

    threads = [threading.Thread(target=run, args=(f"cell {i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Checkpoint(file)
    for i in range(4):
        assert found.read(f"cell {i}", f"study of cell {i}") == Tally(40)
    assert os.listdir(tmp_path) == [file.name]


def test_a_run_that_is_behind_does_not_undo_one_that_is_ahead(kept):
    Checkpoint(kept).write("one", "a study", Tally(100))
    assert Checkpoint(kept).read("one", "a study") == CELLS["one"]


def test_files_that_cannot_be_checkpoints(tmp_path, capsys):
    spec = tmp_path / "study.toml"
    spec.write_text(SPEC)
    (tmp_path / "file").write_text("")
    for name, expected in [
        (str(tmp_path), "is a folder"),
        (str(spec), "is no checkpoint"),
        (str(tmp_path / "file" / "below.json"), "below.json"),
        ("nul\0.json", "cannot be a checkpoint"),
    ]:
        assert main(["power", str(spec), "--checkpoint", name]) == 2
        err = capsys.readouterr().err
        assert expected in err
        assert err.count("\n") == 1
    assert spec.read_text() == SPEC


def test_a_study_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path):
    """And so do two studies in one folder, at the same time, of which one is killed."""
    kills = int(os.environ.get("LMMJAX_KILLS", "2"))
    nsim = 8192 * (kills + 2)
    spec, other = tmp_path / "study.toml", tmp_path / "other.toml"
    spec.write_text(f"{SPEC}nsim = {nsim}\n")
    other.write_text(f"{SPEC.replace('key = 4', 'key = 5')}nsim = {nsim}\n")

    def command(of, file):
        keep = ["--checkpoint", str(tmp_path / file), "--json", str(tmp_path / f"{file}.table")]
        return [sys.executable, "-m", "lmmjax.cli", "power", str(of), "--quiet", *keep]

    for of, file in ((spec, "whole"), (other, "other whole")):
        assert main(command(of, file)[3:]) == 0
    file, draw, killed = tmp_path / "killed", random.Random(7), 0
    beside = subprocess.Popen(command(other, "beside"), stdout=subprocess.DEVNULL)
    for _ in range(kills):
        before = file.read_bytes() if file.exists() else b""
        study = subprocess.Popen(
            command(spec, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        # At a random moment after the first batch that it adds, or while it still compiles.
        until = time.monotonic() + 120
        while draw.random() > 1e-4 and study.poll() is None and time.monotonic() < until:
            if file.exists() and file.read_bytes() != before:
                break
            time.sleep(0.002)
        time.sleep(draw.uniform(0.0, 0.05))
        study.kill()
        killed += study.wait() == -signal.SIGKILL
        if file.exists():
            done = json.loads(file.read_text())["cells"]["study"]["tally"]["done"]
            assert 0 < done <= nsim
    assert beside.wait() == 0
    assert killed >= 1
    assert main(command(spec, "killed")[3:]) == 0
    for found, expected in (("killed", "whole"), ("beside", "other whole")):
        assert (tmp_path / found).read_bytes() == (tmp_path / expected).read_bytes()
        one, two = (json.loads((tmp_path / f"{n}.table").read_text()) for n in (found, expected))
        assert one == two
    assert (tmp_path / "whole").read_bytes() != (tmp_path / "other whole").read_bytes()
    assert not list(tmp_path.glob(".*"))
