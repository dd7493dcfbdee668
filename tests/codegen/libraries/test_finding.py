"""Libraries are found in NVIDIA's wheels, or one sentence says why there are none."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codegen.libraries.finding import NoLibrary, find
from codegen.libraries.library import installed
from codegen.libraries.operations import CUBLASLT, CUDNN

COMPILER = shutil.which("gcc") or shutil.which("cc")
SOURCE = Path(__file__).resolve().parents[2] / "strategies" / "fake_libraries.c"


@pytest.fixture(autouse=True)
def own_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A path of modules without wheels, and nothing found before."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    find.cache_clear()
    yield
    find.cache_clear()


def nothing_for_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system's loader would find, it does not."""
    load = ctypes.CDLL

    def loaded(name: str) -> ctypes.CDLL:
        if "/" not in name:
            raise OSError(f"{name}: cannot open shared object file")
        return load(name)

    monkeypatch.setattr(ctypes, "CDLL", loaded)


def test_none_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_for_the_loader(monkeypatch)
    assert installed() == {}
    with pytest.raises(NoLibrary, match=r"^cuDNN is not installed$"):
        find(CUDNN)


def test_one_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_for_the_loader(monkeypatch)
    place = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"no library")
    with pytest.raises(NoLibrary, match=r"^cuDNN does not load \(.*libcudnn\.so\.9.*\)$"):
        find(CUDNN)


@pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C compiler")
@pytest.mark.parametrize("folder", ["nvidia/cu13/lib/libcublasLt.so.13", "nvidia/cublas/lib/libcublasLt.so.12"])
def test_wheels_of_either_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    nothing_for_the_loader(monkeypatch)
    place = tmp_path / folder
    place.parent.mkdir(parents=True)
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-w", str(SOURCE), "-o", str(place)], check=True)
    assert installed() == {CUBLASLT: "13.10.0"}
    assert find(CUBLASLT)._name == str(place)
