"""What the model sees of a variant: numbers that mean the same for every kernel and every target.

They come from the way a stage is cut, before anything is compiled. Sizes and counts are logarithms to the base 2, so that twice as
much is one more; costs are for one multiply-add; what a kind of schedule or of hardware has not is NaN, which trees of decisions
take as it is. The choice is as in published models that learn over different hardware: counts of the schedule (Ansor,
MetaSchedule), beside the sizes of what runs it (TenSet, TLP).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, log2, nan

import numpy as np
from numpy.typing import NDArray

from codegen.schedules.context import Offer
from codegen.targets.cpu import CpuTarget
from codegen.targets.gpu import GpuTarget
from codegen.tune.learned import of_cpu, of_gpu

FORMAT = 1
"""Grows with every change of what the numbers mean: what was learned or stored of another format is not used."""

HARDWARE = ("gpu", "workers", "lanes", "registers", "near_cache", "far_cache", "last_cache", "block_threads")
WORK = ("kind", "rows", "columns", "depth", "batches", "products", "intensity", "itemsize", "constants", "stages")
ESTIMATE = ("estimated", "behind", "place")
SCHEDULE = (
    *("tile_rows", "tile_columns", "sums", "independent", "unrolled", "code"),
    *("block_rows", "block_columns", "block_depth", "passes"),
    *("items", "sections", "balance", "filled", "waste_rows", "waste_columns"),
    *("near_share", "far_share", "loads", "brought"),
    *("arithmetic", "streamed", "waiting", "stored", "gathered", "overheads"),
    *("swapped", "contiguous", "direct"),
    *("row_stride", "row_step", "vector_step", "stretch", "row_stretch", "panel"),
    *("constant_rows", "constant_columns", "weights", "lines"),
    *("threads", "own_rows", "own_columns", "shared", "resident", "waves", "parts", "tensor"),
)
NAMES = (*HARDWARE, *WORK, *ESTIMATE, *SCHEDULE)
"""The columns, in order.

``behind`` is how far the analytic estimate is behind its best for the kernel, ``place`` the place that it gives the variant as a
share of all. ``filled`` is the share of the workers that the items keep busy, ``balance`` how many times longer the slowest takes
than with even work, ``near_share`` and ``far_share`` how much the panels take of the first and second cache (on a GPU: of a block's
shared memory and of the registers). ``own_rows`` and ``own_columns`` are how many threads of a block lie along an axis. Of a
convolution by products at points, ``stretch`` is the length of its vectors of tiles and ``swapped`` whether threads share blocks.
"""

KINDS = ("contraction", "filtering", "attention")

Rows = NDArray[np.float32]
"""A row for each variant, a column for each of ``NAMES``."""


def described(offers: Sequence[Offer], target: CpuTarget | GpuTarget) -> tuple[str, Rows] | None:
    """The parameter that a kernel's variants set and the numbers of each, the default first; None for a kernel without variants.

    Where several stages take the same parameter, the one with the most work stands for the kernel; it keeps its last way where
    others have more of them.
    """
    if not offers:
        return None
    of = of_cpu if isinstance(target, CpuTarget) else of_gpu
    lead = max(offers, key=lambda offer: (of.products(offer.work), len(offer.cuts)))
    work = {
        **of.work(lead.work),
        "kind": float(KINDS.index(lead.kind)),
        "stages": float(sum(offer.kind == lead.kind for offer in offers)),
    }
    estimates = [cut.cycles for cut in lead.cuts]
    least, products = min(estimates), max(1.0, of.products(lead.work))
    fixed = {**_hardware(target), **work, "products": _log(products)}
    count = max(len(offer.cuts) for offer in offers if offer.kind == lead.kind)
    rows = np.full((count, len(NAMES)), nan, np.float32)
    order = np.argsort(np.argsort(estimates, kind="stable"), kind="stable")
    for number, (cut, estimate) in enumerate(zip(lead.cuts, estimates, strict=True)):
        found = {
            **fixed,
            "estimated": _log(estimate / products),
            "behind": _log(estimate / least) if least > 0 else 0.0,
            "place": float(order[number]) / max(1, len(estimates) - 1),
            **of.schedule(lead.work, cut, target),
        }
        rows[number:] = [found.get(name, nan) for name in NAMES]
    return lead.kind, rows


def _hardware(target: CpuTarget | GpuTarget) -> Mapping[str, float]:
    if isinstance(target, CpuTarget):
        return {
            "gpu": 0.0,
            "workers": _log(target.threads),
            "lanes": _log(target.lanes),
            "registers": _log(target.registers),
            "near_cache": _log(target.l1_bytes),
            "far_cache": _log(target.l2_bytes),
            "last_cache": _log(target.l3_bytes),
        }
    one = target.multiprocessor
    return {
        "gpu": 1.0 if target.warp > 1 else 0.5,  # a CPU that runs a block's threads one after another is between both
        "workers": _log(target.multiprocessors),
        "lanes": _log(target.warp),
        "registers": _log(one.registers),
        "near_cache": _log(one.shared_bytes),
        "far_cache": _log(target.ceilings.l2_bytes) if target.ceilings.l2_bytes else nan,
        "last_cache": nan,
        "block_threads": _log(target.max_threads),
    }


def _log(value: float) -> float:
    """The logarithm to the base 2, as far as f32 can say it."""
    if value <= 0:
        return -60.0
    return 60.0 if value == inf else max(-60.0, min(60.0, log2(value)))
