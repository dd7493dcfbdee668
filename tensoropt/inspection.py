"""Looking into models, artefacts and program texts; what ``tensoropt inspect`` shows."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tensoropt.errors import ArtefactError, UsageError
from tensoropt.explaining import Trace, explain
from tensoropt.ir.program import Program, Statement
from tensoropt.rewrite.rule import Rule


@dataclass(frozen=True, slots=True)
class Inspection:
    """Text in lines, and the same facts as data."""

    text: tuple[str, ...]
    data: Mapping[str, Any] = field(default_factory=dict)

    def lines(self) -> tuple[str, ...]:
        """For people."""
        return self.text

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return dict(self.data)


def inspect(
    path: str,
    stage: str | None = None,
    diff: tuple[str, str] | None = None,
    node: str | None = None,
    why: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    rules: Mapping[str, Rule] | None = None,
) -> Inspection:
    """The program, a stage of it, a difference of two stages, or the reasons for a rewrite.

    ``rules`` by name are what chains of derivations are replayed with.
    UsageError for a stage or a node that does not exist (the message lists those that do); ArtefactError and ModelError for
    what cannot be read.
    """
    stages, trace = _read(Path(path), shapes or {})
    if why is not None and not Path(path).is_dir():
        raise UsageError(f"{path}: only an artefact folder knows why; optimize the model and inspect the folder")
    if why is not None:
        return _why(path, trace.of(why), stages, why, rules or {})
    if diff is not None:
        before, after = (_stage(path, stages, name).splitlines() for name in diff)
        lines = tuple(difflib.unified_diff(before, after, *diff, lineterm="", n=1))
        return Inspection(lines or ("no difference",), {"diff": list(lines), "stages": list(diff)})
    text = _stage(path, stages, stage) if stage else next(reversed(stages.values()))
    if node is not None:
        lines = tuple(_statements_of(text, path, node))
        return Inspection(lines, {"node": node, "statements": list(lines)})
    header = (f"# stages: {', '.join(stages)}",) if len(stages) > 1 else ()
    return Inspection(
        (*header, *text.splitlines()),
        {"stages": list(stages), "program": text, "derivations": list(trace.derivations)},
    )


def _read(path: Path, shapes: Mapping[str, Sequence[int]]) -> tuple[dict[str, str], Trace]:
    """Program texts by stage in order, and the trace."""
    from tensoropt.ir.printer import format_program

    if path.is_dir():
        if not (path / "manifest.json").is_file():
            raise ArtefactError(f"{path}: this folder is not an artefact, it has no manifest.json")
        try:
            stages = {file.stem.partition("-")[2]: file.read_text() for file in sorted((path / "stages").glob("*.txt"))}
            stages["final"] = (path / "program.txt").read_text()
            trace = json.loads((path / "trace.json").read_text())
        except (OSError, ValueError) as error:
            raise ArtefactError(f"{path}: the artefact is damaged ({error}); optimize the model again") from error
        return stages, Trace.from_json(trace)
    if path.suffix == ".txt" and path.is_file():
        from tensoropt.ir.parser import parse_program

        return {"program": format_program(parse_program(path.read_text()))}, Trace()
    from tensoropt.frontend import load_program

    return {"import": format_program(load_program(path, shapes).program)}, Trace()


def _stage(path: str, stages: Mapping[str, str], name: str) -> str:
    if name not in stages:
        raise UsageError(f"{path} has no stage {name!r}; it has {', '.join(stages)}")
    return stages[name]


def _statements_of(text: str, path: str, node: str) -> list[str]:
    from tensoropt.ir.parser import parse_program
    from tensoropt.ir.printer import format_program

    program = parse_program(text)
    found = [statement for statement in program.statements if _is_of(statement, node)]
    if not found:
        raise UsageError(f"{path}: no statement comes from a node or value called {node!r}")
    part = Program(program.name, (), (), {}, tuple(found))
    return format_program(part).splitlines()[1:-1]


def _is_of(statement: Statement, node: str) -> bool:
    return node in statement.origin or any(tensor.name == node for tensor in statement.outputs)


def _why(path: str, trace: Trace, stages: Mapping[str, str], name: str, rules: Mapping[str, Rule]) -> Inspection:
    if trace == Trace():
        _statements_of(next(iter(stages.values())), path, name)
        reason = f"{name}: no derivation was sought for it, so it runs as the model says"
        return Inspection((reason,), {"node": name, "derivations": [], "regions": [], "joins": [], "reason": reason})
    return Inspection(*explain(name, trace, rules))
