"""Several devices, several processes, an executor: the numbers are those of one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from jax.sharding import Mesh

import lmmjax as lj

SCRIPT = Path(__file__).parents[2] / "examples" / "many_hosts.py"
REPLICATES = 201  # not a multiple of anything
GROUPS = 12


def study():
    """What the example fits."""
    frame = lj.simulate_design({"id": GROUPS}, within={"time": range(5)})
    design = lj.Design.from_formula("score ~ time + (1 + time | id)", frame)
    truth = lj.TrueParameters.for_design(
        design, {"(Intercept)": 50, "time": 0.8}, sd=[10, 2], correlation=0.25, sigma=5
    )
    return design, truth


@pytest.fixture(scope="module")
def whole():
    return lj.fit_simulated(*study(), REPLICATES, key=1)


def run(devices: int, *arguments: str) -> subprocess.Popen:
    """The example in a process with so many CPU devices."""
    env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    command = [sys.executable, str(SCRIPT), "--replicates", str(REPLICATES)]
    command += ["--groups", str(GROUPS), *arguments]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_two_processes_of_two_devices(whole, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    out = tmp_path / "two.npz"
    started = [
        run(2, "--coordinator", address, "--processes", "2", "--process", str(i), "--out", str(out))
        for i in range(2)
    ]
    said = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    assert "201 fits" in said[0]
    assert "by 2 processes of 2 devices" in said[0]
    found = np.load(out)
    np.testing.assert_allclose(found["beta"], whole.beta, rtol=1e-9)
    np.testing.assert_allclose(found["df"], whole.df, rtol=1e-8)
    np.testing.assert_allclose(found["pvalues"], whole.pvalues, rtol=1e-7, atol=1e-12)


def test_a_mesh_in_this_process(whole):
    mesh = Mesh(np.array(jax.local_devices()[:1]), ("replicates",))
    split = lj.fit_simulated(*study(), REPLICATES, key=1, mesh=mesh)
    np.testing.assert_allclose(split.criterion, whole.criterion, rtol=1e-12)
    np.testing.assert_array_equal(split.status, whole.status)
    assert lj.gather(split) is split
    with pytest.raises(lj.LmmError, match="Mesh"):
        lj.fit_simulated(*study(), 10, mesh=jax.devices())  # type: ignore[arg-type]


def test_shares_make_up_the_study(whole):
    shares = [lj.replicate_share(REPLICATES, process=i, processes=4) for i in range(4)]
    assert sum(count for _, count in shares) == REPLICATES
    parts = [lj.fit_simulated(*study(), count, first=first, key=1) for first, count in shares]
    np.testing.assert_allclose(lj.concatenate(parts).criterion, whole.criterion, rtol=1e-12)
    with pytest.raises(lj.LmmError, match="no process 4"):
        lj.replicate_share(10, process=4, processes=4)
    with pytest.raises(lj.LmmError, match="no fits"):
        lj.concatenate([])


def piece(share, design, truth):
    first, count = share
    return lj.fit_simulated(design, truth, count, first=first, key=1, workers=1)


def test_an_executor_maps_shares(whole):
    shares = [lj.replicate_share(REPLICATES, process=i, processes=2) for i in range(2)]
    design, truth = study()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        parts = list(executor.map(partial(piece, design=design, truth=truth), shares))
    np.testing.assert_allclose(lj.concatenate(parts).criterion, whole.criterion, rtol=1e-12)


def test_dask_maps_the_cells_of_a_power_curve(tmp_path):
    """The script of the README, on two worker processes; the same powers as here."""
    out = tmp_path / "power.csv"
    script = SCRIPT.with_name("power_with_dask.py")
    grid = ["--groups", str(GROUPS), "20", "--effects", "0.8", "--nsim", "300"]
    run = [sys.executable, script, *grid, "--out", out]
    subprocess.run(run, check=True, capture_output=True, timeout=300)
    table = pd.read_csv(out)
    assert table.groups.tolist() == [GROUPS, 20]
    here = lj.power(*study(), "time", nsim=300, key=1)
    assert table.power[0] == here.power
    np.testing.assert_allclose(table.loc[0, ["lower", "upper"]].astype(float), here.interval)
