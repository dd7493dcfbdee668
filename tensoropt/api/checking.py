"""A compiled program against ONNX Runtime, its export, and how long both take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tensoropt.check import CheckResult, check_outputs, check_statements, last_bits_changed
from tensoropt.errors import CheckError
from tensoropt.ir.program import Array, Program
from tensoropt.timing import alternate

if TYPE_CHECKING:
    from codegen.built import Built
    from tensoropt.frontend import LoadedModel as ImportedModel


def check_model(
    imported: ImportedModel,
    program: Program,
    built: Built,
    feeds: Mapping[str, Array],
    seed: int,
    originals: Mapping[str, str],
    operand_roundoff: float = 0.0,
) -> CheckResult:
    """The compiled program against ONNX Runtime on the given inputs, end to end and statement by statement.

    ``originals``: what a value that is computed again is called in the model, by its name in the program. ``operand_roundoff``: by
    which share operands of sums of products of f32 may have been rounded.
    """
    from tensoropt.frontend.reference import reference_values

    names = [tensor.name for statement in program.statements for tensor in statement.outputs]
    names += [tensor.name for tensor in program.outputs]
    known = reference_values(imported, feeds, list(dict.fromkeys(originals.get(name, name) for name in names)))
    known = {name: known[original] for name in names if (original := originals.get(name, name)) in known}
    references = {**known, **feeds}
    disturbed = _disturbed(imported, program, feeds, seed)
    ends = check_outputs(program.outputs, built.model().run(feeds), references, disturbed, operand_roundoff)
    statements = check_statements(program, built.execute, references, seed, operand_roundoff=operand_roundoff)
    return CheckResult(ends.outputs, statements, (*imported.warnings, *ends.warnings))


def _disturbed(
    imported: ImportedModel, program: Program, feeds: Mapping[str, Array], seed: int
) -> dict[str, Array] | None:
    """The outputs of a training step's reference on slightly other inputs; None for other models."""
    from tensoropt.frontend.reference import reference_values

    if not imported.values:
        return None
    names = list(dict.fromkeys(tensor.name for tensor in program.outputs))
    return reference_values(imported, last_bits_changed(feeds, seed), names)


def require_agreement(result: CheckResult, imported: ImportedModel) -> None:
    """CheckError, naming the first statement that differs, unless everything agrees."""
    worst = result.worst
    if worst is not None:
        nodes = f" (from {', '.join(worst.origin[:4])})" if worst.origin else ""
        raise CheckError(
            f"{imported.path or imported.program.name}: the compiled value {worst.name!r}{nodes} differs from ONNX Runtime's by "
            f"{worst.max_abs_error:.3g} where rounding explains {worst.allowed:.3g}; nothing was written"
        )


def export(
    program: Program, imported: ImportedModel, feeds: Mapping[str, Array], threads: int, seed: int, check: bool
) -> tuple[Any, dict[str, float]]:
    """The program as an ONNX model that ONNX Runtime runs and agrees with, and both models' latencies there."""
    from tensoropt.export import export_onnx
    from tensoropt.export.sessions import session_of
    from tensoropt.frontend.reference import reference_session

    exported = export_onnx(program)
    if not check:
        return exported, {}
    original, rewritten = reference_session(imported, threads), session_of(exported, threads)
    names = list(dict.fromkeys(tensor.name for tensor in program.outputs))
    expected = dict(zip(names, original.run(names, dict(feeds)), strict=True))
    actual = dict(zip(names, rewritten.run(names, dict(feeds)), strict=True))
    result = check_outputs(program.outputs, actual, expected, _disturbed(imported, program, feeds, seed))
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
    return exported, _medians(runs)


def _medians(runs: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of a call of each, timed in turns within about two seconds."""
    series = alternate(runs, 5, block_seconds=0.4 / len(runs), budget=2.0)
    return {name: one.median for name, one in series.items()}


def latencies(before: Built, after: Built, feeds: Mapping[str, Array], rewritten: bool) -> dict[str, float | None]:
    first, second = before.model(), after.model()
    if not rewritten:
        only = _medians({"after": lambda: second.run(feeds)})["after"]
        return {"before": only, "after": only}
    return dict(_medians({"before": lambda: first.run(feeds), "after": lambda: second.run(feeds)}))
