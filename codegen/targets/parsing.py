"""What ``--target`` means: the CPU, a GPU of this machine, one that is known by name, or a description in TVM's words."""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from codegen.targets.architectures import ARCHITECTURES, TENSOR_CAPABILITY, capability, runs_on
from codegen.targets.cpu import CpuTarget, host_target
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED, TAGS, generic
from tensoropt.errors import UsageError

Target = CpuTarget | GpuTarget

KINDS = ("cpu", "cuda", "opencl")

_WORDS: Mapping[str, Callable[[GpuTarget, int], GpuTarget]] = {
    "max_num_threads": lambda target, value: replace(target, max_threads=value),
    "max_threads_per_block": lambda target, value: replace(target, max_threads=value),
    "thread_warp_size": lambda target, value: replace(target, warp=value),
    "max_shared_memory_per_block": lambda target, value: replace(target, shared_bytes=value),
    "registers_per_block": lambda target, value: replace(
        target, multiprocessor=replace(target.multiprocessor, registers=value)
    ),
    "l2_cache_size_bytes": lambda target, value: replace(target, ceilings=replace(target.ceilings, l2_bytes=value)),
}
"""TVM's attributes of a GPU, all positive integers, and what they are here."""


def parse_target(text: str, threads: int | None = None) -> Target:
    """The target that a text stands for; ``threads`` is for the CPU.

    ``cpu``; ``cuda``, the GPU in this machine; ``cuda:sm_90`` or ``cuda:h200``, GPUs that need not be here; ``opencl``; or a TVM
    target as JSON (``{"kind": "cuda", "arch": "sm_90", …}``). UsageError for another text, or for a device that is not here.
    """
    if text.lstrip().startswith("{"):
        return _from_json(text)
    kind, colon, name = text.strip().lower().partition(":")
    if colon and kind == "cuda":
        return named_target(name)
    if not colon and kind == "cpu":
        return host_target(threads)
    if not colon and kind == "cuda":
        return _present()
    if not colon and kind == "opencl":
        from codegen.device.opencl import find_device, target_of

        return target_of(find_device())
    known = [*KINDS, *(f"cuda:{name}" for name in (*ARCHITECTURES, *NAMED))]
    raise UsageError(
        f"the target {text!r} is not known{_nearest(text.strip().lower(), known)}; targets are cpu, cuda (the GPU in this "
        "machine), cuda:NAME, opencl, or a TVM target as JSON, and `tensoropt targets` lists the names"
    )


def with_tf32(target: Target) -> GpuTarget:
    """The target with operands of f32 rounded to tf32 where tensor cores multiply them. UsageError where none do."""
    if isinstance(target, GpuTarget) and target.kind == "cuda" and capability(target.arch) >= TENSOR_CAPABILITY:
        return replace(target, tf32=True)
    name = target.kind if isinstance(target, CpuTarget) else f"{target.kind}:{target.name}"
    raise UsageError(
        f"tf32 is what tensor cores of CUDA GPUs from sm_80 on multiply, and {name} has none; leave --tf32 out"
    )


def named_target(name: str) -> GpuTarget:
    """A GPU or an architecture by name, without the ``cuda:``. UsageError for one that is not known."""
    name = "".join(name.split())
    if name in NAMED:
        return NAMED[name]
    if name in ARCHITECTURES:
        return generic(name)
    known = [*ARCHITECTURES, *NAMED]
    raise UsageError(f"no GPU is known as {name!r}{_nearest(name, known)}; known are {', '.join(known)}")


def _present() -> GpuTarget:
    from codegen.cuda.driver import NoDevice, open_driver

    try:
        device = open_driver().device
    except NoDevice as error:
        raise UsageError(
            f"--target cuda is the GPU in this machine, but {error}; name the GPU to compile for another machine, as in cuda:h200"
        ) from error
    return of_device(device.name, device.capability, device.multiprocessors, device.memory_bytes)


def of_device(name: str, capability: tuple[int, int], multiprocessors: int, memory_bytes: int) -> GpuTarget:
    """A GPU that is here. What is known of it by name, or else of its architecture; its own number of multiprocessors and memory.

    UsageError for an architecture that nothing here compiles for.
    """
    fitting = [arch for arch in ARCHITECTURES if runs_on(arch, capability)]
    if not fitting:
        raise UsageError(
            f"the GPU {name} has the compute capability {capability[0]}.{capability[1]}; known are {', '.join(ARCHITECTURES)}"
        )
    arch = fitting[-1]
    words = re.findall("[a-z0-9]+", name.lower())
    words += [one + other for one, other in itertools.pairwise(words)]
    found = max((one for one in NAMED if set(one.split("-")) <= set(words)), key=len, default="")
    base = NAMED[found] if found and NAMED[found].arch == arch else generic(arch)
    return replace(base, multiprocessors=multiprocessors, ceilings=replace(base.ceilings, memory_bytes=memory_bytes))


def _from_json(text: str) -> Target:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--target is neither a name nor JSON ({error})") from error
    tag = given.get("tag")
    if tag:
        by_tag = {tvm_name: name for name, tvm_name in TAGS.items()}
        if not isinstance(tag, str) or tag not in by_tag:
            raise UsageError(f"the tag {tag!r} of --target is not known; known are {', '.join(by_tag)}")
        base = NAMED[by_tag[tag]]
    else:
        base = _base(given)
    for word, value in given.items():
        if word in ("kind", "arch", "tag", "keys", "host", "tf32"):
            continue
        if word not in _WORDS:
            raise UsageError(
                f"--target has the attribute {word!r}{_nearest(word, list(_WORDS))}; known are kind, arch, tag, tf32, "
                f"{', '.join(_WORDS)}"
            )
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"the attribute {word} of --target is a positive integer, not {value!r}")
        base = _WORDS[word](base, value)
    return _rounding(base, given.get("tf32", False))


def _rounding(target: GpuTarget, tf32: object) -> GpuTarget:
    """The target with the JSON's ``tf32``. OpenCL devices, which have no tensor cores, compute what these would, for tests."""
    if not isinstance(tf32, bool):
        raise UsageError(f"the attribute tf32 of --target is true or false, not {tf32!r}")
    if tf32 and target.kind == "cuda":
        return with_tf32(target)
    return replace(target, tf32=tf32)


def _base(given: Mapping[str, Any]) -> GpuTarget:
    match given.get("kind"):
        case "cuda":
            arch = given.get("arch")
            if not isinstance(arch, str):
                raise UsageError('--target of the kind cuda needs its arch, as in {"kind": "cuda", "arch": "sm_90"}')
            if arch.rstrip("af") not in ARCHITECTURES:
                known = list(ARCHITECTURES)
                raise UsageError(
                    f"the arch {arch!r} of --target is not known{_nearest(arch, known)}; known are {', '.join(known)}"
                )
            return generic(arch.rstrip("af"))
        case "opencl":
            return GpuTarget(kind="opencl", name="opencl")
        case kind:
            raise UsageError(f"--target as JSON is of the kind cuda or opencl, not {kind!r}; the CPU is --target cpu")


def _nearest(text: str, known: list[str]) -> str:
    close = difflib.get_close_matches(text, known, 1, 0.6)
    return f" (did you mean {close[0]}?)" if close else ""
