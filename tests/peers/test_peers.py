"""Peers run a model as it says; one that is not there says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tensoropt.errors import UsageError
from tensoropt.ir.program import Array
from tensoropt.peers import PEERS, peers_named
from tensoropt.peers.peer import Peer, Refused
from tests.strategies.fake_peers import Absent

TWO_THREADS = 2


def small_model() -> bytes:
    """A convolution of a dynamic batch and two outputs of different types."""
    weights = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 24
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[2, 2], pads=[0, 1, 1, 0]),
            helper.make_node("Relu", ["c"], ["y"]),
            helper.make_node("Add", ["n", "n"], ["twice"]),
        ],
        "small",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 4, 5]),
            helper.make_tensor_value_info("n", TensorProto.INT64, [3]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, 4, 5]),
            helper.make_tensor_value_info("twice", TensorProto.INT64, [3]),
        ],
        [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


installed = pytest.mark.parametrize(
    "peer",
    [
        pytest.param(peer, marks=pytest.mark.slow if peer.name == "torch" else ())
        for peer in PEERS
        if peer.missing() is None
    ],
    ids=lambda peer: peer.name,
)


@installed
def test_a_peer_gives_every_output_by_name(peer: Peer, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(small_model())
    generator = np.random.default_rng(0)
    feeds: dict[str, Array] = {"x": generator.standard_normal((2, 3, 4, 5)).astype(np.float32), "n": np.arange(3)}
    results = peer.prepare(path, {"x": (2, 3, 4, 5), "n": (3,)}, TWO_THREADS)(feeds)
    expected: Any = ReferenceEvaluator(small_model()).run(None, feeds)
    np.testing.assert_allclose(results["y"], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(results["twice"], expected[1])
    assert list(results) == ["y", "twice"]


@installed
def test_a_peer_refuses_what_it_does_not_know(peer: Peer, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Unheard", ["x"], ["y"], domain="nobody")],
        "unknown",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nobody", 1)]
    path = tmp_path / "unknown.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    with pytest.raises(Refused, match="Unheard") as refusal:
        peer.prepare(path, {"x": (3,)}, 1)
    assert "\n" not in str(refusal.value)


def test_peers_are_chosen_by_name() -> None:
    assert [peer.name for peer in peers_named(None)] == ["onnxruntime", "openvino", "torch", "tvm"]
    assert [peer.name for peer in peers_named(["tvm", "onnxruntime", "tvm"])] == ["tvm", "onnxruntime"]
    with pytest.raises(UsageError, match="--against takes onnxruntime, openvino, torch, tvm, not 'tensorflow'"):
        peers_named(["onnxruntime", "tensorflow"])


def test_a_peer_that_is_not_installed_says_what_brings_it() -> None:
    assert Absent().missing() == "absent is not installed; `pip install 'tensoropt[bench]'` brings it"
