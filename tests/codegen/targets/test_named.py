"""GPUs as data: what must hold of every one, and where TVM's tags say something else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from codegen.targets.architectures import ARCHITECTURES, capability, runs_on
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED, TAGS, WRONG_IN_TVM, generic

ALL = [*NAMED.values(), *map(generic, ARCHITECTURES)]


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_limits_and_ceilings_fit_together(target: GpuTarget) -> None:
    shared, ceilings = target.multiprocessor, target.ceilings
    assert target.shared_bytes <= shared.most_shared_bytes
    assert shared.most_shared_bytes + shared.reserved_shared_bytes <= shared.shared_bytes
    assert target.max_threads <= shared.threads
    assert target.max_threads % target.warp == shared.threads % target.warp == 0
    assert shared.registers * 4 == 256 << 10
    assert ceilings.f64 < ceilings.f32 <= ceilings.f16_tensor
    assert ceilings.bf16_tensor in (0, ceilings.f16_tensor)
    assert ceilings.tf32_tensor == 0 or ceilings.f32 <= ceilings.tf32_tensor < ceilings.f16_tensor
    assert (
        4 < ceilings.f32 / ceilings.bytes_per_second < 120
    )  # operations for each byte: terabytes were not taken for gigabytes
    assert ceilings.l2_bytes < ceilings.memory_bytes / 100


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_peaks_follow_from_the_cores_and_a_clock_that_exists(target: GpuTarget) -> None:
    clock = target.ceilings.f32 / (2 * target.multiprocessor.lanes * target.multiprocessors)
    assert 1.3e9 < clock < 2.7e9


@pytest.mark.parametrize("target", ALL, ids=lambda target: target.name)
def test_a_target_is_plain_data_and_comes_back_from_it(target: GpuTarget) -> None:
    assert GpuTarget.described(json.loads(json.dumps(target.describe()))) == target
    with pytest.raises(TypeError):
        GpuTarget.described({**target.describe(), "unknown": 1})


def test_keys_tell_targets_apart() -> None:
    assert len({target.key for target in ALL}) == len(ALL)


@pytest.mark.parametrize("name", sorted(TAGS))
def test_tvm_agrees_but_for_what_is_known(name: str) -> None:
    import tvm

    ours, tag = NAMED[name], tvm.target.Target(TAGS[name])
    said = {
        "arch": ours.arch,
        "max_num_threads": ours.max_threads,
        "max_threads_per_block": ours.max_threads,
        "thread_warp_size": ours.warp,
        "registers_per_block": ours.multiprocessor.registers,
        "max_shared_memory_per_block": ours.multiprocessor.most_shared_bytes,
        "l2_cache_size_bytes": ours.ceilings.l2_bytes,
    }
    theirs = {word: tag.attrs.get(word) for word in said}
    differing = {(name, word): value for word, value in theirs.items() if value != said[word]}
    assert differing == {key: value for key, value in WRONG_IN_TVM.items() if key[0] == name}


def test_tvm_has_no_tag_for_the_others() -> None:
    import tvm

    tags = set(map(str, tvm.target.list_tags()))
    assert set(TAGS.values()) <= tags
    for name in NAMED.keys() - TAGS.keys() - {"a100-40gb", "h100-pcie"}:
        assert not {tag for tag in tags if tag.replace("-", "").endswith(name)}


def test_tvm_takes_every_target() -> None:
    for target in ALL:
        made = target.tvm()
        assert (made.kind.name, made.attrs["arch"]) == ("cuda", target.arch)
        assert made.attrs["max_shared_memory_per_block"] == 48 << 10


def test_code_runs_on_its_own_generation_and_newer_in_it() -> None:
    assert capability("sm_90a") == capability("sm_90") == (9, 0)
    assert capability("sm_120") == (12, 0)
    assert runs_on("sm_80", (8, 9))
    assert not runs_on("sm_89", (8, 0))
    assert not runs_on("sm_80", (9, 0))


def test_an_opencl_target_needs_no_architecture() -> None:
    target = GpuTarget(kind="opencl", name="a device")
    assert target.key == "opencl-a device"
    assert "arch" not in target.tvm().attrs
    assert replace(target, warp=1).tvm().attrs["thread_warp_size"] == 1
