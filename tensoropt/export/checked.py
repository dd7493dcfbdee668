"""A program as an ONNX model that was run in ONNX Runtime and agrees with the model that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tensoropt.check import check_outputs
from tensoropt.errors import CheckError
from tensoropt.export.program import export_onnx
from tensoropt.export.sessions import session_of
from tensoropt.frontend.reference import reference_session
from tensoropt.ir.program import Array, Program
from tensoropt.timing import alternate

if TYPE_CHECKING:
    from tensoropt.frontend import LoadedModel


def export_checked(
    program: Program, imported: LoadedModel, feeds: Mapping[str, Array], threads: int, check: bool
) -> tuple[Any, dict[str, float]]:
    """The exported model, and its latency and the original's in milliseconds; no latencies without the check.

    CheckError where ONNX Runtime gives other outputs for it.
    """
    exported = export_onnx(program)
    if not check:
        return exported, {}
    original, rewritten = reference_session(imported, threads), session_of(exported, threads)
    names = list(dict.fromkeys(tensor.name for tensor in program.outputs))
    expected = dict(zip(names, original.run(names, dict(feeds)), strict=True))
    actual = dict(zip(names, rewritten.run(names, dict(feeds)), strict=True))
    result = check_outputs(program.outputs, actual, expected)
    if not result.ok:
        worst = result.worst
        assert worst is not None
        raise CheckError(
            f"optimized.onnx: the output {worst.name!r} differs from the original's by {worst.max_abs_error:.3g} where "
            f"{worst.allowed:.3g} is allowed; nothing was written"
        )
    runs = {
        "original": lambda: original.run(names, dict(feeds)),
        "optimized": lambda: rewritten.run(names, dict(feeds)),
    }
    return exported, alternate(runs)
