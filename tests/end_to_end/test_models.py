"""The example models through the whole way: every statement and every output agrees with ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest

import tensoropt
from examples.models import BUILDERS
from tensoropt.check import random_feeds

QUICK = ("infogan", "fsrcnn", "light_squeezenet")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BUILDERS]
)
def test_a_model_compiles_agrees_and_runs_from_its_folder(name: str, tmp_path: Path) -> None:
    compiled = tensoropt.optimize(BUILDERS[name](1), tune="off", threads=2)
    assert compiled.check.ok is True
    assert compiled.check.outputs
    assert compiled.check.statements
    loaded = tensoropt.load(compiled.save(tmp_path / name))
    feeds = random_feeds(loaded.inputs, 1)
    expected = compiled.run(feeds)
    for output, result in loaded.run(feeds).items():
        np.testing.assert_array_equal(result, expected[output])


@pytest.mark.parametrize("name", ["infogan", "dcgan"])
def test_every_transposed_convolution_from_the_second_on_has_candidates(name: str) -> None:
    compiled = tensoropt.optimize(BUILDERS[name](1), tune="off", threads=2, check=False)
    found = {entry["node"] for entry in compiled.derivations}
    layers = [
        statement.origin[0]
        for statement in compiled.stages[0][1].statements
        if statement.origin[0].startswith("ConvTranspose")
    ]
    later = set(dict.fromkeys(layers)) - {layers[0]}
    assert len(later) == 4
    assert later <= found
    for entry in compiled.derivations:
        assert entry["why"]
        assert entry["kept"] <= (
            entry["milliseconds"] is None or entry["milliseconds"] < entry["original_milliseconds"]
        )
        assert entry["certificate"] or entry["milliseconds"] is None
