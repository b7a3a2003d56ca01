"""One peer in a process of its own, timed on request: ``python peers.py NAME CASE RESPONSES``.

A peer offers jobs. A job is a function of one number, the repeat's, so that every repeat of a refit
gets another response, the same one for every peer. The process answers lines on its standard
input: ``JOB REPEATS`` (the job's number) runs and times it, and the answer is one line of JSON
behind ``@@``. `fit_peers.R` is the same for R.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "lmmjax" / "datasets" / "data"

# What is fitted. `insteval` is three crossed factors, one of them large.
CASES: dict[str, dict[str, Any]] = {
    "sleepstudy": {
        "file": "sleepstudy.csv",
        "formula": "Reaction ~ Days + (1 + Days | Subject)",
        "response": "Reaction",
        "factors": ["Subject"],
    },
    "insteval": {
        "file": "InstEval.csv.gz",
        "formula": "y ~ service + (1 | s) + (1 | d) + (1 | dept:service)",
        "response": "y",
        "factors": ["s", "d", "studage", "lectage", "service", "dept"],
    },
}


@dataclass(frozen=True)
class Job:
    """`kind` is what is done, `gives` what the caller has at the end, `run` does it."""

    kind: str  # "formula to result", "new response", "optimisation alone"
    gives: str  # "SE", "SE, df"
    run: Callable[[int], Any]
    read: Callable[[Any], dict[str, Any]] | None = None  # estimates, of a fit to the real response
    note: str = ""


FIT, REFIT, OPTIMISE = "formula to result", "new response", "optimisation alone"


def frame(case: dict[str, Any]):
    """The case's data, factors as categoricals."""
    import pandas as pd

    df = pd.read_csv(DATA / case["file"], dtype=dict.fromkeys(case["factors"], "str"))
    return df.astype(dict.fromkeys(case["factors"], "category"))


def lmmjax_jobs(case: dict[str, Any], responses: Sequence[Any]) -> list[Job]:
    import lmmjax as lj

    df = frame(case)

    fitted: dict[str, Any] = {}  # the first job's last fit is what the second one refits

    def table(fit: Any) -> Any:
        fit.bse, fit.df  # noqa: B018  # the labelled series are made when asked for
        return fit

    def fit(i: int) -> Any:
        fitted["fit"] = table(lj.lmm(case["formula"], df))
        return fitted["fit"]

    def read(fit: Any) -> dict[str, Any]:
        return {
            "criterion": -2 * float(fit.llf),
            "fixef": [float(b) for b in fit.params],
            "se": [float(s) for s in fit.bse],
            "df": [float(d) for d in fit.df],
        }

    jobs = [Job(FIT, "SE, df", fit, read)]
    if len(responses):
        jobs.append(Job(REFIT, "SE, df", lambda i: table(fitted["fit"].refit(responses[i]))))
        jobs.append(_lmmjax_optimisation(fit(0)))
    return jobs


def _lmmjax_optimisation(fit: Any) -> Job:
    """Newton's method alone, one compiled call from the cross-products to theta."""
    import jax.numpy as jnp

    from lmmjax.compiled import Kernel
    from lmmjax.estimate import objective
    from lmmjax.optimize import newton

    def theta(data: Any) -> Any:
        start = jnp.asarray(data.start)
        found = newton(lambda t: objective(t, data, True), start, noise=data.n_obs)
        return found.theta

    kernel, data = Kernel(theta, is_small=lambda data: True), fit.raw.data
    return Job(OPTIMISE, "theta", lambda i: kernel(data))


