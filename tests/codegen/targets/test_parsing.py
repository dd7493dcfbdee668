"""``--target``: names, JSON, devices, and one sentence for everything else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import codegen.cuda.driver
from codegen.cuda.driver import Device, NoDevice
from codegen.targets.architectures import ARCHITECTURES
from codegen.targets.cpu import CpuTarget
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from codegen.targets.parsing import of_device, parse_target, with_tf32
from tensoropt.errors import UsageError


def refusal(text: str) -> str:
    """The one sentence."""
    with pytest.raises(UsageError) as caught:
        parse_target(text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def gpu(text: str) -> GpuTarget:
    target = parse_target(text)
    assert isinstance(target, GpuTarget)
    return target


def test_names() -> None:
    cpu = parse_target("cpu", threads=2)
    assert isinstance(cpu, CpuTarget)
    assert cpu.threads == 2
    for name, named in NAMED.items():
        assert parse_target(f"cuda:{name}") is named
    assert parse_target(" CUDA:H200 ") is NAMED["h200"]
    for arch in ARCHITECTURES:
        found = gpu(f"cuda:{arch}")
        assert (found.arch, found.name) == (arch, arch)
        assert found.multiprocessor == ARCHITECTURES[arch].multiprocessor


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("cuda:h20", ["h200", "rtx4090", "sm_80"]),
        ("cuda:sm_70", ["sm_75", "sm_120"]),
        ("cuda:", ["known are", "a100"]),
        ("cuda:rtx4009", ["did you mean rtx4090?"]),
        ("cdua", ["did you mean cuda?", "tensoropt targets"]),
        ("h200", ["did you mean cuda:h200?"]),
        ("cpu:avx2", ["cpu, cuda"]),
        ("", ["cpu, cuda"]),
        ("{", ["JSON"]),
        ('{"kind": "vulkan"}', ["'vulkan'", "cuda or opencl"]),
        ('{"kind": "llvm"}', ["--target cpu"]),
        ('{"kind": "cuda"}', ["arch", "sm_90"]),
        ('{"kind": "cuda", "arch": "sm_91"}', ["did you mean sm_90?", "known are"]),
        ('{"kind": "cuda", "arch": "sm_90", "thread_wrap_size": 32}', ["did you mean thread_warp_size?"]),
        ('{"kind": "cuda", "arch": "sm_90", "thread_warp_size": "32"}', ["positive integer", "'32'"]),
        ('{"kind": "cuda", "arch": "sm_90", "thread_warp_size": true}', ["positive integer"]),
        ('{"tag": "nvidia/nvidia-h900"}', ["nvidia/nvidia-h100"]),
        ('{"kind": "cuda", "arch": "sm_75", "tf32": true}', ["sm_80", "cuda:sm_75"]),
        ('{"tag": "nvidia/nvidia-t4", "tf32": true}', ["sm_80", "cuda:t4"]),
        ('{"kind": "cuda", "arch": "sm_90", "tf32": 1}', ["true or false", "1"]),
        ('{"tag": ["nvidia"]}', ["not known"]),
    ],
)
def test_what_is_not_known_is_refused_with_what_is(text: str, parts: list[str]) -> None:
    message = refusal(text)
    for part in parts:
        assert part in message


@given(
    st.one_of(st.text(max_size=12), st.text(max_size=12).map("cuda:{}".format), st.text(max_size=12).map("{{{}".format))
)
def test_any_other_text_is_refused(text: str) -> None:
    if text.strip().lower() not in ("cpu", "cuda", "opencl") and text.lower().removeprefix("cuda:") not in NAMED:
        refusal(text)


def test_json_in_the_words_of_tvm() -> None:
    assert gpu(json.dumps({"kind": "cuda", "arch": "sm_90a"})).arch == "sm_90"
    given = {
        "kind": "cuda",
        "arch": "sm_86",
        "max_num_threads": 512,
        "max_shared_memory_per_block": 16384,
        "registers_per_block": 32768,
        "l2_cache_size_bytes": 1 << 20,
    }
    found = gpu(json.dumps(given))
    assert (found.max_threads, found.shared_bytes) == (512, 16384)
    assert (found.multiprocessor.registers, found.ceilings.l2_bytes) == (32768, 1 << 20)
    assert gpu('{"tag": "nvidia/nvidia-a100"}') == NAMED["a100"]
    assert gpu('{"kind": "opencl", "thread_warp_size": 1}').warp == 1


def test_tf32_is_part_of_the_target() -> None:
    plain, asked = NAMED["h200"], with_tf32(NAMED["h200"])
    assert gpu('{"kind": "cuda", "arch": "sm_90", "tf32": true}') == with_tf32(gpu("cuda:sm_90"))
    assert gpu('{"kind": "opencl", "tf32": true}').tf32
    assert not plain.tf32
    assert plain.key != asked.key
    assert GpuTarget.described(json.loads(json.dumps(asked.describe()))) == asked
    before = {name: value for name, value in plain.describe().items() if name != "tf32"}
    assert GpuTarget.described(before) == plain, "of a folder from before there was tf32"
    with pytest.raises(UsageError, match="opencl:x has none"):
        with_tf32(GpuTarget(kind="opencl", name="x"))


def test_a_target_that_tvm_exports_is_taken() -> None:
    exported = NAMED["l4"].tvm().export()
    assert gpu(json.dumps({**exported, "keys": list(exported["keys"]), "host": {}, "tag": ""})).arch == "sm_89"


@pytest.mark.parametrize("why", ["no NVIDIA driver is installed", "the NVIDIA driver finds no GPU"])
def test_the_gpu_of_a_machine_without_one(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> object:
        raise NoDevice(why)

    monkeypatch.setattr(codegen.cuda.driver, "open_driver", fail)
    message = refusal("cuda")
    assert why in message
    assert "cuda:h200" in message


def test_the_gpu_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        device = Device("NVIDIA H200", (9, 0), 130, 140 << 30, 13000)

    monkeypatch.setattr(codegen.cuda.driver, "open_driver", Found)
    found = gpu("cuda")
    assert (found.name, found.arch, found.multiprocessors) == ("h200", "sm_90", 130)
    assert found.ceilings.memory_bytes == 140 << 30
    assert found.ceilings.bytes_per_second == NAMED["h200"].ceilings.bytes_per_second


@pytest.mark.parametrize(
    ("name", "capability", "known"),
    [
        ("NVIDIA A100-SXM4-80GB", (8, 0), "a100"),
        ("NVIDIA A100-SXM4-40GB", (8, 0), "a100-40gb"),
        ("NVIDIA A10", (8, 6), "a10"),
        ("NVIDIA H100 80GB HBM3", (9, 0), "h100"),
        ("NVIDIA H100 PCIe", (9, 0), "h100-pcie"),
        ("NVIDIA GeForce RTX 4090", (8, 9), "rtx4090"),
        ("NVIDIA L40", (8, 9), "sm_89"),
        ("NVIDIA L40S", (8, 9), "l40s"),
        ("Tesla T4", (7, 5), "t4"),
        ("Orin", (8, 7), "sm_86"),
        ("NVIDIA B300", (10, 3), "sm_100"),
    ],
)
def test_names_that_drivers_give(name: str, capability: tuple[int, int], known: str) -> None:
    assert of_device(name, capability, 100, 1 << 34).name == known


def test_a_gpu_that_nothing_compiles_for() -> None:
    with pytest.raises(UsageError, match=r"V100.*7\.0"):
        of_device("Tesla V100", (7, 0), 80, 1 << 34)
