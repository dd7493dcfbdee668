"""Bad input gives its exit status and one clear sentence, without a traceback, a folder, or a gibibyte."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
GIB = 1 << 20
"""In the KiB that the operating system counts in."""


def run(*arguments: str | Path, folder: Path) -> tuple[int, str, str, int]:
    """Exit status, standard output, standard error and peak resident KiB of the command line."""
    program = (
        "import resource, sys; from tensoropt.cli import main; status = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=open('memory', 'w')); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TENSOROPT_CACHE_DIR": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr, int((folder / "memory").read_text())


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    shape: list[int | str],
    initializers: list[onnx.TensorProto] | None = None,
    opset: int = 17,
    domains: tuple[str, ...] = (),
    output_shape: list[int | str] | None = None,
) -> None:
    """A model from ``x`` to ``y``."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
        initializers or [],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    path.write_bytes(helper.make_model(graph, opset_imports=imports, ir_version=9).SerializeToString())


def relu(path: Path) -> None:
    save(path, [helper.make_node("Relu", ["x"], ["y"], name="act")], [2, 3])


def external(path: Path, location: str) -> None:
    """A model whose weight lies in another file."""
    weight = numpy_helper.from_array(np.ones(3, np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    save(path, [helper.make_node("Add", ["x", "w"], ["y"], name="plus")], [2, 3], [weight])


def missing(path: Path) -> None:
    """Nothing is there."""


def truncated(path: Path) -> None:
    relu(path)
    path.write_bytes(path.read_bytes()[:-20])


def text(path: Path) -> None:
    path.write_text("this is not a model\n" * 20)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def new_opset(path: Path) -> None:
    save(path, [helper.make_node("Relu", ["x"], ["y"], name="act")], [2, 3], opset=999)


def unknown_operator(path: Path) -> None:
    save(path, [helper.make_node("Frobnicate", ["x"], ["y"], name="strange")], [2, 3])


def unknown_domain(path: Path) -> None:
    node = helper.make_node("Foo", ["x"], ["y"], name="strange", domain="com.example")
    save(path, [node], [2, 3], domains=("com.example",))


def cycle(path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["y"], name="third"),
    ]
    save(path, nodes, [2, 3])


def no_data(path: Path) -> None:
    external(path, "weights.bin")


def data_above(path: Path) -> None:
    (path.parent.parent / "secret.bin").write_bytes(bytes(12))
    external(path, "../secret.bin")


def data_absolute(path: Path) -> None:
    external(path, "/etc/hostname")


def data_linked(path: Path) -> None:
    (path.parent.parent / "secret.bin").write_bytes(bytes(12))
    (path.parent / "link.bin").symlink_to(path.parent.parent / "secret.bin")
    external(path, "link.bin")


def dynamic(path: Path) -> None:
    save(path, [helper.make_node("Relu", ["x"], ["y"], name="act")], ["batch", 3])


def data_dependent(path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"], name="where_not_zero"),
        helper.make_node("Cast", ["i"], ["y"], name="cast", to=TensorProto.FLOAT),
    ]
    save(path, nodes, [2, 3])


CASES: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (missing, ("m.onnx",)),
    (truncated, ("m.onnx",)),
    (text, ("m.onnx",)),
    (empty, ("m.onnx",)),
    (new_opset, ("m.onnx", "999")),
    (unknown_operator, ("m.onnx", "strange", "Frobnicate")),
    (unknown_domain, ("m.onnx", "strange", "com.example")),
    (cycle, ("m.onnx",)),
    (no_data, ("weights.bin",)),
    (data_above, ("secret.bin",)),
    (data_absolute, ("/etc/hostname",)),
    (data_linked, ("link.bin",)),
    (dynamic, ("x", "batch", "--shape")),
    (data_dependent, ("where_not_zero", "NonZero")),
]


@pytest.mark.parametrize(("build", "words"), CASES, ids=[build.__name__ for build, _ in CASES])
def test_a_bad_model_is_refused(build: Callable[[Path], None], words: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    build(folder / "m.onnx")
    status, output, errors, memory = run("optimize", "m.onnx", "-o", "out", folder=folder)
    assert status == 2, errors
    assert output == ""
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1, errors
    assert all(word in errors for word in words), errors
    assert not (folder / "out").exists()
    assert memory < GIB


@pytest.mark.parametrize(
    "arguments",
    [
        ("optimize",),
        ("optimize", "m.onnx", "--tune", "loudly"),
        ("optimize", "m.onnx", "--target", "abacus"),
        ("optimize", "m.onnx", "--shape", "x=a,b"),
        ("optimize", "m.onnx", "--shape", "nothing=1,2"),
        ("optimize", "m.onnx", "--exclude-rule", "no_such_rule"),
        ("optimize", "m.onnx", "-o", "occupied"),
        ("run", "occupied"),
        ("inspect", "occupied"),
        ("inspect", "m.onnx", "--stage", "nowhere"),
        ("inspect", "m.onnx", "--node", "nobody"),
        ("dance",),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    relu(tmp_path / "m.onnx")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.txt").write_text("years of work")
    status, _, errors, _ = run(*arguments, folder=tmp_path)
    assert status == 2, errors
    assert errors
    assert "Traceback" not in errors
    assert (tmp_path / "occupied" / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "m").exists()
