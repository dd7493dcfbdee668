"""Small models to damage, and the sentence that a model is refused with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tensoropt.errors import ModelError
from tensoropt.frontend import load_program


def chain(*nodes: onnx.NodeProto, opset: int = 18, **initializers: np.ndarray) -> onnx.ModelProto:
    """A model x: f32[2, 3] → y of the given nodes."""
    graph = helper.make_graph(
        list(nodes),
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def message_of(model: object, **keywords: object) -> str:
    with pytest.raises(ModelError) as caught:
        load_program(model, **keywords)  # type: ignore[arg-type]
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    assert caught.value.exit_status == 2
    return text
