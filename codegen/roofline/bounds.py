"""The least time of a launch on a GPU, by each thing that bounds it; the dearest of them counts.

All from the target's data, for schedules as good as the forms allow (Williams, Waterman, Patterson: Roofline, 2009, with the terms
that small tensors need). The constants are from vendors' guides and from microbenchmarks in the literature; nothing was fitted on a
GPU, since none was here. What is chosen by these bounds is an order of candidates, never a promise of milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product

from codegen.roofline.work import Launch, Products
from codegen.targets.gpu import GpuTarget
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.types import DataType

MEMORY, L2, THREADS, DEPTH = "memory", "L2 cache", "too few threads", "additions in turn"
SHARED = "shared memory"
STARTS = "starting kernels"

_L2_BYTES = 32
"""That a multiprocessor gets from the L2 cache in a cycle."""
_SHARED_BYTES = 128
"""That it gets from its shared memory in a cycle: a word for each of 32 banks."""
_LATENCY_SECONDS = 600e-9
"""Of a read from memory."""
_THREAD_BYTES = 16
"""That a thread asks for at a time."""
_ADDITION_CYCLES = 4
_EXCHANGE_CYCLES = 30
"""One step of the tree in which a block's threads add up."""
_EFFICIENCY = {"f32": 0.85, "tensor": 0.65}
"""The share of the peak that the best libraries' products reach."""
_SIDES = (16, 32, 64, 128)
"""Of a block's tile: 16 by 16 threads with 1, 2, 4 or 8 rows and columns each."""
_PARTS = (1, 2, 4, 8, 16, 32)
"""Into which the depth of products is cut where there are few tiles."""
_LEAST_DEPTH = 32
"""That a part takes the time of, even where it has less: so more depth never takes less time."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds by what bounds the launch. ``starting`` is added to the dearest of ``terms``."""

    starting: float
    terms: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """What the launch takes at least."""
        return self.starting + max(self.terms.values(), default=0.0)

    @property
    def binding(self) -> str:
        """The dearest term, or the start where that is more."""
        name = max(self.terms, key=lambda name: self.terms[name], default=STARTS)
        return name if self.terms.get(name, 0.0) > self.starting else STARTS


def bounds(launch: Launch, target: GpuTarget, constants: Collection[str]) -> Bounds:
    """The bounds of a launch. ``constants`` are tensors that come from memory, since nothing has written them just before."""
    ceilings = target.ceilings
    clock = _clock(target)
    cold = warm = 0
    for source, size in launch.reads.items():
        if _lies_in_l2(source, constants, target):
            warm += size
        else:
            cold += size
    written = launch.written_bytes
    lasting = 0 if 2 * written <= ceilings.l2_bytes else written  # what fits is read again before it leaves the cache
    terms = {
        MEMORY: (cold + lasting) / ceilings.bytes_per_second,
        L2: (cold + warm + written) / _l2_rate(target),
        THREADS: _LATENCY_SECONDS * (cold + warm) / (launch.threads * _THREAD_BYTES) if not launch.products else 0.0,
    }
    rate = ceilings.f64 if launch.double else ceilings.f32
    terms["f64" if launch.double else "f32"] = _spread(launch, target) * launch.operations * 2 / rate
    if launch.serial:
        terms[DEPTH] = (launch.serial * _ADDITION_CYCLES + 8 * _EXCHANGE_CYCLES) / clock
    starting = ceilings.launch_seconds
    for products in launch.products:
        extra, terms = _with_products(products, terms, target, launch.double)
        starting += extra
    return Bounds(starting, terms)


def _lies_in_l2(source: Tensor | Scope, constants: Collection[str], target: GpuTarget) -> bool:
    """Whether a value that was computed just before is still in the cache. Weights were last read a run ago."""
    fits = 2 * source.type.bytes <= target.ceilings.l2_bytes
    return fits and not (isinstance(source, Tensor) and source.name in constants)


def _spread(launch: Launch, target: GpuTarget) -> float:
    """How much of the machine stands idle beside element-wise work: what its threads do not fill."""
    lanes = target.multiprocessors * target.multiprocessor.lanes
    return max(1.0, lanes / max(launch.threads, 1))


def _with_products(
    products: Products, others: Mapping[str, float], target: GpuTarget, double: bool
) -> tuple[float, dict[str, float]]:
    """What a cut of the depth adds to the start, and the terms with those of products, for the tile and the cut that are best."""
    found = []
    for rows, columns, parts in product(_SIDES, _SIDES, _PARTS):
        if parts <= products.most_parts:
            own = _tiled(products, target, double, (rows, columns, parts))
            terms = {name: others.get(name, 0.0) + own.get(name, 0.0) for name in (*others, *own)}
            found.append((target.ceilings.launch_seconds if parts > 1 else 0.0, terms))
    return min(found, key=lambda one: one[0] + max(one[1].values()))


def _tiled(products: Products, target: GpuTarget, double: bool, cut: tuple[int, int, int]) -> dict[str, float]:
    """The terms of products that blocks compute in tiles of so many rows and columns, and in so many parts of the depth."""
    rows, columns, parts = cut
    unit, peak = unit_of(products, target, double)
    size, clock = products.dtype.itemsize, _clock(target)
    tiles = products.batch * -(-products.rows // rows) * -(-products.columns // columns) * parts
    depth = max(-(-products.depth // parts), min(products.depth, _LEAST_DEPTH))
    most = -(-tiles // target.multiprocessors) * rows * columns * depth  # multiply-adds of the busiest multiprocessor
    operands = 16 / rows + 16 / columns  # that a multiply-add reads from shared memory
    moved = products.multiply_adds * size * (1 / rows + 1 / columns)  # through the L2 cache, for all tiles
    if parts > 1:
        moved += 2 * parts * products.batch * products.rows * products.columns * 4
    efficiency, reuse = (_EFFICIENCY["tensor"], 4) if "tensor" in unit else (_EFFICIENCY["f32"], 1)
    return {
        unit: 2 * most * target.multiprocessors / (efficiency * peak),
        SHARED: most * operands * size / (reuse * _SHARED_BYTES * clock),
        L2: moved / _l2_rate(target),
        DEPTH: depth * _ADDITION_CYCLES / clock,
    }


def unit_of(products: Products, target: GpuTarget, double: bool) -> tuple[str, float]:
    """What multiplies, and its operations a second. Tensor cores take f16, bf16 and, where it is wanted, tf32, whole fragments."""
    ceilings = target.ceilings
    if double or products.dtype is DataType.FLOAT64:
        return "f64", ceilings.f64
    if products.tensor and min(products.rows, products.columns, products.depth) >= 8:
        tensor = {
            DataType.FLOAT16: ("f16 tensor cores", ceilings.f16_tensor),
            DataType.BFLOAT16: ("bf16 tensor cores", ceilings.bf16_tensor),
        }
        if target.tf32:
            tensor[DataType.FLOAT32] = ("tf32 tensor cores", ceilings.tf32_tensor)
        unit, peak = tensor.get(products.dtype, ("", 0.0))
        if peak:
            return unit, peak
    return "f32", ceilings.f32


def _clock(target: GpuTarget) -> float:
    """Cycles a second, at which the f32 peak is what it is."""
    return target.ceilings.f32 / (2 * target.multiprocessors * target.multiprocessor.lanes)


def _l2_rate(target: GpuTarget) -> float:
    return _L2_BYTES * target.multiprocessors * _clock(target)
