"""Opaque statements over other tensors: the names are in the serialized node too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Opaque


def renamed(statement: Opaque, tensors: Mapping[str, Tensor]) -> Opaque:
    """The statement reading and writing other tensors of the same types, by name; those that are not named stay."""
    import onnx

    node = onnx.NodeProto.FromString(statement.node)
    for names in (node.input, node.output):
        for place, name in enumerate(names):
            if name in tensors:
                names[place] = tensors[name].name
    return replace(
        statement,
        inputs=tuple(tensors.get(tensor.name, tensor) for tensor in statement.inputs),
        outputs=tuple(tensors.get(tensor.name, tensor) for tensor in statement.outputs),
        node=node.SerializeToString(),
    )
