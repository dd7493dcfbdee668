"""Whole models as modules of PyTorch give what ONNX Runtime gives, and hold their weights as buffers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from examples.models import BUILDERS
from tests.strategies.small_models import expected

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("name", ["infogan", "fsrcnn", "light_squeezenet", "light_shufflenet", "longformer_chunked"])
def test_an_example_gives_what_onnx_runtime_gives(name: str) -> None:
    from tensoropt.peers.torch_graph import TorchGraph

    model = BUILDERS[name](1)
    graph = TorchGraph(model)
    (given,) = model.graph.input
    shape = [dimension.dim_value for dimension in given.type.tensor_type.shape.dim]
    value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with torch.inference_mode():
        (result,) = graph(torch.from_numpy(value))
    (reference,) = expected(model, {given.name: value})
    np.testing.assert_allclose(result.numpy(), reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max())


def test_inputs_constants_and_outputs_keep_their_order() -> None:
    from tensoropt.peers.torch_graph import TorchGraph

    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [3.0, 4.0])
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["one"], value_float=1.0),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
            helper.make_node("Mul", ["difference", "w"], ["scaled"]),
            helper.make_node("Add", ["scaled", "one"], ["shifted"]),
        ],
        "several",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("b", "w", "a")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("shifted", "w", "difference")],
        [weight],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    module = TorchGraph(model)
    assert module.inputs == ["b", "a"], "an input with an initializer is a constant"
    assert {tuple(buffer.tolist()) for _, buffer in module.named_buffers() if buffer.ndim} == {(3.0, 4.0)}
    results = module(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 5.0]))
    assert [value.tolist() for value in results] == [[4.0, 17.0], [3.0, 4.0], [1.0, 4.0]]
