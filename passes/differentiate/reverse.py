"""Reverse mode over a program: from a loss to the derivatives by some of its inputs, as more statements of the same program.

The derivative of an expression is an expression. Statements are taken from the last to the first; each hands the derivative by its
value to the tensors that it reads (``folds`` and ``scalars`` say how much of it, ``contribution`` to which elements), and what a
tensor gets from all its readers is added up in one statement. Pointwise parts are added as expressions, folds are statements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from passes.differentiate.arithmetic import add
from passes.differentiate.contribution import contribution
from passes.differentiate.folds import Ties, seeded
from passes.differentiate.scalars import FROM_RESULT, parts
from tensoropt.errors import ModelError
from tensoropt.ir.expression import Access, Apply, Constant, Scalar, Scope, Tensor, replace_sources, substitute
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.program import Compute, Opaque, Program
from tensoropt.ir.structure import axes_of, copy_of, is_identity
from tensoropt.ir.types import TensorType

_TIES = {"MaxPool": Ties.FIRST, "GlobalMaxPool": Ties.FIRST}
_TIES |= dict.fromkeys(("Softmax", "LogSoftmax", "ReduceLogSumExp", "SoftmaxCrossEntropyLoss"), Ties.NONE)
"""By the model's operator; other extremes are shared among those that attain them."""

_AT_BOUNDS = {"Clip": 1.0, "HardSwish": 1.0, "HardSigmoid": 0.0}
"""The share of an operand that equals the bound that it is clamped to; half of it elsewhere."""

_BY_VALUE = FROM_RESULT | {"div", "pow", "tan"}


@dataclass(frozen=True, slots=True)
class Differentiated:
    """The program with the derivatives as further outputs, and the name of each by that of the tensor."""

    program: Program
    gradients: Mapping[str, str]


def differentiate(
    program: Program, loss: str, wanted: Sequence[str], operators: Mapping[str, str] | None = None
) -> Differentiated:
    """The program with the derivatives of an output of one element by the wanted inputs, as further outputs.

    ``operators`` is the operator of each of the model's nodes, by the name that ``origin`` has. Inputs that the loss does not
    depend on have no derivative. ModelError where the loss is none, or an operator without a derivative is in the way.
    """
    outputs = {tensor.name: tensor for tensor in program.outputs}
    if loss not in outputs:
        raise ModelError(f"{program.name} has no output {loss!r} to be the loss; its outputs are {', '.join(outputs)}")
    target = outputs[loss]
    if target.type.elements != 1 or not target.dtype.is_float:
        raise ModelError(f"{program.name}: the loss {loss!r} is {target.type}, and has to be one number")
    return _Reverse(program, operators or {}).run(target, wanted)


@dataclass(slots=True)
class _Parts:
    """What a tensor got so far: tensors of its shape, and one scalar over iterators of its axes."""

    tensors: dict[Tensor, int] = field(default_factory=dict)
    scalar: Scalar | None = None