def glmm_jobs(case: dict[str, Any], responses: Sequence[Any]) -> list[Job]:
    import glmm

    df = frame(case)
    columns = [dict(df.items()) | {case["response"]: y} for y in responses]

    def read(fit: Any) -> dict[str, Any]:
        return {
            "criterion": -2 * fit.loglik,
            "fixef": list(fit.beta),
            "se": list(fit.se),
            "df": list(fit.coef_df),
        }

    jobs = [
        Job(FIT, "SE, df", lambda i: glmm.fit(df, case["formula"]), read),
        Job(FIT, "SE", lambda i: glmm.fit(df, case["formula"], satterthwaite=False)),
    ]
    if columns:
        note = "has no refit: a whole fit"
        jobs.append(
            Job(REFIT, "SE, df", lambda i: glmm.fit(columns[i], case["formula"]), note=note)
        )
    return jobs


def mixedlm_jobs(case: dict[str, Any], responses: Sequence[Any]) -> list[Job]:
    import mixedlm
    import numpy as np

    df = frame(case)

    def se(fit: Any) -> Any:
        fit.vcov()
        return fit

    def table(fit: Any) -> Any:
        return fit, mixedlm.satterthwaite_df(fit)

    def read(fit: Any) -> dict[str, Any]:
        return {
            "criterion": float(fit.REMLcrit()),
            "fixef": [float(b) for b in fit.fixef().values()],
            "se": np.sqrt(np.diag(fit.vcov())).tolist(),
        }

    fitted: dict[str, Any] = {}

    def fit(i: int) -> Any:
        fitted["fit"] = se(mixedlm.lmer(case["formula"], df))
        return fitted["fit"]

    jobs = [
        Job(FIT, "SE", fit, read),
        Job(FIT, "SE, df", lambda i: table(mixedlm.lmer(case["formula"], df))),
    ]
    if len(responses):
        jobs.append(Job(REFIT, "SE", lambda i: se(fitted["fit"].refit(responses[i]))))
        jobs.append(Job(REFIT, "SE, df", lambda i: table(fitted["fit"].refit(responses[i]))))
    return jobs


def lme_python_jobs(case: dict[str, Any], responses: Sequence[Any]) -> list[Job]:
    import lme_python
    import polars as pl

    df = pl.from_pandas(frame(case).astype(dict.fromkeys(case["factors"], "str")))

    def table(fit: Any) -> Any:
        fit.with_satterthwaite(df)
        return fit

    def read(fit: Any) -> dict[str, Any]:
        return {
            "criterion": fit.reml_criterion,
            "fixef": fit.coefficients,
            "se": fit.std_errors,
            "df": fit.satterthwaite_dfs,
        }

    jobs = [
        Job(FIT, "SE", lambda i: lme_python.lmer(case["formula"], df)),
        Job(FIT, "SE, df", lambda i: table(lme_python.lmer(case["formula"], df)), read),
    ]
    if len(responses):
        prepared = lme_python.prepare_lmer(case["formula"], df)
        lists = [y.tolist() for y in responses]
        jobs.append(Job(REFIT, "SE", lambda i: prepared.fit(y=lists[i])))
    return jobs


def statsmodels_jobs(case: dict[str, Any], responses: Sequence[Any]) -> list[Job]:
    import statsmodels.formula.api as smf

    df = frame(case)
    if case["file"].startswith("sleepstudy"):
        fixed, random = "Reaction ~ Days", {"groups": df["Subject"], "re_formula": "~ Days"}
    else:  # its way to write crossed factors: variance components within one group of all rows
        fixed = "y ~ service"
        parts = {"s": "0 + C(s)", "d": "0 + C(d)", "dept": "0 + C(dept):C(service)"}
        random = {"groups": [1] * len(df), "re_formula": "0", "vc_formula": parts}

    def fit(i: int) -> Any:
        result = smf.mixedlm(fixed, df, **random).fit()
        result.bse  # noqa: B018
        return result

    def read(result: Any) -> dict[str, Any]:
        p = len(result.fe_params)
        return {
            "criterion": -2 * result.llf,
            "fixef": list(result.fe_params),
            "se": list(result.bse)[:p],
        }

    return [Job(FIT, "SE", fit, read)]


