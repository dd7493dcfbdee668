"""Reads the text form that ``printer`` writes. Indices are brought to normal form, so hand-written text may be loose."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import numpy as np

from tensoropt.ir.constants import DeclaredConstant, content_digest
from tensoropt.ir.expression import Reducer, Scope, Tensor
from tensoropt.ir.index import Iterator
from tensoropt.ir.lexer import Token, TokenStream
from tensoropt.ir.program import Array, Compute, Opaque, Program, Statement, type_of
from tensoropt.ir.scalar_parser import parse_number, parse_scalar
from tensoropt.ir.types import ROW_MAJOR, DataType, Extent, Layout, TensorType

Item = TypeVar("Item")


def parse_program(text: str, constants: Mapping[str, Array] | None = None) -> Program:
    """The program that a text describes.

    Constants whose values are not in the text are taken from ``constants`` by name, after type and hash are checked;
    one that is not there becomes a ``DeclaredConstant``. ParseError, with the place, for text that is no program.
    """
    stream = TokenStream(text)
    program = _ProgramParser(stream, constants or {}).program()
    if stream.next.kind != "end":
        raise stream.unexpected("the end of the text")
    return program


def parse_scope(text: str, tensors: Mapping[str, Tensor]) -> Scope:
    """The scope that a text describes, reading the given tensors by name. ParseError for text that is no scope."""
    stream = TokenStream(text)
    scope = _parse_scope(stream, tensors)
    if stream.next.kind != "end":
        raise stream.unexpected("the end of the text")
    return scope


def parse_type(text: str) -> TensorType:
    """The type that a text such as ``f32[2, 3]`` describes. ParseError for text that is no type."""
    stream = TokenStream(text)
    type = _parse_type(stream)
    if stream.next.kind != "end":
        raise stream.unexpected("the end of the text")
    return type


class _ProgramParser:
    def __init__(self, stream: TokenStream, arrays: Mapping[str, Array]) -> None:
        self._stream = stream
        self._arrays = arrays
        self._tensors: dict[str, Tensor] = {}

    def program(self) -> Program:
        stream = self._stream
        stream.expect("program")
        name = stream.unquote(stream.expect_kind("string", "the program's name"))
        stream.expect("{")
        inputs: list[Tensor] = []
        constants: dict[str, Array] = {}
        statements: list[Statement] = []
        outputs: list[Tensor] = []
        while not stream.accept("}"):
            if stream.accept("input"):
                inputs.append(self._declare())
            elif stream.accept("constant"):
                tensor = self._declare()
                constants[tensor.name] = self._constant(tensor)
            elif stream.accept("output"):
                outputs += _separated(stream, self._known)
            elif stream.next.kind == "tensor":
                statements.append(self._statement())
            else:
                raise stream.unexpected("'input', 'constant', 'output', a statement or '}'")
        return Program(name, tuple(inputs), tuple(outputs), constants, tuple(statements))

    def _declare(self) -> Tensor:
        """A tensor with its type, known from here on."""
        tensor = self._declaration()
        self._tensors[tensor.name] = tensor
        return tensor

    def _declaration(self) -> Tensor:
        token = self._stream.expect_kind("tensor", "a tensor such as %x")
        name = self._stream.unquote(token)
        if name in self._tensors:
            raise self._stream.error(token, f"{token.text} is defined a second time")
        self._stream.expect(":")
        return Tensor(name, _parse_type(self._stream))

    def _known(self) -> Tensor:
        return _known_tensor(self._stream, self._tensors)

    def _constant(self, tensor: Tensor) -> Array:
        stream = self._stream
        shape = tuple(int(extent) for extent in tensor.shape)
        if stream.accept("="):
            place = stream.expect("[")
            values = [] if stream.at("]") else _separated(stream, lambda: parse_number(stream, tensor.dtype).value)
            stream.expect("]")
            if len(values) != tensor.type.elements:
                raise stream.error(place, f"{len(values)} values for {tensor.type.elements} elements")
            return np.array(values, tensor.dtype.numpy).reshape(shape)
        token = stream.expect_kind("digest", "the values or the hash of the constant")
        digest = token.text.removeprefix("sha256:")
        if tensor.name not in self._arrays:
            return cast(Array, DeclaredConstant(tensor.name, tensor.type, digest))
        array = self._arrays[tensor.name]
        if type_of(array) != tensor.type:
            raise stream.error(token, f"the array given for this constant is {type_of(array)}, not {tensor.type}")
        if content_digest(array) != digest:
            raise stream.error(token, "the array given for this constant has another content")
        return array

    def _statement(self) -> Statement:
        stream = self._stream
        place = stream.next
        targets = _separated(stream, self._declaration)
        stream.expect("=")
        if stream.accept("opaque"):
            statement = self._opaque(tuple(targets))
        elif len(targets) > 1:
            raise stream.unexpected("'opaque', as several tensors are assigned")
        else:
            expression = _parse_scope(stream, self._tensors)
            statement = _checked(stream, place, lambda: Compute(targets[0], expression, self._origin()))
        for target in targets:
            self._tensors[target.name] = target
        return statement

    def _opaque(self, outputs: tuple[Tensor, ...]) -> Statement:
        stream = self._stream
        operator = stream.unquote(stream.expect_kind("string", "the operator's name"))
        stream.expect("domain")
        domain = stream.unquote(stream.expect_kind("string", "the operator's domain"))
        stream.expect("opset")
        opset = _parse_natural(stream)
        stream.expect("(")
        inputs = [] if stream.at(")") else _separated(stream, self._known)
        stream.expect(")")
        stream.expect("node")
        token = stream.expect_kind("string", "the node in base 64")
        try:
            node = base64.b64decode(stream.unquote(token), validate=True)
        except binascii.Error as error:
            raise stream.error(token, f"the node is not base 64: {error}") from None
        return Opaque(outputs, tuple(inputs), operator, domain, opset, node, self._origin())

    def _origin(self) -> tuple[str, ...]:
        stream = self._stream
        if not stream.accept("from"):
            return ()
        return tuple(_separated(stream, lambda: stream.unquote(stream.expect_kind("string", "a node's name"))))


def _parse_scope(stream: TokenStream, tensors: Mapping[str, Tensor]) -> Scope:
    """``let`` lines and the scope after them."""
    scopes: dict[str, Scope] = {}
    while stream.accept("let"):
        token = stream.expect_kind("local", "a scope's name such as $1")
        if token.text in scopes:
            raise stream.error(token, f"{token.text} is defined a second time")
        stream.expect("=")
        scopes[token.text] = _parse_one(stream, tensors, scopes)
    return _parse_one(stream, tensors, scopes)


def _parse_one(stream: TokenStream, tensors: Mapping[str, Tensor], scopes: Mapping[str, Scope]) -> Scope:
    place = stream.next
    stream.expect("L")
    traversal = _parse_iterators(stream)
    reduction: list[Iterator] = []
    reducer = next((reducer for reducer in Reducer if stream.at(reducer.value)), None)
    # max and min are also functions, which stand before "(" and not before "<"
    if reducer is not None and stream.follows("<"):
        stream.take()
        reduction = _parse_iterators(stream)
        if not reduction:
            raise stream.error(place, "a reduction has at least one iterator")
    bound = {iterator.name: iterator for iterator in (*traversal, *reduction)}

    def source() -> Tensor | Scope:
        if stream.next.kind == "tensor":
            return _known_tensor(stream, tensors)
        token = stream.take()
        if token.text not in scopes:
            raise stream.error(token, f"{token.text} is not defined before")
        return scopes[token.text]

    body = parse_scalar(stream, bound, source)
    return _checked(stream, place, lambda: Scope(traversal, body, reduction, reducer if reduction else None))


def _parse_iterators(stream: TokenStream) -> list[Iterator]:
    stream.expect("<")
    iterators = [] if stream.at(">") else _separated(stream, lambda: _parse_iterator(stream))
    stream.expect(">")
    return iterators


def _parse_iterator(stream: TokenStream) -> Iterator:
    if stream.next.kind not in ("name", "string"):
        raise stream.unexpected("an iterator such as i:8")
    token = stream.take()
    name = stream.unquote(token)
    stream.expect(":")
    return Iterator(name, _parse_natural(stream))


def _parse_type(stream: TokenStream) -> TensorType:
    token = stream.expect_kind("name", "an element type")
    try:
        dtype = DataType(token.text)
    except ValueError:
        raise stream.error(token, f"{token.text} is not an element type") from None
    stream.expect("[")
    shape = [] if stream.at("]") else _separated(stream, lambda: Extent(_parse_natural(stream)))
    stream.expect("]")
    layout = ROW_MAJOR
    if stream.accept("@"):
        layout = Layout(stream.expect_kind("name", "a layout").text)
    return TensorType(dtype, tuple(shape), layout)


def _parse_natural(stream: TokenStream) -> int:
    token = stream.expect_kind("number", "a whole number")
    if not token.text.isdecimal():
        raise stream.error(token, f"expected a whole number, found {token.text}")
    return int(token.text)


def _known_tensor(stream: TokenStream, tensors: Mapping[str, Tensor]) -> Tensor:
    token = stream.expect_kind("tensor", "a tensor such as %x")
    name = stream.unquote(token)
    if name not in tensors:
        raise stream.error(token, f"{token.text} is not defined before")
    return tensors[name]


def _separated(stream: TokenStream, item: Callable[[], Item]) -> list[Item]:
    items = [item()]
    while stream.accept(","):
        items.append(item())
    return items


def _checked(stream: TokenStream, place: Token, build: Callable[[], Item]) -> Item:
    """What ``build`` gives; its ValueError becomes a ParseError at the place."""
    try:
        return build()
    except ValueError as error:
        raise stream.error(place, str(error)) from None
