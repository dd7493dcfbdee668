"""Every kind of kernel, compiled by nvcc as the pipeline makes it: registers, spills, stack and shared memory are bounded."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from codegen.cuda.cubins import compile_functions
from codegen.cuda.occupancy import beyond, occupancy
from codegen.cuda.resources import Resources
from codegen.device.kernel import function_names
from codegen.lower.device import Launch, lower
from codegen.schedules.gpu.attention.geometry import fits
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from passes.derive.cost import EstimatedCosts
from passes.pipeline import compile_as_written, device_kernels
from tensoropt.ir.program import Compute
from tensoropt.pass_manager import Context
from tests.strategies.nvcc import needs_nvcc
from tests.strategies.small_models import model, program_of

pytestmark = needs_nvcc


@dataclass(frozen=True, slots=True)
class Kind:
    """A model whose statements are kernels of one kind, ``{t}`` its type, and the most registers that a thread of them may need.

    ``schedules`` are those of its launches; empty where several will do.
    """

    body: str
    inputs: str
    outputs: str
    registers: int
    schedules: tuple[str, ...] = ()


KINDS = {
    "element-wise": Kind(
        "a = Mul (x, b) y = Relu (a)", "{t}[64, 1000] x, {t}[64, 1000] b", "{t}[64, 1000] y", 24, ("injective",)
    ),
    "sigmoid": Kind("y = Sigmoid (x)", "{t}[64, 1000] x", "{t}[64, 1000] y", 24, ("injective",)),
    "transposition": Kind(
        "y = Transpose <perm = [1, 0]> (x)", "{t}[640, 1000] x", "{t}[1000, 640] y", 24, ("injective",)
    ),
    "element-wise, several at once": Kind(
        "a = Mul (x, b) y = Relu (a)", "{t}[1024, 1024] x, {t}[1024, 1024] b", "{t}[1024, 1024] y", 32, ("injective",)
    ),
    "sigmoid, several at once": Kind("y = Sigmoid (x)", "{t}[1024, 1024] x", "{t}[1024, 1024] y", 32, ("injective",)),
    "rows moved, several at once": Kind(
        "y = Transpose <perm = [1, 0, 2]> (x)", "{t}[64, 128, 128] x", "{t}[128, 64, 128] y", 24, ("injective",)
    ),
    "pooling": Kind(
        "y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)",
        "{t}[1, 64, 112, 112] x", "{t}[1, 64, 56, 56] y", 32, ("reduction by threads",),
    ),
    "mean": Kind(
        "y = GlobalAveragePool (x)", "{t}[1, 512, 14, 14] x", "{t}[1, 512, 1, 1] y", 32, ("reduction by blocks",)
    ),
    "softmax": Kind(
        "y = Softmax <axis = 1> (x)", "{t}[64, 1000] x", "{t}[64, 1000] y", 40, ("rows of 4 stages in place",)
    ),
    "layer normalisation": Kind(
        "y = LayerNormalization (x, g)", "{t}[64, 768] x, {t}[768] g", "{t}[64, 768] y", 40,
        ("reduction by blocks", "rows of 2 stages"),
    ),
    "product": Kind("y = MatMul (x, w)", "{t}[1024, 96] x, {t}[96, 1024] w", "{t}[1024, 1024] y", 128),
    "product of a vector": Kind("y = MatMul (x, w)", "{t}[1, 4096] x, {t}[4096, 100] w", "{t}[1, 100] y", 128),
    "convolution": Kind(
        "a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w) y = Relu (a)",
        "{t}[1, 64, 56, 56] x, {t}[64, 64, 3, 3] w", "{t}[1, 64, 56, 56] y", 128,
    ),
    "depthwise convolution": Kind(
        "y = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 256> (x, w)",
        "{t}[1, 256, 28, 28] x, {t}[256, 1, 3, 3] w", "{t}[1, 256, 28, 28] y", 128,
    ),
    "attention": Kind(
        "t = Transpose <perm = [0, 2, 1]> (k) a = MatMul (q, t) b = Mul (a, c) d = Add (b, m) p = Softmax <axis = 2> (d) "
        "y = MatMul (p, v)",
        "{t}[12, 384, 64] q, {t}[12, 384, 64] k, {t}[12, 384, 64] v, {t}[384, 384] m, {t} c", "{t}[12, 384, 64] y", 96,
    ),
    "attention of wide heads": Kind(
        "t = Transpose <perm = [0, 2, 1]> (k) a = MatMul (q, t) p = Softmax <axis = 2> (a) y = MatMul (p, v)",
        "{t}[32, 2048, 128] q, {t}[32, 2048, 128] k, {t}[32, 2048, 128] v", "{t}[32, 2048, 128] y", 96,
    ),
}  # fmt: skip

TYPES = {"f32": "float", "f16": "float16"}


@dataclass(frozen=True, slots=True)
class Made:
    """One launch, and what its code needs."""

    schedule: str
    launch: Launch
    resources: Resources


Launches = dict[tuple[str, str], list[Made]]
"""By kind and type."""


@pytest.fixture(scope="module", params=["a100", "h200"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[GpuTarget, Launches]:
    """The launches of every kind in every type, compiled together for a GPU of sm_80 or of sm_90."""
    target = NAMED[request.param]
    launches: dict[tuple[str, str], list[tuple[str, str, Launch]]] = {}
    for kind, given in KINDS.items():
        for dtype, spelled in TYPES.items():
            found = model(given.body, given.inputs.format(t=spelled), given.outputs.format(t=spelled))
            kernels = device_kernels(lambda expression: fits(expression, target))
            program = compile_as_written(program_of(found), Context(EstimatedCosts()), kernels)
            made = launches.setdefault((kind, dtype), [])
            for statement in program.statements:
                assert isinstance(statement, Compute)
                kernel = lower(statement.output, statement.expression, target)
                prefix = f"kernel_{sum(map(len, launches.values()))}"
                made += zip(function_names(kernel, prefix), kernel.schedules, kernel.launches, strict=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TENSOROPT_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        functions = {name: launch.function for made in launches.values() for name, _, launch in made}
        needs = {
            name: needed for cubin in compile_functions(functions, target) for name, needed in cubin.kernels.items()
        }
    return target, {
        key: [Made(schedule, launch, needs[name]) for name, schedule, launch in made] for key, made in launches.items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_what_a_kind_needs(compiled: tuple[GpuTarget, Launches], kind: str, dtype: str) -> None:
    target, launches = compiled
    found, expected = launches[kind, dtype], KINDS[kind]
    if kind.startswith("attention"):
        assert [made.schedule.split()[0] for made in found] == ["attention"]
    if expected.schedules:
        assert tuple(made.schedule for made in found) == expected.schedules
    for made in found:
        resources, launch = made.resources, made.launch
        threads = launch.block[0] * launch.block[1] * launch.block[2]
        assert 0 < resources.registers <= expected.registers
        assert not resources.spills
        assert resources.stack_bytes == 0
        assert resources.shared_bytes <= target.shared_bytes
        assert beyond(target, made.schedule, resources, launch.grid, launch.block) is None
        assert occupancy(target, resources, threads).share >= (0.75 if expected.registers <= 40 else 0.125)
        if made.schedule == "injective" or made.schedule == "reduction by threads":
            assert resources.shared_bytes == resources.barriers == 0
        elif made.schedule == "reduction by blocks":
            assert resources.shared_bytes == 4 * threads, "a partial result of each thread"
        elif made.schedule.startswith("rows"):
            assert 4 * threads <= resources.shared_bytes <= 4 * threads * int(made.schedule.split()[2])
