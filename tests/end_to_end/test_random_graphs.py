"""Random graphs, rewritten at random, give what ``onnx.reference`` does; a slice of ``random_rewriting``.

``TENSOROPT_GRAPHS=2000`` runs as many.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.end_to_end.random_rewriting import Tally, run_graph

GRAPHS = int(os.environ.get("TENSOROPT_GRAPHS", "60"))
_COMPILED_EVERY = 30


def test_random_graphs_are_rewritten_without_changing_their_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path))
    tally = Tally()
    for number in range(GRAPHS):
        run_graph(11, number, tally, number % _COMPILED_EVERY == 0)
    assert not tally.problems, "\n".join(tally.problems)
    assert tally.rewritten > GRAPHS // 4
    assert tally.compiled == -(-GRAPHS // _COMPILED_EVERY)
    assert tally.reference_failed + tally.reference_contradicted < GRAPHS // 2
