"""External data is mapped, and confined to the folder of the model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tensoropt.frontend import load_program
from tests.strategies.rejected_models import chain, message_of


def with_external(folder: Path, location: str) -> Path:
    """A model file whose weight w lies in external data at the location."""
    model = chain(helper.make_node("Add", ["x", "w"], ["y"]))
    weight = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[2, 3])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def weight_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.arange(6, dtype=np.float32).tobytes())
    return path


class TestExternalData:
    def test_beside_the_model(self, tmp_path: Path) -> None:
        weight_file(tmp_path / "weights.bin")
        loaded = load_program(with_external(tmp_path, "weights.bin"))
        assert isinstance(loaded.program.constants["w"], np.memmap)
        np.testing.assert_array_equal(loaded.program.constants["w"], np.arange(6, dtype=np.float32).reshape(2, 3))

    def test_in_the_hash(self, tmp_path: Path) -> None:
        weight_file(tmp_path / "weights.bin")
        path = with_external(tmp_path, "weights.bin")
        before = load_program(path).sha256
        (tmp_path / "weights.bin").write_bytes(np.ones(6, np.float32).tobytes())
        assert load_program(path).sha256 != before

    def test_missing(self, tmp_path: Path) -> None:
        assert "weights.bin does not exist" in message_of(with_external(tmp_path, "weights.bin"))

    def test_too_short(self, tmp_path: Path) -> None:
        (tmp_path / "weights.bin").write_bytes(b"1234")
        assert "has 4 bytes" in message_of(with_external(tmp_path, "weights.bin"))

    def test_parent(self, tmp_path: Path) -> None:
        weight_file(tmp_path / "weights.bin")
        (tmp_path / "inner").mkdir()
        assert "outside the model's folder" in message_of(with_external(tmp_path / "inner", "../weights.bin"))
        assert "outside the model's folder" in message_of(with_external(tmp_path / "inner", "../inner/../weights.bin"))

    def test_absolute(self, tmp_path: Path) -> None:
        assert "outside the model's folder" in message_of(
            with_external(tmp_path, str(weight_file(tmp_path / "weights.bin")))
        )

    def test_symbolic_link_that_leaves(self, tmp_path: Path) -> None:
        weight_file(tmp_path / "secret.bin")
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "weights.bin").symlink_to(tmp_path / "secret.bin")
        assert "symbolic link" in message_of(with_external(tmp_path / "inner", "weights.bin"))

    def test_linked_folder_that_leaves(self, tmp_path: Path) -> None:
        weight_file(tmp_path / "secret" / "weights.bin")
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "data").symlink_to(tmp_path / "secret")
        assert "symbolic link" in message_of(with_external(tmp_path / "inner", "data/weights.bin"))

    def test_symbolic_link_inside(self, tmp_path: Path) -> None:
        weight_file(tmp_path / "blob")
        (tmp_path / "weights.bin").symlink_to("blob")
        assert load_program(with_external(tmp_path, "weights.bin")).program.constants["w"].shape == (2, 3)

    def test_links_of_a_download_cache(self, tmp_path: Path) -> None:
        blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
        snapshot.mkdir(parents=True)
        weight_file(blobs / "1234")
        with_external(blobs, "weights.bin").rename(blobs / "5678")
        (snapshot / "model.onnx").symlink_to("../../blobs/5678")
        (snapshot / "weights.bin").symlink_to("../../blobs/1234")
        assert load_program(snapshot / "model.onnx").program.constants["w"].shape == (2, 3)

    def test_hard_link(self, tmp_path: Path) -> None:
        weight_file(tmp_path / "secret.bin")
        os.link(tmp_path / "secret.bin", tmp_path / "weights.bin")
        assert "hard link" in message_of(with_external(tmp_path, "weights.bin"))

    def test_device(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "weights.bin")
        assert "not a regular file" in message_of(with_external(tmp_path, "weights.bin"))

    def test_model_without_a_path(self, tmp_path: Path) -> None:
        weight_file(tmp_path / "weights.bin")
        path = with_external(tmp_path, "weights.bin")
        assert "not given as a path" in message_of(path.read_bytes())
        assert "not given as a path" in message_of(onnx.load(path, load_external_data=False))
