"""The public functions. The only package that names passes and code generators; the command line calls these and nothing else."""

from tensoropt.api.asking import cache, inspect, rules, targets
from tensoropt.api.benchmarking import bench
from tensoropt.api.checking import check_model, require_agreement
from tensoropt.api.compiled import CompiledModel
from tensoropt.api.optimizing import optimize
from tensoropt.api.planning import plan
from tensoropt.api.requirements import require_replaceable
from tensoropt.api.running import load, load_runtime, run
from tensoropt.api.tuning import tune

__all__ = [
    "CompiledModel",
    "bench",
    "cache",
    "check_model",
    "inspect",
    "load",
    "load_runtime",
    "optimize",
    "plan",
    "require_agreement",
    "require_replaceable",
    "rules",
    "run",
    "targets",
    "tune",
]
