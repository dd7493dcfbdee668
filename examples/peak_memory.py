"""What a run takes beside weights: `python -m examples.peak_memory [NAME ...]`.

Ours is the arena of the artefact, as planned, and the growth of a process that has loaded it and then runs it; with `--smallest`
also the arena within the smallest budget that is known to fit, and how much longer a run takes then. ONNX Runtime and torch (eager,
the graph as `tensoropt.peers` writes it) are looked at from outside in the same way: how much more memory the process has at most
while it runs the model for the first time than before. Both have run a small model before, so that their code is loaded. All with
two threads; inputs are there before, outputs count.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import tensoropt
from examples.budgets import growth, keep, memory_of
from examples.models import BUILDERS
from examples.models.graph import Graph
from examples.runs import command_of
from examples.tables import line
from tensoropt.api.compiled import CompiledModel
from tensoropt.check import random_feeds
from tensoropt.errors import NoPlanError
from tensoropt.frontend import load_program
from tensoropt.machine import describe
from tensoropt.timing import alternate

NAMES = ("resnet18", "light_densenet121", "unet")

_PEERS = {
    "onnxruntime": """
import onnxruntime
def prepare(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)
""",
    "torch": """
import onnx, torch
from tensoropt.peers.torch_graph import TorchGraph
torch.set_num_threads(2)
def prepare(path):
    graph = TorchGraph(onnx.load(path)).eval()
    def run(feeds):
        with torch.inference_mode():
            return graph(*(torch.from_numpy(feeds[name]) for name in graph.inputs))
    return run
""",
}

_CHILD = """
import sys
import numpy as np
path, feeds, small, few = sys.argv[1:]
prepare(small)(dict(np.load(few)))
run = prepare(path)
feeds = dict(np.load(feeds))
print("ready", flush=True)
sys.stdin.readline()
outputs = run(feeds)
print("ran", flush=True)
sys.stdin.readline()
"""


def peak(peer: str, model: Path, feeds: Path, small: Path, few: Path) -> int:
    """By how many bytes a process has more at most while it runs a model than before."""
    child = subprocess.Popen(
        [sys.executable, "-c", _PEERS[peer] + _CHILD, *map(str, (model, feeds, small, few))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    if child.stdout.readline().strip() != "ready":
        raise RuntimeError(f"{peer} does not load {model}")
    Path(f"/proc/{child.pid}/clear_refs").write_text("5")  # the peak counts from here
    before = memory_of(child.pid, "VmRSS")
    child.stdin.write("\n")
    child.stdin.flush()
    if child.stdout.readline().strip() != "ran":
        raise RuntimeError(f"{peer} does not run {model}")
    found = memory_of(child.pid, "VmHWM") - before
    child.communicate("\n")
    return found


def smallest(model: Path, whole: CompiledModel, feeds: Mapping[str, np.ndarray[Any, Any]]) -> list[str]:
    """The arena within the smallest budget known to fit in MiB, and by how many per cent a run takes longer, in turns."""
    try:
        found = tensoropt.optimize(model, tune="off", memory_budget="1%")
    except NoPlanError as error:
        found = tensoropt.optimize(model, tune="off", memory_budget=error.smallest_bytes)
    times = alternate({"whole": lambda: whole.run(feeds), "smallest": lambda: found.run(feeds)}, 7, budget=20.0)
    longer = 100 * (times["smallest"].median / times["whole"].median - 1)
    return [f"{found.peak_bytes['arena'] / 2**20:.2f}", f"{longer:.1f}"]


def _small() -> onnx.ModelProto:
    """A convolution of a few numbers: what it takes and gives back must not hold what the model takes next."""
    graph = Graph("small", seed=0)
    value = graph.relu(graph.conv(graph.input("x", (1, 4, 8, 8)), (4, 4), (3, 3), (1, 1)))
    graph.output(value, "y", (1, 4, 8, 8))
    return graph.finish()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m examples.peak_memory", description=__doc__.split(":")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default {' '.join(NAMES)}")
    parser.add_argument("--smallest", action="store_true", help="also the smallest arena, which takes minutes to plan")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BUILDERS]
    if unknown:
        parser.error(f"there is no model {unknown[0]}; there are {', '.join(BUILDERS)}")
    print("; ".join(f"{key} {entry}" for key, entry in describe().items()))
    print(f"\n    {command_of('examples.peak_memory', arguments)}\n", flush=True)
    titles = ["model", "arena MiB", "outputs MiB", "growth MiB", *(f"{peer} MiB" for peer in _PEERS)]
    titles += ["smallest arena MiB", "% longer"] if options.smallest else []
    print(line(titles))
    print(line(["---", *["---:"] * (len(titles) - 1)]), flush=True)
    with tempfile.TemporaryDirectory(prefix="tensoropt-peaks-") as scratch:
        folder = Path(scratch)
        small, few = folder / "small.onnx", folder / "few.npz"
        small.write_bytes(_small().SerializeToString())
        np.savez(few, **random_feeds(load_program(small).program.inputs, 0))  # type: ignore[arg-type]
        for name in options.names or NAMES:
            model, feeds = folder / f"{name}.onnx", folder / f"{name}.npz"
            model.write_bytes(BUILDERS[name](1).SerializeToString())
            ours = tensoropt.optimize(model, tune="off")
            ours.save(folder / name)
            values = random_feeds(ours.program.inputs, 0)
            np.savez(feeds, **values)  # type: ignore[arg-type]
            keep(values, folder)
            outputs = sum(array.nbytes for array in ours.run(values).values())
            held = sum(array.nbytes for array in values.values())  # read by the process only when it runs
            cells = [ours.peak_bytes["arena"], outputs, growth(folder / name, values, folder) - held]
            cells += [peak(peer, model, feeds, small, few) for peer in _PEERS]
            least = smallest(model, ours, values) if options.smallest else []
            print(line([name, *(f"{cell / 2**20:.2f}" for cell in cells), *least]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
