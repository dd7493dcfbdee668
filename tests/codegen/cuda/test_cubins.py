"""nvcc: kernels compiled for several architectures, kept on disk, and one sentence for what cannot be. Needs no GPU."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from codegen.cuda.cubins import compile_functions, compile_sources
from codegen.cuda.nvcc import Nvcc, find_nvcc
from codegen.cuda.occupancy import occupancy
from codegen.targets.named import NAMED, generic
from tensoropt import disk_cache
from tensoropt.errors import ModelError, UsageError
from tests.strategies.device_functions import reversed_blocks, shares_of_many
from tests.strategies.nvcc import needs_nvcc


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@needs_nvcc
@pytest.mark.parametrize("name", ["a100", "h200", "t4", "rtx5090"])
def test_kernels_compile_and_say_what_they_need(name: str) -> None:
    target = NAMED[name]
    functions = {f"kernel_{number}": reversed_blocks(target, threads=64 << number) for number in range(3)}
    (made,) = compile_functions(functions, target)
    assert made.code.startswith(b"\x7fELF")
    assert made.kernels.keys() == functions.keys()
    for number in range(3):
        resources = made.kernels[f"kernel_{number}"]
        assert resources.shared_bytes == 4 * (64 << number)
        assert resources.barriers == 1
        assert not resources.spills
        assert 0 < resources.registers <= 40
        assert occupancy(target, resources, 64 << number).share >= 0.5


@needs_nvcc
def test_spills_are_seen() -> None:
    target = NAMED["h200"]
    (made,) = compile_functions({"few": shares_of_many(target, 16), "many": shares_of_many(target, 160)}, target)
    assert not made.kernels["few"].spills
    assert made.kernels["many"].spills
    assert made.kernels["many"].registers == 64, "what 1024 threads leave each other"


@needs_nvcc
def test_several_sources_are_compiled_and_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = NAMED["a100"]
    functions = {f"kernel_{number}": reversed_blocks(target, blocks=number + 1) for number in range(20)}
    made = compile_functions(functions, target)
    assert len(made) == 2
    assert sorted(name for cubin in made for name in cubin.kernels) == sorted(functions)
    entries = disk_cache.entries("cubins")
    assert len(entries) == 2

    def never(self: Nvcc, source: str, arch: str) -> tuple[bytes, str]:
        raise AssertionError("compiled again")

    with monkeypatch.context() as patched:
        patched.setattr(Nvcc, "compile", never)
        assert compile_functions(functions, target) == made
    damaged = json.loads(entries[0].read_text())
    damaged["code"] = damaged["code"][:-8] + "AAAAAAA="
    entries[0].write_text(json.dumps(damaged))
    assert compile_functions(functions, target) == made, "a damaged entry is made anew"


@needs_nvcc
def test_too_much_shared_memory_is_one_sentence() -> None:
    target = NAMED["h200"]
    with pytest.raises(ModelError) as caught:
        compile_functions({"kernel_7": reversed_blocks(target, shared_elements=12289)}, target)
    assert str(caught.value) == "kernel_7 declares 49156 bytes of shared memory for a block where sm_90 gives 49152"


@needs_nvcc
def test_a_wrong_source_is_a_defect_of_ours() -> None:
    with pytest.raises(RuntimeError, match=r"does not take the source for sm_90: .*error"):
        find_nvcc().compile('extern "C" __global__ void kernel() { nothing(); }', "sm_90")


def test_without_nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr("shutil.which", lambda name, path=None: None)
    with pytest.raises(UsageError, match="needs nvcc, which is not installed"):
        compile_functions({"kernel": None}, NAMED["h200"])


def tool(folder: Path, script: str) -> Path:
    """A program in nvcc's place."""
    (folder / "bin").mkdir()
    path = folder / "bin" / "nvcc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


OLD = """
case "$1" in
  --version) echo "Cuda compilation tools, release 11.4, V11.4.152";;
  --list-gpu-code) printf 'sm_75\\nsm_80\\nsm_86\\n';;
  *) echo "$*" >&2; exit 1;;
esac
"""


@pytest.mark.parametrize(("arch", "part"), [("sm_90", "install a newer CUDA toolkit"), ("sm_120", "a newer")])
def test_an_nvcc_that_is_too_old(arch: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, OLD)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        compile_functions({"kernel": None}, generic(arch))
    assert f"nvcc 11.4.152 makes no code for {arch}, only for sm_75, sm_80, sm_86; " in str(caught.value)
    assert part in str(caught.value)


def test_a_host_without_a_compiler(tmp_path: Path) -> None:
    path = tool(tmp_path, "echo 'nvcc fatal   : Failed to preprocess host compiler properties.' >&2; exit 1")
    with pytest.raises(UsageError, match="C\\+\\+ compiler of the host"):
        compile_sources(["x"], "sm_80", Nvcc(str(path), "13.0", ("sm_80",)))


def test_a_program_that_is_no_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, "echo hello")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="does not say which version"):
        find_nvcc()
