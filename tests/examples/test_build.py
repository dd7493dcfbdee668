"""`python -m examples.build` writes whole files and nothing else."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from examples import build
from examples.models import BUILDERS


def test_writes_the_named_models_with_the_batch_size(tmp_path: Path) -> None:
    build.main(["infogan", "fsrcnn", "-o", str(tmp_path / "new"), "--batch", "3"])
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["fsrcnn.onnx", "infogan.onnx"]
    model = onnx.load(tmp_path / "new" / "infogan.onnx")
    assert model == BUILDERS["infogan"](3)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(batch: int) -> onnx.ModelProto:
        raise MemoryError

    monkeypatch.setattr(build, "BUILDERS", {"infogan": broken})
    with pytest.raises(MemoryError):
        build.write("infogan", tmp_path)
    assert not list(tmp_path.iterdir())


def test_unknown_name_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        build.main(["nothing", "-o", str(tmp_path)])
