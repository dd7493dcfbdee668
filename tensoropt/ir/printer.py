"""The text form of scopes and programs. ``parser`` reads it back: ``parse(print(x)) == x``.

    program "name" {
      input %x: f32[1, 3, 224, 224]
      constant %w: f32[64, 3, 7, 7] sha256:0123456789abcdef
      %y: f32[1, 64, 112, 112] =
        L<n:1, f:64, h:112, w:112> sum<c:3, r:7, s:7> %x[n, c, 2*h + r - 3, 2*w + s - 3] * %w[f, c, r, s]
        from "Conv_0"
      %z: i64[2, 5] = opaque "NonZero" domain "" opset 13 (%y) node "base64 of the NodeProto"
      output %z
    }

A scope that is nested in another is a line ``let $1 = L<…> …`` before it, however often it is read. ``%x[i - 1 | -inf]``
reads −∞ outside the box of ``%x``; without ``|`` it reads 0.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping

import numpy as np

from tensoropt.ir.constants import INLINE_ELEMENTS, DeclaredConstant, content_digest
from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Scalar, Scope, Tensor, children, scopes
from tensoropt.ir.index import Iterator, format_index, format_name
from tensoropt.ir.program import Array, Compute, Opaque, Program, Statement, type_of
from tensoropt.ir.types import ROW_MAJOR, DataType, TensorType

INFIX: Mapping[str, tuple[str, int]] = {"add": ("+", 1), "sub": ("-", 1), "mul": ("*", 2), "div": ("/", 2)}
"""Operations with a sign of their own, and how tightly they bind; they group from the left."""

_TIGHTEST = 3


def format_program(program: Program) -> str:
    """The whole program. Constants of more than ``INLINE_ELEMENTS`` elements stand as type and content hash."""
    lines = [f"program {json.dumps(program.name)} {{"]
    lines += [f"  input {_declaration(tensor)}" for tensor in program.inputs]
    lines += [f"  constant {format_tensor(name)}: {_constant(array)}" for name, array in program.constants.items()]
    lines += [format_statement(statement) for statement in program.statements]
    if program.outputs:
        lines.append(f"  output {', '.join(format_tensor(tensor.name) for tensor in program.outputs)}")
    return "\n".join([*lines, "}", ""])


def format_statement(statement: Statement) -> str:
    """One statement, indented as inside a program."""
    targets = ", ".join(_declaration(tensor) for tensor in statement.outputs)
    origin = f"    from {', '.join(json.dumps(name) for name in statement.origin)}" if statement.origin else ""
    match statement:
        case Compute():
            lines = [f"  {targets} =", *(f"    {line}" for line in format_scope(statement.expression).splitlines())]
        case Opaque():
            inputs = ", ".join(format_tensor(tensor.name) for tensor in statement.inputs)
            lines = [
                f"  {targets} = opaque {json.dumps(statement.operator)} domain {json.dumps(statement.domain)}"
                f" opset {statement.opset} ({inputs})",
                f'    node "{base64.b64encode(statement.node).decode()}"',
            ]
    return "\n".join([*lines, origin] if origin else lines)


def format_scope(scope: Scope) -> str:
    """A scope: one line for each scope nested in it, inner ones first, then its own."""
    names: dict[Scope, str] = {}
    lines: list[str] = []
    for inner in scopes(scope):
        text = _format_one(inner, names)
        if inner is scope:
            lines.append(text)
        else:
            names[inner] = f"${len(names) + 1}"
            lines.append(f"let {names[inner]} = {text}")
    return "\n".join(lines)


def format_type(type: TensorType) -> str:
    """``f32[2, 3]``, with ``@layout`` where it is not row-major."""
    return str(type) if type.layout == ROW_MAJOR else f"{type}@{format_name(type.layout.name)}"


def format_tensor(name: str) -> str:
    """A tensor's name as it stands in the text."""
    return f"%{format_name(name)}"


def format_constant(constant: Constant) -> str:
    """A literal with its type: ``1.5f32``, ``-2i64``, ``true``, ``f32(nan)``."""
    if constant.dtype is DataType.BOOL:
        return "true" if constant.value else "false"
    number = format_number(constant)
    bare = isinstance(constant.value, int) or math.isfinite(constant.value)
    return f"{number}{constant.dtype.value}" if bare else f"{constant.dtype.value}({number})"


def format_number(constant: Constant) -> str:
    """A literal without its type, exact: the shortest decimal number that gives these bits, else a hexadecimal one."""
    value = constant.value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    short = repr(float(str(constant.dtype.numpy.type(value))))
    return short if Constant(float(short), constant.dtype) is constant else value.hex()


def _declaration(tensor: Tensor) -> str:
    return f"{format_tensor(tensor.name)}: {format_type(tensor.type)}"


def _constant(array: Array) -> str:
    type = format_type(type_of(array))
    if isinstance(array, DeclaredConstant) or array.size > INLINE_ELEMENTS:
        return f"{type} sha256:{content_digest(array)}"
    dtype = DataType.from_numpy(array.dtype)
    values = (format_number(Constant(value.item(), dtype)) for value in np.asarray(array).reshape(-1))
    return f"{type} = [{', '.join(values)}]"


def _format_one(scope: Scope, names: Mapping[Scope, str]) -> str:
    head = f"L<{_format_iterators(scope.traversal)}>"
    if scope.reducer is not None:
        head += f" {scope.reducer.value}<{_format_iterators(scope.reduction)}>"
    return f"{head} {_format_scalar(scope.body, names)}"


def _format_iterators(iterators: tuple[Iterator, ...]) -> str:
    return ", ".join(f"{format_name(iterator.name)}:{iterator.extent}" for iterator in iterators)


def _format_scalar(root: Scalar, names: Mapping[Scope, str]) -> str:
    """Bottom up with a stack of its own, so that a long chain of operations does not exhaust Python's."""
    done: list[tuple[str, int]] = []
    stack: list[tuple[Scalar, bool]] = [(root, False)]
    while stack:
        node, entered = stack.pop()
        operands = children(node)
        if operands and not entered:
            stack.append((node, True))
            stack += [(operand, False) for operand in reversed(operands)]
        else:
            first = len(done) - len(operands)
            formatted = done[first:]
            del done[first:]
            done.append(_format_node(node, formatted, names))
    return done[0][0]


def _format_node(node: Scalar, operands: list[tuple[str, int]], names: Mapping[Scope, str]) -> tuple[str, int]:
    """The text of a node and how tightly it binds, given the same of its operands."""
    match node:
        case Constant():
            return format_constant(node), _TIGHTEST
        case IndexValue():
            return f"index<{node.dtype.value}>({format_index(node.index)})", _TIGHTEST
        case Cast():
            return f"cast<{node.dtype.value}>({operands[0][0]})", _TIGHTEST
        case Access():
            source = format_tensor(node.source.name) if isinstance(node.source, Tensor) else names[node.source]
            outside = "" if node.outside is Constant(0, node.dtype) else f" | {format_number(node.outside)}"
            return f"{source}[{', '.join(map(format_index, node.indices))}{outside}]", _TIGHTEST
        case Apply():
            if node.operation not in INFIX:
                return f"{node.operation}({', '.join(text for text, _ in operands)})", _TIGHTEST
            sign, strength = INFIX[node.operation]
            (left, left_strength), (right, right_strength) = operands
            left = left if left_strength >= strength else f"({left})"
            right = right if right_strength > strength else f"({right})"
            return f"{left} {sign} {right}", strength