def gpboost_jobs(case: dict[str, Any], responses: Sequence[Any]) -> list[Job]:
    import gpboost
    import numpy as np

    df = frame(case)
    y = df["y"].to_numpy(float)

    def fit(i: int) -> Any:
        groups = np.column_stack(
            [df["s"], df["d"], df["dept"].astype(str) + ":" + df["service"].astype(str)]
        )
        design = np.column_stack([np.ones(len(df)), df["service"] == "1"]).astype(float)
        model = gpboost.GPModel(group_data=groups, likelihood="gaussian")
        model.fit(y=y, X=design)
        return model, np.asarray(model.get_coef(std_err=True))

    def read(result: Any) -> dict[str, Any]:
        model, coef = result
        return {
            "criterion": 2 * float(model.get_current_neg_log_likelihood()),
            "fixef": coef[0].tolist(),
            "se": coef[1].tolist(),
            "method": "ml",  # it has no REML
        }

    return [Job(FIT, "SE", fit, read, note="ML: it has no REML")]


# name -> the distribution's name, its module, its jobs, the cases it is tried on
PEERS: dict[str, tuple[str, str, Callable[..., list[Job]], tuple[str, ...]]] = {
    "lmmjax": ("lmmjax", "lmmjax", lmmjax_jobs, ("sleepstudy", "insteval")),
    "glmm": ("glmm", "glmm", glmm_jobs, ("sleepstudy", "insteval")),
    "mixedlm": ("mixedlm", "mixedlm", mixedlm_jobs, ("sleepstudy", "insteval")),
    "lme-python": ("lme-python", "lme_python", lme_python_jobs, ("sleepstudy", "insteval")),
    "statsmodels": (
        "statsmodels",
        "statsmodels.formula.api",
        statsmodels_jobs,
        ("sleepstudy", "insteval"),
    ),
    "GPBoost": ("gpboost", "gpboost", gpboost_jobs, ("insteval",)),
}


def say(message: dict[str, Any]) -> None:
    print("@@" + json.dumps(message), flush=True)


def timed(job: Job, repeats: int, start: int) -> dict[str, Any]:
    """Seconds of each repeat, and the last one's estimates (read outside the clock)."""
    seconds = []
    result = None
    for i in range(start, start + repeats):
        before = time.perf_counter()
        result = job.run(i % RESPONSES if RESPONSES else 0)
        seconds.append(time.perf_counter() - before)
    return {"seconds": seconds, "estimates": job.read(result) if job.read else None}


RESPONSES = 0  # how many responses there are to cycle through


def main(name: str, case_name: str, responses_file: str) -> None:
    global RESPONSES
    warnings.simplefilter("ignore")
    distribution, module, make_jobs, _ = PEERS[name]
    try:
        importlib.import_module(module)
        version = importlib.metadata.version(distribution)
    except ImportError as error:
        say({"absent": f"{error}"})
        return
    responses: Sequence[Any] = []
    if responses_file != "-":
        import numpy as np

        responses = np.loadtxt(responses_file, delimiter=",")
        RESPONSES = len(responses)
    jobs = make_jobs(CASES[case_name], responses)
    say(
        {
            "version": version,
            "jobs": [{"kind": j.kind, "gives": j.gives, "note": j.note} for j in jobs],
        }
    )
    done = [0] * len(jobs)
    for line in sys.stdin:
        number, repeats = map(int, line.split())
        try:
            say(timed(jobs[number], repeats, done[number]))
        except Exception as error:  # a peer that cannot fit the case is a result, to be shown
            say({"failed": f"{type(error).__name__}: {error}"[:300]})
        done[number] += repeats


def once(name: str, case_name: str) -> None:
    """A newcomer's process: import, read the data, fit, look at the table. Nothing is printed."""
    warnings.simplefilter("ignore")
    PEERS[name][2](CASES[case_name], [])[0].run(0)


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    if sys.argv[1] == "--once":
        once(*sys.argv[2:4])
    else:
        main(*sys.argv[1:4])
