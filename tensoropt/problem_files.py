"""Problems as files: the node-link JSON of published graphs, and a form of our own that holds everything a problem can have.

A node-link graph has ``nodes`` and ``links``. A node is a step with one value: ``id`` or ``name``, ``out_cost``, ``cost_ram`` or
``bytes``, ``duration`` or ``cost_cpu``; and, where the file says so, ``output`` (kept to the end), ``workspace`` and
``recomputable``. A link goes from ``source`` to ``target``, or from ``0`` to ``1``. The order of the input is ``graph.order``,
else that of the ids where all are whole numbers, else that of the nodes in the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from tensoropt.errors import ModelError
from tensoropt.paging import paged
from tensoropt.plan_types import Problem, Step, Value, in_input_order

FORMAT = "tensoropt-problem"
VERSION = 1

_SIZES = ("out_cost", "cost_ram", "bytes")
_DURATIONS = ("duration", "cost_cpu")
_FINEST = 10**6
"""Durations with decimals are counted in millionths."""


def read_problem(path: str | os.PathLike[str], rate: Fraction | None = None) -> Problem:
    """The problem of a JSON file. ModelError, which names file and node, for one that is none.

    With a ``rate``, in bytes for each unit of the file's durations, it has paging.
    """
    file = Path(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # of encoding and syntax, and numbers of thousands of digits
        raise ModelError(f"{file}: not a JSON file ({error})") from error
    if isinstance(document, dict) and document.get("format") == FORMAT:
        own = _own(file, document)
        return own if rate is None else paged(own, rate)
    if isinstance(document, dict) and isinstance(document.get("nodes"), list):
        if rate is None:
            return _node_link(file, document)
        # in the finest unit, in which transfers are hardly rounded
        return paged(_node_link(file, document, finest=True), rate / _FINEST)
    raise ModelError(f"{file}: neither a node-link graph (nodes and links) nor a file of the format {FORMAT!r}")


def as_document(problem: Problem) -> dict[str, Any]:
    """A problem as JSON; what `read_problem` reads back as the same problem."""
    names = [value.name for value in problem.values]
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": problem.name,
        "alignment": problem.alignment,
        "aliases": dict(problem.aliases),
        "values": [{"name": value.name, "bytes": value.bytes, "kept": value.kept} for value in problem.values],
        "steps": [
            {
                "name": step.name,
                "duration": step.duration,
                "reads": [names[value] for value in step.reads],
                "writes": [names[value] for value in step.writes],
                "workspace": step.workspace,
                "recomputable": step.recomputable,
                "in_place": [[names[result], names[source]] for result, source in step.in_place],
                **({"transfer": problem.transfers[number]} if problem.transfers else {}),
            }
            for number, step in enumerate(problem.steps)
        ],
    }


def _own(file: Path, document: Mapping[str, Any]) -> Problem:
    if document.get("version") != VERSION:
        raise ModelError(f"{file}: version {document.get('version')!r} of the format; this program reads {VERSION}")
    try:
        values = tuple(
            Value(
                str(entry["name"]),
                _whole(file, str(entry["name"]), "bytes", entry["bytes"]),
                bool(entry.get("kept", False)),
            )
            for entry in document["values"]
        )
        number = {value.name: index for index, value in enumerate(values)}
        if len(number) < len(values):
            raise ModelError(f"{file}: two values have one name")
        steps = tuple(
            Step(
                str(entry["name"]),
                _whole(file, str(entry["name"]), "duration", entry["duration"]),
                tuple(number[name] for name in entry["reads"]),
                tuple(number[name] for name in entry["writes"]),
                _whole(file, str(entry["name"]), "workspace", entry.get("workspace", 0)),
                bool(entry.get("recomputable", True)),
                tuple((number[result], number[source]) for result, source in entry.get("in_place", ())),
            )
            for entry in document["steps"]
        )
        transfers = tuple(
            _whole(file, str(entry["name"]), "transfer", entry["transfer"])
            for entry in document["steps"]
            if "transfer" in entry
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file}: a value or step lacks {error}, or names a value that there is not") from error
    if transfers and len(transfers) < len(steps):
        raise ModelError(f"{file}: some steps have a transfer time and others have none")
    alignment, aliases = document.get("alignment", 1), document.get("aliases", {})
    if not isinstance(aliases, dict):
        raise ModelError(f"{file}: the aliases are not an object of names")
    if isinstance(alignment, bool) or not isinstance(alignment, int):
        raise ModelError(f"{file}: the alignment is {alignment!r}, and must be a whole number")
    made = in_input_order(str(document.get("name", file.stem)), values, steps, alignment, transfers)
    return replace(made, aliases=dict(aliases))


def _node_link(file: Path, document: Mapping[str, Any], finest: bool = False) -> Problem:
    nodes: dict[Any, Mapping[str, Any]] = {}
    for entry in document["nodes"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("id", entry.get("name")), int | str):
            raise ModelError(f"{file}: a node has neither an id nor a name")
        identity = entry.get("id", entry.get("name"))
        if identity in nodes:
            raise ModelError(f"{file}: two nodes have the id {identity!r}")
        nodes[identity] = entry
    order = _order(file, document, nodes)
    number = {identity: index for index, identity in enumerate(order)}
    reads: list[list[int]] = [[] for _ in order]
    links = document.get("links", document.get("edges", []))
    for link in links if isinstance(links, list) else [links]:
        keys = ("source", "target") if isinstance(link, dict) and "source" in link else ("0", "1")
        ends = [link[key] for key in keys if key in link] if isinstance(link, dict) else []
        if len(ends) != 2 or any(not isinstance(end, int | str) or end not in number for end in ends):
            raise ModelError(f"{file}: the link {link} names a node that there is not")
        reads[number[ends[1]]].append(number[ends[0]])
    durations = _durations(file, [nodes[identity] for identity in order], order, finest)
    values, steps = [], []
    for index, identity in enumerate(order):
        node = nodes[identity]
        name = str(node.get("name", identity))
        size = next((node[key] for key in _SIZES if key in node), None)
        if size is None:
            raise ModelError(f"{file}: node {identity!r} has no size; give it one of {', '.join(_SIZES)}")
        values.append(Value(name, _whole(file, identity, "size", size), bool(node.get("output", False))))
        workspace = _whole(file, identity, "workspace", node.get("workspace", 0))
        recomputable = bool(node.get("recomputable", True))
        steps.append(
            Step(str(identity), durations[index], tuple(dict.fromkeys(reads[index])), (index,), workspace, recomputable)
        )
    graph = document.get("graph")
    title = graph.get("name", file.stem) if isinstance(graph, dict) else file.stem
    return in_input_order(str(title), tuple(values), tuple(steps))


def _order(file: Path, document: Mapping[str, Any], nodes: Mapping[Any, Any]) -> list[Any]:
    graph = document.get("graph")
    given = graph.get("order") if isinstance(graph, dict) else None
    if given is None:
        return sorted(nodes) if all(isinstance(identity, int) for identity in nodes) else list(nodes)
    named = isinstance(given, list) and all(isinstance(identity, int | str) for identity in given)
    if not named or len(given) != len(nodes) or set(given) != set(nodes):
        raise ModelError(f"{file}: graph.order does not name every node once")
    return list(given)


def _durations(file: Path, nodes: Sequence[Mapping[str, Any]], order: Sequence[Any], finest: bool = False) -> list[int]:
    """Whole numbers: those of the file where all are whole and nothing finer is asked for, else millionths."""
    found: list[Fraction] = []
    for identity, node in zip(order, nodes, strict=True):
        duration = next((node[key] for key in _DURATIONS if key in node), None)
        if (
            isinstance(duration, bool)
            or not isinstance(duration, int | float)
            or duration != duration
            or duration
            in (
                float("inf"),
                float("-inf"),
            )
        ):
            raise ModelError(f"{file}: node {identity!r} has no duration; give it one of {', '.join(_DURATIONS)}")
        if duration < 0:
            raise ModelError(f"{file}: node {identity!r} has a negative duration")
        found.append(Fraction(duration))
    if not finest and all(duration.denominator == 1 for duration in found):
        return [int(duration) for duration in found]
    return [round(duration * _FINEST) for duration in found]


def _whole(file: Path, identity: Any, what: str, number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number or number < 0 or number % 1:
        raise ModelError(
            f"{file}: the {what} of node {identity!r} is {number!r}, and must be a whole number of at least 0"
        )
    return int(number)
