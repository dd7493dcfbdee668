"""Derivations on disk: what a search found for a statement, read back by whoever meets an equal one.

An entry is data: the statement, and for each candidate its statements and chain as text, what it matched, its estimate and its
certificate, besides the report of the search. Reading replays every chain and compares the keys of all its expressions, so an
entry that is damaged, or that other rules wrote, counts as absent. The fingerprint of the sources stands in the key: with a rule
added or changed every statement is derived anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from passes.derive.candidate import Candidate, SearchReport
from passes.derive.certify.certificate import Certificate, substituted
from passes.derive.operators.matching import LibraryMatch
from passes.derive.rules import RULES_BY_NAME
from passes.derive.tasks.task import Found, Task
from tensoropt.disk_cache import read_entry, sources_digest, write_entry
from tensoropt.ir.canonical import canonical_kernel_key, canonical_key
from tensoropt.ir.expression import Tensor, scopes, tensors
from tensoropt.ir.parser import parse_program, parse_scope
from tensoropt.ir.printer import format_program, format_scope
from tensoropt.ir.program import Compute, Program
from tensoropt.rewrite.derivation import Derivation

_KIND = "derived"


def source_folders() -> list[Path]:
    """The packages whose source decides what a search finds."""
    import passes.derive
    import tensoropt.ir
    import tensoropt.rewrite

    packages = (passes.derive, tensoropt.ir, tensoropt.rewrite)
    return [Path(str(package.__file__)).resolve().parent for package in packages]


@cache
def _sources() -> str:
    return sources_digest(source_folders())


def fingerprint() -> str:
    """A digest of everything that a derivation depends on: the sources of the search and of the IR, and the table of rules."""
    table = [f"{type(rule).__qualname__} {rule!r}" for rule in RULES_BY_NAME.values()]
    return hashlib.blake2b("\n".join([_sources(), *table]).encode(), digest_size=16).hexdigest()


def key_of(task: Task) -> str:
    """What the outcome depends on.

    The canonical key and, as a search is only reproducible from the same text, the names of iterators.
    """
    expression = task.compute.expression
    parts = {
        "kernel": canonical_kernel_key(expression)[0],
        "text": format_scope(expression),
        "types": [repr(tensor) for tensor in tensors(expression)],
        "constants": sorted(task.constants),
        "limits": asdict(task.limits),
        "excluded": sorted(task.excluded_rules),
        "rules": fingerprint(),
    }
    return json.dumps(parts, sort_keys=True)


def read(task: Task) -> Found | None:
    """What was found before; None where nothing that holds is stored."""
    entry = read_entry(_KIND, key_of(task))
    if entry is None:
        return None
    try:
        content = entry["content"]
        if entry["digest"] != digest(content):
            return None
        candidates = tuple(_candidate(data, task.compute) for data in content["candidates"])
        return Found(candidates, SearchReport.from_json(content["report"]))
    except Exception:  # whatever is wrong with a file of the cache, the statement can be derived anew
        return None


def write(task: Task, found: Found) -> None:
    """Stores what was found, unless a time limit or a failure cut it short."""
    if found.report.truncated == "time" or found.report.failure is not None:
        return
    content = {
        "candidates": [_as_json(candidate) for candidate in found.candidates],
        "report": found.report.as_json(),
    }
    write_entry(_KIND, key_of(task), {"digest": digest(content), "content": content})


def digest(content: Any) -> str:
    """What the content of an entry has to have, against damage."""
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def _as_json(candidate: Candidate) -> dict[str, Any]:
    made = {statement.output for statement in candidate.statements}
    read = dict.fromkeys(tensors(candidate.derivation.start))
    read |= dict.fromkeys(tensor for statement in candidate.statements for tensor in statement.inputs)
    inputs = tuple(tensor for tensor in read if tensor not in made)
    program = Program("derived", inputs, (candidate.statements[-1].output,), {}, candidate.statements)
    return {
        "program": format_program(program),
        "derivation": candidate.derivation.as_json(),
        "matched": [_match_as_json(match) for match in candidate.matched],
        "estimated_seconds": candidate.estimated_seconds,
        "certificate": candidate.certificate.as_json(),
    }


def _candidate(data: Mapping[str, Any], compute: Compute) -> Candidate:
    """The candidate that was stored. Raises where the entry does not prove it for the statement."""
    program = parse_program(data["program"])
    statements = tuple(statement for statement in program.statements if isinstance(statement, Compute))
    named = {tensor.name: tensor for tensor in (*program.inputs, *(made.output for made in statements))}
    derivation = Derivation.from_json(data["derivation"], named)
    states = derivation.states(RULES_BY_NAME)
    if states[0] is not compute.expression or statements[-1].output is not compute.output:
        raise ValueError("the entry is of another statement")
    if canonical_key(substituted(statements)) != canonical_key(states[-1]):
        raise ValueError("the statements are not what was derived")
    return Candidate(
        statements,
        derivation,
        tuple(_match(match, named) for match in data["matched"]),
        data["estimated_seconds"],
        Certificate.from_json(data["certificate"]),
    )


def _match_as_json(match: LibraryMatch) -> dict[str, Any]:
    nested = scopes(match.expression)
    return {
        "operator": match.operator,
        "parameters": [[name, value] for name, value in match.parameters],
        "expression": format_scope(match.expression),
        "relayouts": [nested.index(scope) for scope in match.relayouts],
    }


def _match(data: Mapping[str, Any], named: Mapping[str, Tensor]) -> LibraryMatch:
    expression = parse_scope(data["expression"], named)
    nested = scopes(expression)
    return LibraryMatch(
        data["operator"],
        tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in data["parameters"]),
        expression,
        tuple(nested[place] for place in data["relayouts"]),
    )