class _Reverse:
    def __init__(self, program: Program, operators: Mapping[str, str]) -> None:
        self.program = program
        self.operators = operators
        self.names = {tensor.name for tensor in program.inputs} | set(program.constants)
        self.names |= {tensor.name for statement in program.statements for tensor in statement.outputs}
        self.parts: dict[Tensor, _Parts] = {}
        self.active: set[Tensor] = set()
        self.made: list[Compute] = []
        self.made_for: dict[Tensor, Tensor] = {}
        self.sole: dict[Tensor, Tensor] = {}
        """The names of parts that are all that their tensors get."""

    def run(self, loss: Tensor, wanted: Sequence[str]) -> Differentiated:
        """The statements of the derivatives after those of the program."""
        named = {tensor.name: tensor for tensor in self.program.inputs}
        sources = [named[name] for name in wanted if named[name].dtype.is_float]
        self.active = self._depending(sources)
        if loss not in self.active:
            raise ModelError(f"{self.program.name}: the loss {loss.name!r} does not depend on any parameter")
        self.parts[loss] = _Parts(scalar=Constant(1, loss.dtype))
        for statement in reversed(self.program.statements):
            reached = [tensor for tensor in statement.outputs if tensor in self.parts and tensor in self.active]
            if not reached:
                continue
            if isinstance(statement, Opaque):
                raise ModelError(
                    f"{self.program.name}: node {', '.join(statement.origin)!r} ({statement.operator}) is between the loss "
                    f"{loss.name!r} and a parameter, and has no derivative here; compute it outside of the model"
                )
            self._differentiate(statement)
        gradients = {tensor: self._whole(tensor) for tensor in sources if tensor in self.parts}
        gradients = {tensor: self._own(tensor, found) for tensor, found in gradients.items()}
        made = [self._under_its_name(statement) for statement in self.made]
        named = {tensor.name: self.sole.get(found, found) for tensor, found in gradients.items()}
        program = self.program.with_statements((*self.program.statements, *made))
        return Differentiated(
            replace(program, outputs=(*program.outputs, *named.values())),
            {name: tensor.name for name, tensor in named.items()},
        )

    def _depending(self, sources: Sequence[Tensor]) -> set[Tensor]:
        active = set(sources)
        for statement in self.program.statements:
            if any(tensor in active for tensor in statement.inputs):
                active |= {tensor for tensor in statement.outputs if tensor.dtype.is_float}
        return active

    def _declare(self, wish: str, kind: TensorType) -> Tensor:
        name, attempt = wish, 1
        while name in self.names:
            attempt += 1
            name = f"{wish}{attempt}"
        self.names.add(name)
        return Tensor(name, kind)

    def _differentiate(self, statement: Compute) -> None:
        scope, output = statement.expression, statement.output
        operators = {self.operators.get(name, "") for name in statement.origin}
        ties = next((_TIES[name] for name in operators if name in _TIES), Ties.SHARED)
        tie = next((_AT_BOUNDS[name] for name in operators if name in _AT_BOUNDS), 0.5)
        body, box = scope.body, (*scope.traversal, *scope.reduction)
        found = seeded(statement, self._seed(output, scope.traversal), ties, self._declare)
        if found is None:
            return
        self.made += found.statements
        stored = not scope.reduction and isinstance(body, Apply) and body.operation in _BY_VALUE
        result = Access(output, scope.traversal) if stored else body
        for access, derivative in parts(body, result, found.seed, tie).items():
            if access.source in self.active:
                assert isinstance(access.source, Tensor)
                self._add(access.source, contribution(access, derivative, box), statement.origin)

    def _seed(self, output: Tensor, traversal: tuple[Iterator, ...]) -> Scalar:
        """The derivative by a statement's value, at the points of its traversal."""
        known = self.parts[output]
        if isinstance(known.scalar, Constant) and not known.tensors:
            return known.scalar
        return Access(self._whole(output), traversal)

    def _add(self, tensor: Tensor, part: Scope, origin: tuple[str, ...]) -> None:
        known = self.parts.setdefault(tensor, _Parts())
        body = part.body
        if part.reduction:
            made = self._declare(f"{tensor.name}.grad/part", tensor.type)
            self.made.append(Compute(made, part, origin))
            self.made_for[made] = tensor
            known.tensors[made] = known.tensors.get(made, 0) + 1
        elif isinstance(body, Access) and isinstance(body.source, Tensor) and is_identity(body, part.traversal):
            known.tensors[body.source] = known.tensors.get(body.source, 0) + 1
        else:
            axes = dict(zip(part.traversal, map(Index.of, axes_of(tensor.shape)), strict=True))
            moved = substitute(body, axes)
            known.scalar = moved if known.scalar is None else add(known.scalar, moved)

    def _whole(self, tensor: Tensor) -> Tensor:
        """The sum of all parts as a tensor: the only one itself, otherwise one of a new statement."""
        known = self.parts[tensor]
        if known.scalar is None and list(known.tensors.values()) == [1]:
            (only,) = known.tensors
            if self.made_for.get(only) is tensor and only not in self.sole:
                self.sole[only] = self._declare(f"{tensor.name}.grad", tensor.type)
            return only
        axes = axes_of(tensor.shape)
        total = known.scalar
        for part, times in known.tensors.items():
            for _ in range(times):
                read = Access(part, axes)
                total = read if total is None else add(total, read)
        assert total is not None
        made = self._declare(f"{tensor.name}.grad", tensor.type)
        self.made.append(Compute(made, Scope(axes, total), ()))
        self.made_for[made] = tensor
        self.parts[tensor] = _Parts({made: 1})
        return made

    def _own(self, tensor: Tensor, found: Tensor) -> Tensor:
        """The derivative by a tensor under a name of its own: a copy where it is also another tensor's."""
        if self.made_for.get(found) is tensor:
            return found
        made = self._declare(f"{tensor.name}.grad", found.type)
        self.made.append(Compute(made, copy_of(found), ()))
        return made

    def _under_its_name(self, statement: Compute) -> Compute:
        """The statement with parts that turned out to be the whole called so."""
        changed: dict[Tensor | Scope, Tensor | Scope] = {
            tensor: self.sole[tensor] for tensor in statement.inputs if tensor in self.sole
        }
        output = self.sole.get(statement.output, statement.output)
        return Compute(output, replace_sources(statement.expression, changed), statement.origin)
