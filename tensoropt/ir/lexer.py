"""Tokens of the text form, each with its place for messages."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from dataclasses import dataclass

from tensoropt.errors import ParseError

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+|\#[^\n]*)
  | (?P<digest>sha256:[0-9a-f]+)
  | (?P<tensor>%(?:[A-Za-z_][A-Za-z0-9_]*|"(?:[^"\\\n]|\\.)*"))
  | (?P<local>\$[0-9]+)
  | (?P<string>"(?:[^"\\\n]|\\.)*")
  | (?P<number>(?:0x[0-9a-f]\.?[0-9a-f]*p[+-]?[0-9]+|[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)(?:(?:bf|[iuf])[0-9]+)?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<mark>//|[-+*/%()\[\]<>{},:=|@])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text; ``kind`` is a group of the token grammar or "end"."""

    kind: str
    text: str
    start: int


class TokenStream:
    """The tokens of a text with one token of look-ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._tokens = self._split()
        self._position = 0

    def _split(self) -> list[Token]:
        tokens: list[Token] = []
        position = 0
        while position < len(self._text):
            match = _TOKEN.match(self._text, position)
            if match is None:
                raise self.error_at(position, f"unexpected character {self._text[position]!r}")
            if match.lastgroup != "space":
                tokens.append(Token(str(match.lastgroup), match.group(), position))
            position = match.end()
        tokens.append(Token("end", "the end of the text", len(self._text)))
        return tokens

    @property
    def next(self) -> Token:
        """The token that comes next, without taking it."""
        return self._tokens[self._position]

    def take(self) -> Token:
        """Takes the next token; the end can be taken any number of times."""
        token = self.next
        if token.kind != "end":
            self._position += 1
        return token

    def at(self, *texts: str) -> bool:
        """Whether the next token is a mark or a name with one of these texts."""
        return self.next.kind in ("mark", "name") and self.next.text in texts

    def accept(self, text: str) -> bool:
        """Takes the next token if it is this mark or name."""
        if self.at(text):
            self._position += 1
            return True
        return False

    def expect(self, text: str) -> Token:
        """Takes this mark or name; ParseError where something else stands."""
        if not self.at(text):
            raise self.unexpected(f"'{text}'")
        return self.take()

    def expect_kind(self, kind: str, meaning: str) -> Token:
        """Takes a token of a kind; ParseError, naming the meaning, where something else stands."""
        if self.next.kind != kind:
            raise self.unexpected(meaning)
        return self.take()

    def follows(self, text: str) -> bool:
        """Whether the token after the next one is this mark."""
        after = self._tokens[min(self._position + 1, len(self._tokens) - 1)]
        return after.kind == "mark" and after.text == text

    def unquote(self, token: Token) -> str:
        """The name or string that a token spells, quoted or bare, without the % of a tensor."""
        text = token.text.removeprefix("%") if token.kind == "tensor" else token.text
        if not text.startswith('"'):
            return text
        try:
            return str(json.loads(text))
        except json.JSONDecodeError as error:
            raise self.error(token, f"a wrong string: {error.msg}") from None

    def unexpected(self, wanted: str) -> ParseError:
        """The error that the next token is not what is wanted."""
        return self.error(self.next, f"expected {wanted}, found {self.next.text}")

    def error(self, token: Token, message: str) -> ParseError:
        """An error at a token."""
        return self.error_at(token.start, message)

    def error_at(self, position: int, message: str) -> ParseError:
        """An error at a character position."""
        line = bisect_right(self._line_starts, position)
        start = self._line_starts[line - 1]
        end = self._text.find("\n", start)
        source = self._text[start : len(self._text) if end < 0 else end].expandtabs(1).rstrip()
        return ParseError(message, line, position - start + 1, source or " ")
