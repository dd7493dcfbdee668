"""Reads scalar bodies and indices of the text form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tensoropt.ir.expression import Access, Apply, Cast, Constant, IndexValue, Scalar, Scope, Tensor
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.lexer import Token, TokenStream
from tensoropt.ir.printer import INFIX
from tensoropt.ir.scalar import OPERATIONS
from tensoropt.ir.types import DataType

_SIGNS = {sign: (operation, strength) for operation, (sign, strength) in INFIX.items()}
_TYPES = {dtype.value: dtype for dtype in DataType}

Source = Callable[[], Tensor | Scope]


@dataclass(slots=True)
class _Frame:
    """What is open: the whole body, a parenthesis, or a call with the arguments read so far."""

    place: Token
    close: Callable[[list[Scalar]], Scalar] | None
    """Builds the node from the arguments; None for a parenthesis, which holds one."""
    arguments: list[Scalar] = field(default_factory=list)
    operands: list[Scalar] = field(default_factory=list)
    signs: list[Token] = field(default_factory=list)


def parse_scalar(stream: TokenStream, iterators: Mapping[str, Iterator], source: Source) -> Scalar:
    """A scalar body. ``source`` reads the name of a tensor or scope.

    Operator precedence with a stack of its own (E. W. Dijkstra's shunting yard), so that deep nesting is no problem.
    """
    frames = [_Frame(stream.next, None)]
    while True:
        opened = _open(stream)
        if opened is not None:
            frames.append(opened)
            continue
        frames[-1].operands.append(_operand(stream, iterators, source))
        while True:
            frame = frames[-1]
            if stream.at(*_SIGNS):
                _reduce(stream, frame, _SIGNS[stream.next.text][1])
                frame.signs.append(stream.take())
                break
            _reduce(stream, frame, 0)
            if len(frames) == 1:
                return frame.operands[0]
            if frame.close is not None and stream.accept(","):
                frame.arguments.append(frame.operands.pop())
                break
            stream.expect(")")
            frames.pop()
            arguments = [*frame.arguments, frame.operands.pop()]
            frames[-1].operands.append(_close(stream, frame, arguments))


def parse_number(stream: TokenStream, dtype: DataType) -> Constant:
    """A number without a type, read as one of this type: ``-1.5``, ``inf``, ``nan``, ``true``."""
    token = stream.next
    negative = stream.accept("-")
    number = stream.take()
    if number.kind not in ("number", "name"):
        raise stream.error(number, f"expected a number, found {number.text}")
    return _constant(stream, token, ("-" if negative else "") + number.text, dtype)


def parse_index(stream: TokenStream, iterators: Mapping[str, Iterator]) -> Index:
    """A quasi-affine index in normal form; operators bind as in Python."""
    index = _index_term(stream, iterators)
    while stream.at("+", "-"):
        negative = stream.take().text == "-"
        term = _index_term(stream, iterators)
        index = index - term if negative else index + term
    return index


def _open(stream: TokenStream) -> _Frame | None:
    """The frame of a parenthesis, cast or call that starts here; None where an operand does."""
    token = stream.next
    if stream.accept("("):
        return _Frame(token, None)
    if stream.accept("cast"):
        dtype = _angled_type(stream)
        stream.expect("(")
        return _Frame(token, lambda arguments: Cast(_single(arguments), dtype))
    if token.kind == "name" and token.text in OPERATIONS:
        stream.take()
        stream.expect("(")
        return _Frame(token, lambda arguments: Apply(token.text, *arguments))
    return None


def _single(arguments: list[Scalar]) -> Scalar:
    if len(arguments) != 1:
        raise ValueError(f"cast takes 1 operand, not {len(arguments)}")
    return arguments[0]


def _close(stream: TokenStream, frame: _Frame, arguments: list[Scalar]) -> Scalar:
    if frame.close is None:
        return arguments[0]
    try:
        return frame.close(arguments)
    except ValueError as error:
        raise stream.error(frame.place, str(error)) from None


def _reduce(stream: TokenStream, frame: _Frame, strength: int) -> None:
    """Applies the operators of a frame that bind at least this tightly."""
    while frame.signs and _SIGNS[frame.signs[-1].text][1] >= strength:
        sign = frame.signs.pop()
        right, left = frame.operands.pop(), frame.operands.pop()
        try:
            frame.operands.append(Apply(_SIGNS[sign.text][0], left, right))
        except ValueError as error:
            raise stream.error(sign, str(error)) from None


def _operand(stream: TokenStream, iterators: Mapping[str, Iterator], source: Source) -> Scalar:
    token = stream.next
    if token.kind in ("tensor", "local"):
        return _access(stream, iterators, source)
    if stream.accept("index"):
        dtype = _angled_type(stream)
        stream.expect("(")
        index = parse_index(stream, iterators)
        stream.expect(")")
        return IndexValue(index, dtype)
    if stream.at("true", "false"):
        return Constant(stream.take().text == "true", DataType.BOOL)
    if token.kind == "name" and token.text in _TYPES:
        dtype = _TYPES[stream.take().text]
        stream.expect("(")
        constant = parse_number(stream, dtype)
        stream.expect(")")
        return constant
    negative = stream.accept("-")
    if stream.next.kind != "number":
        raise stream.unexpected("a number, an access, a call or '('")
    number = stream.take()
    split = next((at for at in range(len(number.text)) if number.text[at:] in _TYPES), None)
    if split is None:
        raise stream.error(number, f"the number {number.text} needs a type, such as {number.text}f32")
    return _constant(stream, token, ("-" if negative else "") + number.text[:split], _TYPES[number.text[split:]])


def _access(stream: TokenStream, iterators: Mapping[str, Iterator], source: Source) -> Access:
    token = stream.next
    read = source()
    stream.expect("[")
    indices: list[Index] = []
    if not stream.at("]", "|"):
        indices.append(parse_index(stream, iterators))
        while stream.accept(","):
            indices.append(parse_index(stream, iterators))
    outside = parse_number(stream, read.dtype) if stream.accept("|") else Constant(0, read.dtype)
    stream.expect("]")
    try:
        return Access(read, indices, outside)
    except ValueError as error:
        raise stream.error(token, str(error)) from None


def _angled_type(stream: TokenStream) -> DataType:
    stream.expect("<")
    token = stream.expect_kind("name", "an element type")
    stream.expect(">")
    if token.text not in _TYPES:
        raise stream.error(token, f"{token.text} is not an element type")
    return _TYPES[token.text]


def _constant(stream: TokenStream, place: Token, text: str, dtype: DataType) -> Constant:
    try:
        if dtype is DataType.BOOL:
            return Constant({"true": True, "false": False}[text], dtype)
        if dtype.is_float:
            return Constant(float.fromhex(text) if "0x" in text else float(text), dtype)
        value = int(text)
    except (ValueError, KeyError, OverflowError):
        raise stream.error(place, f"{text} is not a number of type {dtype.value}") from None
    constant = Constant(value, dtype)
    if constant.value != value:
        raise stream.error(place, f"{text} does not fit in {dtype.value}")
    return constant


def _index_term(stream: TokenStream, iterators: Mapping[str, Iterator]) -> Index:
    index = _index_factor(stream, iterators)
    while stream.at("*", "//", "%"):
        sign = stream.take()
        right = _index_factor(stream, iterators)
        if sign.text == "*":
            if not (index.is_constant or right.is_constant):
                raise stream.error(sign, "an index is multiplied by constants only")
            index = right * index.constant if index.is_constant else index * right.constant
        elif not right.is_constant or right.constant <= 0:
            raise stream.error(sign, "an index is divided by positive constants only")
        else:
            index = index // right.constant if sign.text == "//" else index % right.constant
    return index


def _index_factor(stream: TokenStream, iterators: Mapping[str, Iterator]) -> Index:
    if stream.accept("-"):
        return -_index_factor(stream, iterators)
    if stream.accept("("):
        index = parse_index(stream, iterators)
        stream.expect(")")
        return index
    token = stream.take()
    if token.kind == "number" and token.text.isdecimal():
        return Index.of(int(token.text))
    if token.kind not in ("name", "string"):
        raise stream.error(token, f"expected an iterator or a whole number, found {token.text}")
    name = stream.unquote(token)
    if name not in iterators:
        raise stream.error(token, f"{token.text} is no iterator of this scope")
    return Index.of(iterators[name])
