"""What a rewrite rule is.

A rule is a small stateless object: a name, the formula in its docstring, the sites where it may apply and the rewrite, which
checks its side condition and refuses with a reason. Rules see one closed scope; ``apply_at`` takes them to a nested one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tensoropt.ir.expression import Access, Scalar, Scope, accesses, map_scalar

Path = tuple[int, ...]
"""From a scope to one nested in it: at each level the position of the access, counted over the accesses of the body."""

Argument = int | str | tuple["Argument", ...]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Site:
    """Where and how a rule applies: named arguments. Iterators are given by name, so a site fits expressions of other sizes."""

    arguments: tuple[tuple[str, Argument], ...] = ()

    @staticmethod
    def of(**arguments: Argument) -> Site:
        """A site from keyword arguments."""
        return Site(tuple(arguments.items()))

    def integer(self, name: str) -> int:
        """The integer argument of this name."""
        return _checked(self._get(name), int)

    def place(self, name: str) -> int:
        """The integer argument of this name, a position counted from 0; ValueError for a negative one."""
        return _counted(self.integer(name))

    def text(self, name: str) -> str:
        """The text argument of this name."""
        return _checked(self._get(name), str)

    def names(self, name: str) -> tuple[str, ...]:
        """The argument of this name, a tuple of texts."""
        return tuple(_checked(item, str) for item in _checked(self._get(name), tuple))

    def integers(self, name: str) -> tuple[int, ...]:
        """The argument of this name, a tuple of positions counted from 0; ValueError for a negative one."""
        return tuple(_counted(_checked(item, int)) for item in _checked(self._get(name), tuple))

    def terms(self, name: str) -> tuple[tuple[str, int], ...]:
        """The argument of this name, a tuple of pairs of an iterator's name and an integer."""
        pairs = (_checked(item, tuple) for item in _checked(self._get(name), tuple))
        return tuple((_checked(first, str), _checked(second, int)) for first, second in pairs)

    def argument(self, name: str) -> Argument:
        """The argument of this name, whatever it is."""
        return self._get(name)

    def _get(self, name: str) -> Argument:
        return next(value for found, value in self.arguments if found == name)

    def __str__(self) -> str:
        return ", ".join(f"{name}={_spelled(value)}" for name, value in self.arguments)


def _checked(value: Argument, kind: type[Value]) -> Value:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not {kind.__name__}")
    return value


def _counted(position: int) -> int:
    if position < 0:
        raise ValueError(f"positions count from 0, so {position} is none")
    return position


def _spelled(value: Argument) -> str:
    return f"({', '.join(map(_spelled, value))})" if isinstance(value, tuple) else str(value)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rule does not apply."""

    reason: str


class Rule(Protocol):
    """A rewrite rule. Its docstring is the formula that ``tensoropt rules`` and ``inspect --why`` show."""

    @property
    def name(self) -> str:
        """The name by which derivations and ``--exclude-rule`` know it."""
        ...

    def sites(self, scope: Scope) -> Iterable[Site]:
        """Sites that the form of the scope suggests, in a fixed order; ``apply`` may still refuse them."""
        ...

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        """The scope rewritten, equal for all contents of its tensors, or why not."""
        ...


def nested_at(root: Scope, path: Path) -> Scope | None:
    """The scope at the end of a path; None where the path leads elsewhere."""
    scope = root
    for position in path:
        reads = accesses(scope.body)
        if position >= len(reads) or not isinstance(reads[position].source, Scope):
            return None
        source = reads[position].source
        assert isinstance(source, Scope)
        scope = source
    return scope


def replaced_at(root: Scope, path: Path, replacement: Scope) -> Scope:
    """The root with the scope at the end of the path replaced; only that one access reads the new one."""
    if not path:
        return replacement
    position, rest = path[0], path[1:]
    count = -1

    def leaf(node: Scalar) -> Scalar:
        nonlocal count
        if not isinstance(node, Access):
            return node
        count += 1
        if count != position:
            return node
        assert isinstance(node.source, Scope)
        return Access(replaced_at(node.source, rest, replacement), node.indices, node.outside)

    return Scope(root.traversal, map_scalar(root.body, leaf), root.reduction, root.reducer)


def apply_at(rule: Rule, root: Scope, path: Path, site: Site) -> Scope | Refusal:
    """The root with the rule applied to the scope at the end of the path."""
    scope = nested_at(root, path)
    if scope is None:
        return Refusal(f"no nested scope at {path}")
    result = rule.apply(scope, site)
    if isinstance(result, Refusal):
        return result
    if result.type != scope.type:
        raise AssertionError(f"rule {rule.name} changed the type from {scope.type} to {result.type}")
    return replaced_at(root, path, result)
