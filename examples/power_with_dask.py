"""A power curve whose cells are mapped over Dask's workers: processes here, or a whole cluster.

    python examples/power_with_dask.py                                  two processes here
    python examples/power_with_dask.py --scheduler tcp://HOST:8786      the workers of a cluster

A cell is a function of plain numbers that gives a row of the table, so anything that maps a
function does (Ray, ``concurrent.futures``, a job array). Workers import lmmjax, and share what is
compiled through its cache on disk.
"""

import argparse

import pandas as pd
from distributed import Client

import lmmjax as lj


def cell(groups: int, effect: float, nsim: int) -> dict:
    """Power with so many groups, if the effect is so large."""
    frame = lj.simulate_design({"id": groups}, within={"time": range(5)})
    design = lj.Design.from_formula("score ~ time + (1 + time | id)", frame)
    truth = lj.TrueParameters.for_design(
        design, {"(Intercept)": 50, "time": effect}, sd=[10, 2], correlation=0.25, sigma=5
    )
    found = lj.power(design, truth, "time", nsim=nsim, key=1)
    lower, upper = found.interval
    return {
        "groups": groups,
        "effect": effect,
        "power": found.power,
        "lower": lower,
        "upper": upper,
    }


def main() -> None:
    """Read the grid, map the cells, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--scheduler", help="tcp://HOST:PORT; by default workers are started here")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--nsim", type=int, default=2000)
    parser.add_argument("--groups", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--effects", type=float, nargs="+", default=[0.8, 1.6])
    parser.add_argument("--out", help="write the table, as .csv")
    options = parser.parse_args()

    where = (
        {"address": options.scheduler}
        if options.scheduler
        else {
            "n_workers": options.workers,
            "threads_per_worker": 1,
            "dashboard_address": None,
        }
    )
    cells = [(g, e, options.nsim) for g in options.groups for e in options.effects]
    with Client(**where) as client:
        rows = client.gather(client.map(cell, *zip(*cells, strict=True)))
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    if options.out:
        table.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
