"""Statements and candidates under other tensor names, so that what is found for one statement serves all that are equal.

A statement is derived under names that say nothing of the model it comes from: ``@`` for its output, ``@0``, ``@1``, … for what
it reads, in the order of its kernel key. Iterators keep their names: chains are read by people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from passes.derive.candidate import Candidate, SearchReport
from passes.derive.certify.certificate import substituted
from passes.derive.operators.matching import LibraryMatch
from passes.derive.rules import RULES_BY_NAME
from tensoropt.ir.canonical import canonical_kernel_key, canonical_key
from tensoropt.ir.expression import Scope, Tensor, replace_sources, scopes
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import ReplayError

_NAMELESS = re.compile(r"@\d+")

Sources = Mapping[Tensor | Scope, Tensor | Scope]


def nameless(compute: Compute) -> tuple[Compute, tuple[Tensor, ...]]:
    """The statement under names of its own, and the tensors that it reads in the order of these names."""
    order = canonical_kernel_key(compute.expression)[1]
    mapping: dict[Tensor | Scope, Tensor | Scope] = {
        tensor: Tensor(f"@{place}", tensor.type) for place, tensor in enumerate(order)
    }
    output = Tensor("@", compute.output.type)
    return Compute(output, replace_sources(compute.expression, mapping)), order


def named(candidate: Candidate, compute: Compute, order: tuple[Tensor, ...]) -> Candidate:
    """A candidate of ``nameless(compute)`` as one of the statement itself.

    ReplayError if its chain does not replay under these names, or gives something else.
    """
    tensors = {f"@{place}": tensor for place, tensor in enumerate(order)}
    mapping: dict[Tensor | Scope, Tensor | Scope] = {
        Tensor(name, tensor.type): tensor for name, tensor in tensors.items()
    }
    for statement in candidate.statements[:-1]:
        mapping[statement.output] = Tensor(
            compute.output.name + _spelled(statement.output.name[1:], tensors), statement.output.type
        )
    mapping[candidate.statements[-1].output] = compute.output
    statements = []
    for statement in candidate.statements:
        output = mapping[statement.output]
        assert isinstance(output, Tensor)
        statements.append(Compute(output, replace_sources(statement.expression, mapping), compute.origin))
    start = replace_sources(candidate.derivation.start, mapping)
    derivation = candidate.derivation.replayed_on(start, RULES_BY_NAME)
    if canonical_key(substituted(tuple(statements))) != derivation.steps[-1].after:
        raise ReplayError("the chain gives something else under these names")
    shapes = [
        (tensors[name].name if name in tensors else name, shape) for name, shape in candidate.certificate.shrunk_shapes
    ]
    return Candidate(
        tuple(statements),
        derivation,
        tuple(_named_match(match, mapping) for match in candidate.matched),
        candidate.estimated_seconds,
        replace(candidate.certificate, shrunk_shapes=tuple(shapes)),
    )


def named_report(report: SearchReport, order: tuple[Tensor, ...]) -> SearchReport:
    """The report of a nameless statement's search as one of the statement itself."""
    names = {f"@{place}": tensor.name for place, tensor in enumerate(order)}

    def spelled(text: str) -> str:
        return _NAMELESS.sub(lambda found: names[found.group()], text)

    return replace(
        report,
        rejected=[spelled(reason) for reason in report.rejected],
        nearest=spelled(report.nearest),
        passed_over=[
            replace(draft, pattern=spelled(draft.pattern), why=spelled(draft.why)) for draft in report.passed_over
        ],
    )


def _spelled(name: str, tensors: Mapping[str, Tensor]) -> str:
    """A name made of others (``relaid0_@1``) with the last parts of the tensors' own names."""
    return _NAMELESS.sub(lambda found: tensors[found.group()].name.rpartition("/")[2], name)


def _named_match(match: LibraryMatch, mapping: Sources) -> LibraryMatch:
    expression = replace_sources(match.expression, mapping)
    kept = {canonical_key(replace_sources(scope, mapping)) for scope in match.relayouts}
    relayouts = tuple(scope for scope in scopes(expression) if canonical_key(scope) in kept)
    return LibraryMatch(match.operator, match.parameters, expression, relayouts)
