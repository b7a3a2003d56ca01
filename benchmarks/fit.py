"""How long a fit takes, beside the peers, in one run: ``python benchmarks/fit.py``.

Every peer works in a process of its own and is asked for a block of calls in a row, as in a user's
loop, in turn with the others, round after round, so that a noisy minute of the machine falls on all
of them alike. Given are the first call in the process (with its lazy imports and compilation), the
median and the fastest of the later ones. New processes are timed in rounds too.
Every peer's estimates are compared with the reference fits: a fast wrong fit shows. A peer that is
not installed is named as absent; one that fails or runs out of time says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from durations import duration
from peers import CASES, DATA, FIT, OPTIMISE, PEERS, REFIT

HERE = Path(__file__).parent
REFERENCE = HERE.parent / "tests" / "reference" / "lme4.json"
REFERENCE_NAMES = {"sleepstudy": "sleepstudy_slope", "insteval": "insteval"}
R_PEERS = ("lme4", "lmerTest")


class Worker:
    """A peer's process, and the conversation with it."""

    def __init__(self, name: str, case: str, responses: str, env: dict[str, str]) -> None:
        if name in R_PEERS:
            data = str(DATA / CASES[case]["file"])
            command = ["Rscript", str(HERE / "fit_peers.R"), name, case, data, responses]
        else:
            command = [sys.executable, str(HERE / "peers.py"), name, case, responses]
        self.name = name
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._collect_errors, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@@"):  # all else is a peer's own talk
                self._lines.put(line[2:])
        self._lines.put(None)

    def _collect_errors(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)

    def answer(self, limit: float) -> dict[str, Any]:
        """The next answer; `failed` when the process ended or the time is over."""
        try:
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            self.stop()
            return {"failed": f"stopped after {limit:.0f} s without a result"}
        if line is None:
            self.process.wait()
            time.sleep(0.1)  # its last words may still be on their way
            said = [text.strip() for text in self._errors if text.strip()]
            return {"failed": said[-1][:200] if said else f"ended ({self.process.returncode})"}
        return json.loads(line)

    def ask(self, job: int, repeats: int, limit: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{job} {repeats}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.answer(limit)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@dataclass
class Row:
    """One job of one peer, and what was measured of it."""

    peer: str
    kind: str
    gives: str
    note: str = ""
    first: float | None = None
    seconds: list[float] = field(default_factory=list)
    estimates: dict[str, Any] | None = None
    failed: str = ""

    def block(self, options: argparse.Namespace) -> int:
        """Calls in a row for the next round: those of a slow peer are not many."""
        expected = median(self.seconds) if self.seconds else self.first or options.block
        return max(1, min(options.repeats, int(options.block / expected)))


def measure(case: str, options: argparse.Namespace, env: dict[str, str]) -> tuple[list[Row], dict]:
    """All peers on one case; rows, and what became of each peer."""
    rounds = options.rounds if case == "sleepstudy" else min(options.rounds, 3)
    chosen = [*R_PEERS, *(name for name, peer in PEERS.items() if case in peer[3])]
    chosen = [name for name in chosen if not options.peers or name in options.peers]
    rows: list[Row] = []
    states: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        responses = "-"
        if case == "sleepstudy":
            responses = str(Path(folder) / "responses.csv")
            write_responses(case, responses)
        work: list[tuple[Worker, int, Row]] = []
        workers: list[Worker] = []
        for name in chosen:
            if name in R_PEERS and not shutil.which("Rscript"):
                states[name] = "absent: no Rscript"
                continue
            worker = Worker(name, case, responses, env)
            hello = worker.answer(options.limit)
            if "jobs" not in hello:
                states[name] = ", ".join(f"{state}: {why}" for state, why in hello.items())
                worker.stop()
                continue
            states[name] = hello["version"]
            workers.append(worker)
            for number, job in enumerate(hello["jobs"]):
                row = Row(name, **job)
                rows.append(row)
                work.append((worker, number, row))
        for turn in range(rounds + 1):  # turn 0 is the first call
            for worker, number, row in work:
                if row.failed or sum(row.seconds) > options.budget:
                    continue
                note(f"{case}: round {turn} of {rounds}, {row.peer}, {row.kind}")
                if worker.process.poll() is not None:
                    row.failed = "not asked: its process had to be stopped before"
                    continue
                count = 1 if turn == 0 else row.block(options)
                reply = worker.ask(number, count, options.limit)
                if "failed" in reply:
                    row.failed = reply["failed"]
                    continue
                row.estimates = reply["estimates"] or row.estimates
                if turn == 0:
                    row.first = reply["seconds"][0]
                else:
                    row.seconds += reply["seconds"]
        for worker in workers:
            worker.stop()
    return rows, states


def write_responses(case: str, path: str, count: int = 20) -> None:
    """The responses that refits are given: the data's with noise, the same for every peer."""
    import numpy as np
    from peers import frame

    y = frame(CASES[case])[CASES[case]["response"]].to_numpy(float)
    noise = np.random.default_rng(1).normal(0.0, 10.0, (count, len(y)))
    np.savetxt(path, y + noise, delimiter=",", fmt="%.17g")


def check(case: str, estimates: dict[str, Any] | None) -> str:
    """How far the estimates are from the reference fit, in words for the table."""
    if not estimates:
        return ""
    method = estimates.get("method", "reml")
    truth = json.loads(REFERENCE.read_text())[f"{REFERENCE_NAMES[case]}_{method}"]
    beta = list(truth["fixef"].values())
    se = [truth["vcov"][i][i] ** 0.5 for i in range(len(beta))]
    off_beta = max(abs(a - b) / s for a, b, s in zip(estimates["fixef"], beta, se, strict=True))
    off_se = max(abs(a / b - 1) for a, b in zip(estimates["se"], se, strict=True))
    gap = estimates["criterion"] - truth["criterion"]
    words = f"criterion {gap:+.1e}, beta {off_beta:.0e} SE, SE {off_se:.0e}"
    if estimates.get("df") and truth.get("coef_table"):
        df = [row["df"] for row in truth["coef_table"]]
        off_df = max(abs(a / b - 1) for a, b in zip(estimates["df"], df, strict=True))
        words += f", df {off_df:.0e}"
    wrong = gap > 0.01 or off_beta > 1e-2 or off_se > 1e-2
    return ("**DIFFERS**: " if wrong else "") + words


def report(case: str, rows: list[Row], states: dict[str, str]) -> list[str]:
    """The case's markdown table; ratios are to lmmjax's row of the same kind."""
    lines = [f"## {case}: `{CASES[case]['formula']}`", ""]
    lines += [
        "| what | who | gives | first call | median | fastest | n | times lmmjax | against lme4 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in (FIT, REFIT, OPTIMISE):
        group = [row for row in rows if row.kind == kind]
        ours = next((median(r.seconds) for r in group if r.peer == "lmmjax" and r.seconds), None)
        group.sort(key=lambda row: median(row.seconds) if row.seconds else float("inf"))
        for row in group:
            who = f"{row.peer} ({row.note})" if row.note else row.peer
            if not row.seconds:
                said = row.failed or "no result"
                lines.append(
                    f"| {kind} | {who} | {row.gives} | {duration(row.first)} | {said} | | | | |"
                )
                continue
            middle = median(row.seconds)
            ratio = f"{middle / ours:.3g}" if ours else ""
            lines.append(
                f"| {kind} | {who} | {row.gives} | {duration(row.first)} | {duration(middle)} "
                f"| {duration(min(row.seconds))} | {len(row.seconds)} | {ratio} "
                f"| {check(case, row.estimates)} |"
            )
    lines += ["", "; ".join(f"{name} {state}" for name, state in states.items()), ""]
    return lines


@dataclass
class Command:
    """A command whose whole process is timed, once in each environment."""

    label: str
    command: list[str]
    environments: list[dict[str, str]]
    seconds: list[float] = field(default_factory=list)
    failed: str = ""

    def run(self, turn: int, limit: float) -> None:
        if self.failed or turn >= len(self.environments):
            return
        note(f"{self.label}, {turn + 1} of {len(self.environments)}")
        before = time.perf_counter()
        try:
            done = subprocess.run(
                self.command,
                env=self.environments[turn],
                capture_output=True,
                text=True,
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            self.failed = f"stopped after {limit:.0f} s"
            return
        self.seconds.append(time.perf_counter() - before)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no message"])[-1][:120]
            self.failed = f"absent or failed: {said}"

    def row(self) -> str:
        if self.failed:
            return f"| {self.label} | {self.failed} | | |"
        times = f"{duration(median(self.seconds))} | {duration(min(self.seconds))}"
        return f"| {self.label} | {times} | {len(self.seconds)} |"


def processes(options: argparse.Namespace, env: dict[str, str]) -> list[str]:
    """New processes, by the wall clock: interpreter, imports, reading the data, first fit."""
    count = options.processes
    wanted = [name for name in (*R_PEERS, *PEERS) if not options.peers or name in options.peers]
    with tempfile.TemporaryDirectory() as folder:
        commands = list(_commands(wanted, count, env, Path(folder)))
        for turn in range(count):
            for command in commands:
                command.run(turn, options.limit)
    for name in wanted:
        if name in R_PEERS and not shutil.which("Rscript"):
            commands.append(Command(name, [], [], failed="absent: no Rscript"))
    return [
        "## A new process: start, import, read the data, one fit",
        "",
        "| what | median | fastest | n |",
        "| --- | --- | --- | --- |",
        *(command.row() for command in commands),
        "",
    ]


def _commands(
    wanted: list[str], count: int, env: dict[str, str], folder: Path
) -> Iterator[Command]:
    python, peers = [sys.executable], [sys.executable, str(HERE / "peers.py"), "--once"]
    yield Command("python alone (`pass`)", [*python, "-c", "pass"], [env] * count)
    for module in ("pandas", "jax", "lmmjax"):
        script = f"import {module}"
        yield Command(f"`{script}`", [*python, "-c", script], [env] * count)
    if "lmmjax" in wanted:
        script = "from lmmjax import lmm"
        yield Command(f"`{script}` (with JAX)", [*python, "-c", script], [env] * count)
        script = "from lmmjax.cli import main; main(['--help'])"
        yield Command("`lmmjax --help`", [*python, "-c", script], [env] * count)
        for case, colds in (("sleepstudy", count), ("insteval", 1)):
            command = [*peers, "lmmjax", case]
            caches = [cached(env, folder / f"{case}{i}") for i in range(colds)]
            yield Command(f"lmmjax, {case}, nothing cached", command, caches)
            kept = "compiled before (on-disk cache)"
            yield Command(f"lmmjax, {case}, {kept}", command, caches[:1] * count)
    for name in wanted:
        if name in R_PEERS and shutil.which("Rscript"):
            data = str(DATA / CASES["sleepstudy"]["file"])
            script = ["Rscript", str(HERE / "fit_peers.R"), "--once", name, "sleepstudy", data]
            yield Command(f"{name}, sleepstudy", script, [env] * count)
        elif name not in R_PEERS and name != "lmmjax" and "sleepstudy" in PEERS[name][3]:
            yield Command(f"{name}, sleepstudy", [*peers, name, "sleepstudy"], [env] * count)


def cached(env: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment with compiled functions kept in `folder`, and in no other place.

    JAX's own persistent cache is taken out: where it is on, lmmjax leaves executables to it.
    """
    kept = {name: value for name, value in env.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return kept | {"LMMJAX_CACHE_DIR": str(folder)}


def machine() -> str:
    model = platform.processor() or platform.machine()
    memory = ""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
        kilobytes = int(Path("/proc/meminfo").read_text().split()[1])
        memory = f", {kilobytes / 2**20:.0f} GiB"
    load = (
        f", load average at the start {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    )
    return (
        f"{model}, {os.cpu_count()} cores{memory}; {platform.system()}, "
        f"Python {platform.python_version()}{load}"
    )


def note(text: str) -> None:
    """Progress, on standard error: standard output is the report."""
    print(f"[{time.perf_counter() - START:6.1f} s] {text}", file=sys.stderr, flush=True)


START = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cases", nargs="+", choices=[*CASES, "processes"])
    parser.add_argument("--peers", nargs="+", choices=[*R_PEERS, *PEERS], help="only these")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of sleepstudy")
    parser.add_argument("--repeats", type=int, default=20, help="calls in a row in each round")
    parser.add_argument("--block", type=float, default=3, help="seconds such a row may take")
    parser.add_argument("--processes", type=int, default=5, help="new processes of each kind")
    parser.add_argument("--limit", type=float, default=120, help="seconds one answer may take")
    parser.add_argument("--budget", type=float, default=60, help="seconds after which no new round")
    parser.add_argument("--out", type=Path, help="write the report to this file too")
    options = parser.parse_args()
    cases = options.cases or [*CASES, "processes"]
    env = dict(os.environ)

    lines = ["# Fit benchmark", "", machine(), ""]
    for case in cases:
        if case == "processes":
            lines += processes(options, env)
        else:
            lines += report(case, *measure(case, options, env))
    print("\n".join(lines))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
