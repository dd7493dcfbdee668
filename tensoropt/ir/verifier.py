"""Checks that a program is well formed, as every pass has to leave it.

Scopes check themselves when they are built (types of operands, ranks of accesses, bound iterators); here is what only the whole
program shows. Each check is a function that yields problems and has the name that messages give it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tensoropt.errors import TensoroptError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Program, type_of


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: the check that found it, and a sentence that names the tensor."""

    check: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} ({self.check})"


class VerificationError(TensoroptError):
    """A program that is not well formed: an error of the pass that made it, not of the user."""

    def __init__(self, program: Program, problems: list[Problem]) -> None:
        shown = "; ".join(str(problem) for problem in problems[:3])
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        super().__init__(f"the program {program.name} is not well formed: {shown}{more}")
        self.problems = problems


def verify(program: Program) -> None:
    """Raises VerificationError if anything is wrong with the program."""
    found = problems(program)
    if found:
        raise VerificationError(program, found)


def problems(program: Program) -> list[Problem]:
    """Everything that is wrong with the program, check by check."""
    return [Problem(name, message) for name, check in CHECKS.items() for message in check(program)]


def _constants(program: Program) -> dict[str, Tensor]:
    """The constants whose element type programs know."""
    known: dict[str, Tensor] = {}
    for name, array in program.constants.items():
        try:
            known[name] = Tensor(name, type_of(array))
        except KeyError:
            continue
    return known


def _constants_have_types(program: Program) -> Iterator[str]:
    for name in program.constants.keys() - _constants(program).keys():
        yield f"the constant {name} has the element type {program.constants[name].dtype}, which programs do not have"


def _names_are_given(program: Program) -> Iterator[str]:
    tensors = [*program.inputs, *(output for statement in program.statements for output in statement.outputs)]
    if any(not tensor.name for tensor in tensors) or "" in program.constants:
        yield "a tensor has an empty name"


def _defined_once(program: Program) -> Iterator[str]:
    seen: set[str] = set()
    names = [tensor.name for tensor in program.inputs]
    names += program.constants
    names += [output.name for statement in program.statements for output in statement.outputs]
    for name in names:
        if name in seen:
            yield f"{name} is defined more than once"
        seen.add(name)


def _defined_before_use(program: Program) -> Iterator[str]:
    defined = {tensor.name for tensor in program.inputs} | program.constants.keys()
    for statement in program.statements:
        target = ", ".join(output.name for output in statement.outputs)
        for tensor in statement.inputs:
            if tensor.name not in defined:
                yield f"{target} reads {tensor.name}, which is not defined before"
        defined |= {output.name for output in statement.outputs}
    for tensor in program.outputs:
        if tensor.name not in defined:
            yield f"the output {tensor.name} is not defined"


def _types_agree(program: Program) -> Iterator[str]:
    """Every use of a name has the type of its definition, which for a constant is its array's."""
    types = {tensor.name: tensor.type for tensor in (*program.inputs, *_constants(program).values())}
    for statement in program.statements:
        types |= {output.name: output.type for output in statement.outputs}
    uses = [(f"the statement of {s.outputs[0].name}", tensor) for s in program.statements for tensor in s.inputs]
    uses += [("the list of outputs", tensor) for tensor in program.outputs]
    for place, tensor in uses:
        if tensor.name in types and tensor.type != types[tensor.name]:
            yield f"{tensor.name} is {types[tensor.name]} but {place} reads it as {tensor.type}"


CHECKS: dict[str, Callable[[Program], Iterator[str]]] = {
    "names are given": _names_are_given,
    "constants have types": _constants_have_types,
    "defined once": _defined_once,
    "defined before use": _defined_before_use,
    "types agree": _types_agree,
}
"""The checks by the name that messages give them."""
