"""A power study over every device of every host: the same script on one and on many.

    python examples/many_hosts.py                          one process, all of its devices
    srun --ntasks-per-node=1 python examples/many_hosts.py --slurm          a job of several hosts
    python examples/many_hosts.py --coordinator HOST:PORT --processes 2 --process 0        by hand

Every process fits its own share of the replicates on its own devices, and the first one prints.
"""

import argparse

import jax
import numpy as np
from jax.sharding import Mesh

import lmmjax as lj

parser = argparse.ArgumentParser()
parser.add_argument("--replicates", type=int, default=10_000)
parser.add_argument("--groups", type=int, default=50)
parser.add_argument("--slurm", action="store_true", help="ask SLURM who takes part")
parser.add_argument("--coordinator", help="HOST:PORT of the first process")
parser.add_argument("--processes", type=int)
parser.add_argument("--process", type=int)
parser.add_argument("--out", help="write estimates and p values, as .npz")
options = parser.parse_args()

if options.slurm:
    jax.distributed.initialize()
elif options.coordinator:
    jax.distributed.initialize(options.coordinator, options.processes, options.process)

frame = lj.simulate_design({"id": options.groups}, within={"time": range(5)})
design = lj.Design.from_formula("score ~ time + (1 + time | id)", frame)
truth = lj.TrueParameters.for_design(
    design, {"(Intercept)": 50, "time": 0.8}, sd=[10, 2], correlation=0.25, sigma=5
)

mesh = Mesh(np.array(jax.local_devices()), ("replicates",))
first, count = lj.replicate_share(options.replicates)
part = lj.fit_simulated(design, truth, count, first=first, key=1, mesh=mesh)
many = lj.gather(part)

if jax.process_index() == 0:
    print(many, f"by {jax.process_count()} processes of {mesh.size} devices")
    print("power of time:", np.mean(many.pvalues[:, 1] < 0.05))
    if options.out:
        np.savez(options.out, beta=many.beta, df=many.df, pvalues=many.pvalues)
