"""Weights that are left out of an artefact and made again from the model's own, as the comparison on a GPU sends them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import tensoropt
from codegen.device.build import BuiltDeviceProgram
from codegen.reading import WEIGHTS
from examples.gpu import prepared
from examples.gpu.weights import RECIPE, leave_out, places_of, restored
from tensoropt.api import CompiledModel
from tensoropt.check import random_feeds
from tensoropt.errors import ArtefactError
from tensoropt.frontend import load_program
from tensoropt.ir.constants import content_digest
from tensoropt.ir.parser import parse_program
from tensoropt.ir.program import Program
from tests.strategies.nvcc import needs_nvcc
from tests.strategies.small_models import expected, model


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def normalised(seed: int = 0) -> onnx.ModelProto:
    """A convolution whose weights come out of two constants, a normalisation, and a constant that is an output."""
    found = model(
        "u = Mul (w, g) a = Conv <kernel_shape = [3, 3]> (x, u) "
        "b = BatchNormalization (a, scale, shift, mean, var) y = Relu (b) z = Identity (scale)",
        "float[1, 4, 9, 9] x", "float[1, 8, 7, 7] y, float[8] z",
        w=(8, 4, 3, 3), g=(8, 1, 1, 1), scale=(8,), shift=(8,), mean=(8,), var=(8,),
    )  # fmt: skip
    for tensor in found.graph.initializer:
        if seed and tensor.name == "g":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full((8, 1, 1, 1), 2, np.float32), "g"))
    return found


def saved(found: onnx.ModelProto, folder: Path, target: str = "opencl") -> tuple[CompiledModel, BuiltDeviceProgram]:
    compiled = tensoropt.optimize(found, target)
    compiled.save(folder)
    built = compiled._built
    assert isinstance(built, BuiltDeviceProgram)
    return compiled, built


def constant_bytes(built: BuiltDeviceProgram, memory: np.ndarray) -> dict[str, bytes]:
    sizes = {name: array.nbytes for name, array in built.program.constants.items()}
    return {name: memory[place : place + sizes[name]].tobytes() for name, place in places_of(built).items()}


def test_they_are_made_again(tmp_path: Path) -> None:
    found = normalised()
    compiled, built = saved(found, tmp_path / "whole")
    assert leave_out(tmp_path / "whole", compiled, built) == 0, "every constant is the model's own"
    assert not (tmp_path / "whole" / WEIGHTS).exists()
    own = load_program(found).program
    read = constant_bytes(built, restored(tmp_path / "whole", own.constants))
    assert read == constant_bytes(built, built.weights)
    assert len(read) >= 2
    feeds = random_feeds(own.inputs, 1)
    outputs = prepared.load(tmp_path / "whole", own.constants).run(feeds)
    for result, wanted in zip(outputs.values(), expected(found, feeds), strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-5)


def test_the_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    leave_out(tmp_path / "whole", *saved(normalised(), tmp_path / "whole"))
    other = load_program(normalised(seed=1)).program.constants
    with pytest.raises(ArtefactError, match=r"its weights cannot be made \(.*\); prepare it again"):
        restored(tmp_path / "whole", other)
    with pytest.raises(ArtefactError, match="prepare it again"):
        restored(tmp_path / "whole", {})


def test_what_a_stage_computes_is_computed_again(tmp_path: Path) -> None:
    """As if the weights of the convolution had been derived: turned around, and their halves added up."""
    compiled, built = saved(normalised(), tmp_path / "whole")
    weights = compiled.program.constants
    (name,) = [name for name, array in weights.items() if array.shape == (8, 4, 3, 3)]
    turned = np.ascontiguousarray(weights[name].transpose(1, 0, 3, 2) / 2)
    text = f"""program "stage" {{
      constant %first: f32[4, 8, 3, 3] sha256:{content_digest(turned)}
      %halves: f32[2, 4, 8, 3, 3] =
        L<t:2, c:4, f:8, s:3, r:3> %first[c, f, s, r]
      %{name}: f32[8, 4, 3, 3] =
        L<f:8, c:4, r:3, s:3> sum<t:2> %halves[t, c, f, s, r]
      output %{name}
    }}"""
    stage = parse_program(text, {"first": turned})
    others = {other: array for other, array in weights.items() if other != name}
    derived = replace(compiled, stages=(("import", replace(stage, constants={"first": turned, **others})),))
    assert leave_out(tmp_path / "whole", derived, built) == 0
    assert "%halves" in (tmp_path / "whole" / RECIPE).read_text()
    again = restored(tmp_path / "whole", {"first": turned, **others})
    assert constant_bytes(built, again) == constant_bytes(built, built.weights)


def test_what_no_stage_computes_is_sent(tmp_path: Path) -> None:
    compiled, built = saved(normalised(), tmp_path / "whole")
    untold = replace(compiled, stages=(("import", Program("nothing", (), (), {}, ())),))
    sizes = {name: compiled.program.constants[name].nbytes for name in places_of(built)}
    assert leave_out(tmp_path / "whole", untold, built) == sum(sizes.values()) > 0
    assert constant_bytes(built, restored(tmp_path / "whole", {})) == constant_bytes(built, built.weights)


def test_a_recipe_for_something_else_is_a_defect(tmp_path: Path) -> None:
    compiled, built = saved(normalised(), tmp_path / "whole")
    built.weights = built.weights ^ np.uint8(1)
    with pytest.raises(RuntimeError, match="is not made again as it was"):
        leave_out(tmp_path / "whole", compiled, built)


@needs_nvcc
@pytest.mark.slow
def test_of_a_derived_program_for_cuda(tmp_path: Path) -> None:
    found = model(
        "a = ConvTranspose <kernel_shape = [4, 4], strides = [2, 2], pads = [1, 1, 1, 1]> (x, w) y = Relu (a)",
        "float[1, 64, 8, 8] x", "float[1, 32, 16, 16] y", w=(64, 32, 4, 4),
    )  # fmt: skip
    compiled, built = saved(found, tmp_path / "whole", "cuda:h200")
    assert compiled.report()["rewrites"], "otherwise this is the test above"
    assert leave_out(tmp_path / "whole", compiled, built) == 0
    assert "L<" in (tmp_path / "whole" / RECIPE).read_text(), "its weights are rearranged"
