"""Models that cannot be used: each gives one clear sentence, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tensoropt.errors import ModelError
from tensoropt.frontend import load_program
from tensoropt.ir.program import Compute
from tests.strategies.rejected_models import chain, message_of


def with_input(shape: list[int | str | None]) -> onnx.ModelProto:
    model = chain(helper.make_node("Relu", ["x"], ["y"]))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    return model


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        assert "absent.onnx does not exist" in message_of(tmp_path / "absent.onnx")

    def test_folder(self, tmp_path: Path) -> None:
        assert "is a folder" in message_of(tmp_path)

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "empty.onnx").write_bytes(b"")
        assert "empty.onnx is empty" in message_of(tmp_path / "empty.onnx")

    @pytest.mark.parametrize("text", ["hello\n", "import torch\nprint(1)\n" * 50, '{"graph": {}}', "\x08\x09"])
    def test_text(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "text.onnx").write_text(text)
        assert "text.onnx" in message_of(tmp_path / "text.onnx")

    def test_every_truncation(self) -> None:
        data = chain(helper.make_node("Add", ["x", "w"], ["y"]), w=np.ones((2, 3), np.float32)).SerializeToString()
        for length in range(len(data) - 10):
            message_of(data[:length])

    @pytest.mark.parametrize("kind", ["truncated", "text"])
    def test_large_files_are_not_read(self, tmp_path: Path, kind: str) -> None:
        """A gigabyte and a half that is no model, in a process that may take a few hundred megabytes."""
        path = tmp_path / "large.onnx"
        with path.open("wb") as stream:
            stream.write(b"\x08\x09\x3a\xff\xff\xff\xff\x06" if kind == "truncated" else b"hello world\n")
            stream.truncate(3 << 29)
        script = (
            "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29)); "
            "from tensoropt.errors import ModelError; from tensoropt.frontend import load_program\n"
            "try: load_program(sys.argv[1])\nexcept ModelError as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=60
        )
        assert "truncated" in done.stdout

    def test_pipe_and_device(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.onnx")
        assert "is not a regular file" in message_of(tmp_path / "pipe.onnx")
        assert "is not a regular file" in message_of("/dev/zero")

    def test_wrong_type(self) -> None:
        assert "not builtins.int" in message_of(3)


class TestVersions:
    @pytest.mark.parametrize("opset", [0, 99])
    def test_opset(self, opset: int) -> None:
        assert f"opset {opset}" in message_of(chain(helper.make_node("Relu", ["x"], ["y"]), opset=opset))

    def test_no_opset(self) -> None:
        model = chain(helper.make_node("Relu", ["x"], ["y"]))
        model.ClearField("opset_import")
        assert "does not declare the opset" in message_of(model)

    def test_ir_version(self) -> None:
        model = chain(helper.make_node("Relu", ["x"], ["y"]))
        model.ir_version = 1000
        assert "IR version 1000" in message_of(model)

    def test_operator_newer_than_opset(self) -> None:
        text = message_of(chain(helper.make_node("Gelu", ["x"], ["y"], name="act"), opset=18))
        assert "'act'" in text
        assert "Gelu (opset 18)" in text

    def test_operator_that_the_opset_dropped(self) -> None:
        assert "no longer" in message_of(chain(helper.make_node("Upsample", ["x", "x"], ["y"]), opset=18))


class TestOperators:
    def test_unknown_operator(self) -> None:
        text = message_of(chain(helper.make_node("Frobnicate", ["x"], ["y"], name="magic")))
        assert "'magic'" in text
        assert "Frobnicate" in text

    def test_unknown_domain(self) -> None:
        model = chain(helper.make_node("Foo", ["x"], ["y"], name="magic", domain="com.example"))
        assert "no opset for 'com.example'" in message_of(model)
        model.opset_import.add(domain="com.example", version=3)
        text = message_of(model)
        assert "'magic'" in text
        assert "com.example::Foo (opset 3)" in text

    @pytest.mark.parametrize(("operator", "opset"), [("NonZero", 13), ("Unique", 11)])
    def test_shape_depends_on_data(self, operator: str, opset: int) -> None:
        text = message_of(chain(helper.make_node(operator, ["x"], ["y"], name="odd"), opset=opset))
        assert "'odd'" in text
        assert f"{operator}, opset {opset}" in text
        assert "depends on data" in text

    def test_random(self) -> None:
        assert "random numbers" in message_of(chain(helper.make_node("RandomNormalLike", ["x"], ["y"], name="noise")))

    def test_condition_at_run_time(self) -> None:
        branch = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["z"])], "b", [], [helper.make_tensor_value_info("z", 1, [2, 3])]
        )
        model = chain(helper.make_node("If", ["c"], ["y"], name="fork", then_branch=branch, else_branch=branch))
        model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
        assert "'fork' (If)" in message_of(model)

    def test_loop(self) -> None:
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["d"])],
            "b",
            [helper.make_tensor_value_info("i", 7, []), helper.make_tensor_value_info("c", 9, [])],
            [helper.make_tensor_value_info("d", 9, [])],
        )
        assert "subgraph" in message_of(chain(helper.make_node("Loop", ["x", ""], ["y"], name="again", body=body)))

    def test_inputs_do_not_fit(self) -> None:
        model = chain(helper.make_node("MatMul", ["x", "w"], ["y"], name="product"), w=np.ones((4, 5), np.float32))
        text = message_of(model)
        assert "'product' (MatMul)" in text
        assert "Incompatible dimensions" in text

    def test_function_that_calls_itself(self) -> None:
        model = chain(helper.make_node("F", ["x"], ["y"], domain="local"))
        model.opset_import.add(domain="local", version=1)
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
        body = [helper.make_node("F", ["a"], ["b"], domain="local")]
        model.functions.append(helper.make_function("local", "F", ["a"], ["b"], body, imports))
        assert "local::F calls itself" in message_of(model)


class TestStructure:
    def test_cycle(self) -> None:
        text = message_of(
            chain(helper.make_node("Add", ["x", "b"], ["a"], name="one"), helper.make_node("Relu", ["a"], ["b"], name="two"),
                  helper.make_node("Relu", ["b"], ["y"]))
        )  # fmt: skip
        assert "cycle" in text
        assert "'one'" in text or "'two'" in text

    def test_undefined_value(self) -> None:
        text = message_of(chain(helper.make_node("Add", ["x", "nowhere"], ["y"], name="sum")))
        assert "'sum'" in text
        assert "'nowhere'" in text

    def test_undefined_output(self) -> None:
        assert "nothing computes the output 'y'" in message_of(chain(helper.make_node("Relu", ["x"], ["z"])))

    def test_assigned_twice(self) -> None:
        text = message_of(
            chain(helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"], name="second"))
        )
        assert "'second'" in text
        assert "already has a value" in text

    def test_order_does_not_matter(self) -> None:
        loaded = load_program(chain(helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Abs", ["x"], ["a"])))
        assert [statement.outputs[0].name for statement in loaded.program.statements] == ["a", "y"]


class TestShapes:
    def test_dynamic(self) -> None:
        text = message_of(with_input(["batch", 3]))
        assert "'x' has the dynamic dimension 'batch' at axis 0 of [batch, 3]" in text
        assert "--shape x=1,3" in text

    def test_bound(self) -> None:
        loaded = load_program(with_input(["batch", 3]), {"x": (5, 3)})
        assert loaded.program.outputs[0].shape == (5, 3)
        assert [dim.dim_value for dim in loaded.model.graph.input[0].type.tensor_type.shape.dim] == [5, 3]

    def test_no_shape(self) -> None:
        assert "has no shape" in message_of(with_input(None))  # type: ignore[arg-type]

    def test_unknown_name(self) -> None:
        assert "no input 'z'" in message_of(with_input(["batch", 3]), shapes={"z": (1, 3)})

    def test_wrong_rank(self) -> None:
        assert "has 3 extents" in message_of(with_input(["batch", 3]), shapes={"x": (1, 3, 4)})

    def test_contradiction(self) -> None:
        assert "axis 1 the extent 4" in message_of(with_input(["batch", 3]), shapes={"x": (1, 4)})

    def test_one_symbol_for_two_inputs(self) -> None:
        model = with_input(["batch", 3])
        model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 3]))
        model.graph.node[0].CopyFrom(helper.make_node("Add", ["x", "z"], ["y"]))
        loaded = load_program(model, {"x": (4, 3)})
        assert [tensor.shape for tensor in loaded.program.inputs] == [(4, 3), (4, 3)]
        assert "gives axis 0" in message_of(model, shapes={"x": (4, 3), "z": (5, 3)})


class TestValid:
    def test_no_nodes(self) -> None:
        model = chain()
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]))
        program = load_program(model).program
        assert program.statements == ()
        assert program.outputs == program.inputs

    def test_not_a_number(self) -> None:
        weight = np.full((2, 3), np.nan, np.float32)
        weight[0, 0] = 1
        loaded = load_program(chain(helper.make_node("Add", ["x", "w"], ["y"]), w=weight))
        assert "NaN" in loaded.warnings[0]
        assert "'w'" in loaded.warnings[0]

    def test_huge_fill_stays_an_expression(self) -> None:
        """3.6 GB in a model of a hundred bytes, loaded in a process that may not have 1 GiB."""
        model = chain(
            helper.make_node("ConstantOfShape", ["shape"], ["big"]),
            helper.make_node("ReduceSum", ["big"], ["total"], keepdims=0),
            helper.make_node("Add", ["x", "total"], ["y"]),
            shape=np.array([30000, 30000], np.int64),
        )
        script = (
            "import sys; from tensoropt.frontend import load_program; "
            "program = load_program(sys.stdin.buffer.read()).program; "
            "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')); "
            "print(len(program.statements), sum(a.nbytes for a in program.constants.values()), peak)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], input=model.SerializeToString(), capture_output=True, check=True, timeout=60
        )
        statements, bytes_kept, peak_kib = map(int, done.stdout.split())
        assert statements == 2
        assert bytes_kept == 0
        assert peak_kib < 1 << 20

    def test_huge_fill_as_an_output(self) -> None:
        model = chain(helper.make_node("ConstantOfShape", ["shape"], ["y"]), shape=np.array([30000, 30000], np.int64))
        program = load_program(model).program
        assert [type(statement) for statement in program.statements] == [Compute]
        assert not program.constants

    def test_constant_condition(self) -> None:
        def branch(operator: str) -> onnx.GraphProto:
            node = helper.make_node(operator, ["x"], ["z"])
            return helper.make_graph([node], "b", [], [helper.make_tensor_value_info("z", 1, [2, 3])])

        node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Relu"), else_branch=branch("Abs"))
        program = load_program(chain(node, c=np.array(False))).program
        assert "abs" in repr(program.statements[0])


def test_import_is_light() -> None:
    heavy = "('onnx', 'onnxruntime', 'onnx_ir', 'sympy')"
    script = f"import sys, tensoropt.frontend; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def damaged_models() -> list[bytes]:
    """Small models of many kinds to damage."""
    weight = np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1)
    image = [
        chain(helper.make_node("MatMul", ["x", "w"], ["y"], name="m"), w=np.ones((3, 2), np.float32)),
        chain(helper.make_node("Einsum", ["x", "w"], ["y"], equation="ij,jk->ik"), w=np.ones((3, 2), np.float32)),
        chain(helper.make_node("Softmax", ["x"], ["y"], axis=1)),
        chain(helper.make_node("Reshape", ["x", "s"], ["y"]), s=np.array([3, 2], np.int64)),
        chain(helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0, axes=[1]), opset=13),
    ]
    convolution = chain(helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2]), w=weight)
    convolution.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 5]))
    return [model.SerializeToString() for model in [*image, convolution]]


@given(st.data())
@settings(max_examples=500)
def test_damaged_bytes(data: st.DataObject) -> None:
    """Any byte of a model may be anything: the model loads, or gives one sentence."""
    damaged = bytearray(data.draw(st.sampled_from(damaged_models())))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    message = ""
    try:
        load_program(bytes(damaged))
    except ModelError as error:
        message = str(error)
    assert "\n" not in message


def test_an_operator_with_a_line_break_in_its_name_is_one_line() -> None:
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Ein\nsum", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    with pytest.raises(ModelError, match=r"'Ein\\nsum' \(opset 18\), which is unknown"):
        load_program(model)
