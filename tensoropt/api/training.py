"""``optimize --training``: a model and the derivatives of its loss as one program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tensoropt.errors import ModelError

if TYPE_CHECKING:
    from tensoropt.frontend import LoadedModel


def load_training(model: Any, shapes: Mapping[str, Sequence[int]], loss: str) -> LoadedModel:
    """The training step of a model: its weights are inputs, the derivatives of an output ``loss`` by them further outputs.

    The reference that it carries is the step as it was derived, written as ONNX and run by ONNX Runtime. ModelError for a model
    without parameters, an output that is no loss, and an operator in the way that has no derivative.
    """
    from passes.differentiate.reverse import differentiate
    from tensoropt.export import export_onnx
    from tensoropt.frontend import load_program
    from tensoropt.frontend.loader import separated
    from tensoropt.frontend.parameters import parameters_of

    imported = load_program(model, shapes, parameters_of)
    label = imported.path or "the model"
    if not imported.values:
        raise ModelError(f"{label} has no parameters to train: none of its initializers holds an array of floats")
    found = differentiate(imported.program, loss, list(imported.values), imported.operators)
    if not found.gradients:
        raise ModelError(f"{label}: the loss {loss!r} has no derivative by any parameter")
    reference, weights = separated(export_onnx(found.program))
    return replace(imported, program=found.program, model=reference, weights=weights)
