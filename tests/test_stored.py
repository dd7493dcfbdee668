"""The program of a folder: constants from the exported model, or computed from these as an earlier stage did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tensoropt.errors import ArtefactError
from tensoropt.export import export_onnx, save_onnx
from tensoropt.ir.interpreter import run_program
from tensoropt.ir.printer import format_program
from tensoropt.ir.program import Program
from tensoropt.stored import stored_program
from tests.strategies.networks import pointwise, random_array, tensor

X, W, V, U, Y = (tensor(name, 4, 5) for name in "xwvuy")
SMALL = tensor("small", 5)
EARLIER = Program(
    "p",
    (X,),
    (Y,),
    {"w": random_array(W), "small": random_array(SMALL)},
    (pointwise(V, "add", W, W), pointwise(U, "mul", V, SMALL), pointwise(Y, "mul", X, U)),
)
VALUES = run_program(EARLIER, {"x": random_array(X)})
FOLDED = Program("p", (X,), (Y,), {"u": VALUES["u"], "small": VALUES["small"]}, (pointwise(Y, "mul", X, U),))


def folder(path: Path, exported: Program) -> Path:
    """A folder whose program is the folded one, and whose exported model is another."""
    (path / "stages").mkdir()
    (path / "stages" / "00-import.txt").write_text(format_program(EARLIER))
    (path / "program.txt").write_text(format_program(FOLDED))
    save_onnx(export_onnx(exported), path / "optimized.onnx")
    return path


@pytest.mark.parametrize("exported", [FOLDED, EARLIER], ids=["the same", "before folding"])
def test_constants_are_found(exported: Program, tmp_path: Path) -> None:
    program = stored_program(folder(tmp_path, exported))
    assert format_program(program) == format_program(FOLDED)
    np.testing.assert_array_equal(np.asarray(program.constants["u"]), VALUES["u"])
    assert program.statements == FOLDED.statements


def test_what_nothing_gives_is_named(tmp_path: Path) -> None:
    made = folder(tmp_path, EARLIER)
    (made / "stages" / "00-import.txt").unlink()
    with pytest.raises(ArtefactError, match="holds the constant u"):
        stored_program(made)


def test_what_is_computed_from_other_weights_is_refused(tmp_path: Path) -> None:
    made = folder(tmp_path, EARLIER)
    model = onnx.load(made / "optimized.onnx")
    weights = {entry.name: entry for entry in model.graph.initializer}
    weights["w"].raw_data = bytes(len(weights["w"].raw_data))
    onnx.save(model, made / "optimized.onnx")
    with pytest.raises(ArtefactError, match="another content"):
        stored_program(made)
