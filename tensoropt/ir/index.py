"""Quasi-affine indices over boxes, always in normal form.

An index is ``Σ coefficient · atom + constant`` where an atom is an iterator, a floor division or a modulo of an index by a
positive constant. Every iterator ranges over ``[0, extent)``, so the bounds of an index are known wherever it stands and
the simplifier uses them: ``(k·Q + R)//k → Q + R//k``, ``(k·Q + R)%k → R%k``, ``R//k → q`` and ``R%k → R − q·k`` where R stays
within one multiple of k, ``(x//a)//b → x//(a·b)``, ``(g·A + B)//(g·k) → A//k`` for ``0 ≤ B < g``, ``k·(E//k) + E%k → E``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from math import gcd
from typing import Any

from tensoropt.ir.interning import Interned

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Iterator(Interned):
    """A loop variable over ``[0, extent)``; two iterators are the same exactly if name and extent are."""

    __slots__ = ("extent", "name")
    name: str
    extent: int

    def __new__(cls, name: str, extent: int) -> Iterator:
        if extent < 0:
            raise ValueError(f"iterator {name} has the negative extent {extent}")
        return cls._intern(name, int(extent))

    def _build(self, name: str, extent: int) -> None:
        self._set(name=name, extent=extent)

    def __repr__(self) -> str:
        return f"{self.name}:{self.extent}"


class FloorDiv(Interned):
    """``index // divisor`` rounded toward minus infinity; build it with ``floordiv``, which simplifies."""

    __slots__ = ("divisor", "index")
    index: Index
    divisor: int

    def _build(self, index: Index, divisor: int) -> None:
        self._set(index=index, divisor=divisor)


class Modulo(Interned):
    """``index % divisor`` in ``[0, divisor)``; build it with ``modulo``, which simplifies."""

    __slots__ = ("divisor", "index")
    index: Index
    divisor: int

    def _build(self, index: Index, divisor: int) -> None:
        self._set(index=index, divisor=divisor)


Atom = Iterator | FloorDiv | Modulo
Terms = tuple[tuple[Atom, int], ...]


class Index(Interned):
    """A quasi-affine index in normal form with its inclusive bounds ``low`` and ``high``."""

    __slots__ = ("constant", "high", "low", "terms")
    terms: Terms
    constant: int
    low: int
    high: int

    def _build(self, terms: Terms, constant: int) -> None:
        low = high = constant
        for atom, coefficient in terms:
            atom_low, atom_high = atom_bounds(atom)
            low += coefficient * (atom_low if coefficient > 0 else atom_high)
            high += coefficient * (atom_high if coefficient > 0 else atom_low)
        self._set(terms=terms, constant=constant, low=low, high=high)

    @staticmethod
    def of(value: Index | Iterator | int) -> Index:
        """An index from an iterator or an integer."""
        match value:
            case Index():
                return value
            case Iterator():
                return combine([(value, 1)], 0)
            case _:
                return Index._intern((), int(value))

    def __add__(self, other: Index | Iterator | int) -> Index:
        other = Index.of(other)
        return combine([*self.terms, *other.terms], self.constant + other.constant)

    __radd__ = __add__

    def __mul__(self, factor: int) -> Index:
        return combine([(atom, coefficient * factor) for atom, coefficient in self.terms], self.constant * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Index:
        return self * -1

    def __sub__(self, other: Index | Iterator | int) -> Index:
        return self + Index.of(other) * -1

    def __rsub__(self, other: Index | Iterator | int) -> Index:
        return Index.of(other) + self * -1

    def __floordiv__(self, divisor: int) -> Index:
        return floordiv(self, divisor)

    def __mod__(self, divisor: int) -> Index:
        return modulo(self, divisor)

    @property
    def is_constant(self) -> bool:
        """Whether no iterator occurs."""
        return not self.terms

    @property
    def is_affine(self) -> bool:
        """Whether no division occurs."""
        return all(isinstance(atom, Iterator) for atom, _ in self.terms)

    def coefficient(self, atom: Atom) -> int:
        """The coefficient of an atom at the top level, 0 where it does not occur."""
        return next((coefficient for found, coefficient in self.terms if found is atom), 0)

    def iterators(self) -> frozenset[Iterator]:
        """All iterators, those inside divisions included."""
        found: set[Iterator] = set()
        for atom, _ in self.terms:
            found |= {atom} if isinstance(atom, Iterator) else atom.index.iterators()
        return frozenset(found)

    def substitute(self, mapping: Mapping[Iterator, Index]) -> Index:
        """The index with iterators replaced, simplified again; the same object where nothing changes."""
        if not any(iterator in mapping for iterator in self.iterators()):
            return self
        parts: list[tuple[Index, int]] = []
        for atom, coefficient in self.terms:
            match atom:
                case Iterator():
                    parts.append((mapping.get(atom) or Index.of(atom), coefficient))
                case FloorDiv():
                    parts.append((floordiv(atom.index.substitute(mapping), atom.divisor), coefficient))
                case Modulo():
                    parts.append((modulo(atom.index.substitute(mapping), atom.divisor), coefficient))
        if all(part.is_affine for part, _ in parts):  # nothing to simplify between the parts
            terms = [(atom, step * coefficient) for part, coefficient in parts for atom, step in part.terms]
            return combine(terms, self.constant + sum(part.constant * coefficient for part, coefficient in parts))
        result = Index.of(self.constant)
        for part, coefficient in parts:
            result = result + part * coefficient
        return result

    def evaluate(self, values: Callable[[Iterator], Any]) -> Any:
        """The value for given iterator values: integers, or integer arrays that broadcast against one another."""
        result: Any = self.constant
        for atom, coefficient in self.terms:
            match atom:
                case Iterator():
                    part = values(atom)
                case FloorDiv():
                    part = atom.index.evaluate(values) // atom.divisor
                case Modulo():
                    part = atom.index.evaluate(values) % atom.divisor
            result = result + part * coefficient
        return result

    def __repr__(self) -> str:
        return format_index(self)


def atom_bounds(atom: Atom) -> tuple[int, int]:
    """The inclusive bounds of an atom; an empty iterator counts as if it had one element."""
    match atom:
        case Iterator():
            return 0, max(atom.extent - 1, 0)
        case FloorDiv():
            return atom.index.low // atom.divisor, atom.index.high // atom.divisor
        case Modulo():
            return 0, min(atom.divisor - 1, atom.index.high) if atom.index.low >= 0 else atom.divisor - 1


def _order(atom: Atom) -> tuple[Any, ...]:
    """A total order of atoms that does not depend on the process."""
    match atom:
        case Iterator():
            return (0, atom.name, atom.extent)
        case FloorDiv():
            return (1, atom.divisor, _index_order(atom.index))
        case Modulo():
            return (2, atom.divisor, _index_order(atom.index))


def _index_order(index: Index) -> tuple[Any, ...]:
    return (index.constant, *((coefficient, _order(atom)) for atom, coefficient in index.terms))


def combine(terms: Iterable[tuple[Atom, int]], constant: int) -> Index:
    """``Σ coefficient · atom + constant`` in normal form."""
    coefficients: dict[Atom, int] = {}
    for atom, coefficient in terms:
        if isinstance(atom, Iterator) and atom.extent == 1:
            continue
        coefficients[atom] = coefficients.get(atom, 0) + coefficient
    digits = [atom for atom in coefficients if isinstance(atom, Modulo)]
    for atom in digits if len(coefficients) > 1 else ():
        merged = _merge_digits(atom, coefficients)
        if merged is not None:
            return combine([*merged.terms], constant + merged.constant)
    kept = [(atom, coefficient) for atom, coefficient in coefficients.items() if coefficient]
    if len(kept) > 1:
        kept.sort(key=lambda term: _order(term[0]))
    return Index._intern(tuple(kept), constant)


def _merge_digits(digit: Modulo, coefficients: dict[Atom, int]) -> Index | None:
    """All terms with ``digit`` joined to the next higher digit of the same number, or None where there is none.

    ``k·(E//k) + F%k → E`` where E and F differ by a multiple of k (a modulo has its coefficients reduced, a division has not), and
    ``k·(E//k % b) + E%k → E % (k·b)``.
    """
    scale = coefficients[digit]
    if scale == 0:
        return None
    quotient = floordiv(digit.index, digit.divisor)
    for partner, coefficient in coefficients.items():
        if coefficient != scale * digit.divisor or isinstance(partner, Iterator):
            continue
        whole: Index | None
        if isinstance(partner, FloorDiv):
            if partner.divisor == digit.divisor and _congruent(partner.index, digit.index, digit.divisor):
                whole = partner.index
            else:
                whole = digit.index if quotient.terms == ((partner, 1),) and quotient.constant == 0 else None
        else:
            number = partner.index * digit.divisor + Index._intern(((digit, 1),), 0)
            joined = number.coefficient(digit) == 0
            whole = modulo(number, digit.divisor * partner.divisor) if joined else None
        if whole is not None:
            rest = [(atom, factor) for atom, factor in coefficients.items() if atom not in (digit, partner) and factor]
            return combine(rest, 0) + whole * scale
    return None


def _congruent(one: Index, other: Index, divisor: int) -> bool:
    """Whether two indices differ by a multiple of the divisor wherever they stand."""
    coefficients: dict[Atom, int] = dict(one.terms)
    for atom, coefficient in other.terms:
        coefficients[atom] = coefficients.get(atom, 0) - coefficient
    found = (*coefficients.values(), one.constant - other.constant)
    return all(coefficient % divisor == 0 for coefficient in found)


def _split(index: Index, divisor: int) -> tuple[Index, Index]:
    """``(Q, R)`` with ``index = divisor·Q + R``, R holding what does not divide and a constant in ``[0, divisor)``."""
    whole = [(atom, coefficient // divisor) for atom, coefficient in index.terms if coefficient % divisor == 0]
    rest = [(atom, coefficient) for atom, coefficient in index.terms if coefficient % divisor]
    return combine(whole, index.constant // divisor), combine(rest, index.constant % divisor)


def _coarsen(index: Index, divisor: int) -> tuple[int, Index, Index] | None:
    """``(g, A, B)`` with ``index = g·A + B``, g > 1 dividing the divisor, A not constant and ``0 ≤ B < g``; or None."""
    steps = sorted({gcd(coefficient, divisor) for _, coefficient in index.terms}, reverse=True)
    for step in steps:
        if step > 1:
            coarse, fine = _split(index, step)
            if coarse.terms and fine.low >= 0 and fine.high < step:
                return step, coarse, fine
    return None


def floordiv(index: Index, divisor: int) -> Index:
    """``index // divisor`` in normal form; the divisor is positive."""
    if divisor <= 0:
        raise ValueError(f"an index is divided by positive constants only, not by {divisor}")
    whole, rest = _split(index, divisor)
    if rest is not index:
        return whole + floordiv(rest, divisor)  # combining what is left can join digits to terms that divide again
    if rest.low // divisor == rest.high // divisor:
        return Index.of(rest.low // divisor)
    coarser = _coarsen(rest, divisor)
    if coarser is not None:
        step, coarse, _ = coarser
        return floordiv(coarse, divisor // step)
    if rest.constant == 0 and len(rest.terms) == 1:
        atom, coefficient = rest.terms[0]
        if coefficient == 1 and isinstance(atom, FloorDiv):
            return floordiv(atom.index, atom.divisor * divisor)
    return combine([(FloorDiv._intern(rest, divisor), 1)], 0)


def modulo(index: Index, divisor: int) -> Index:
    """``index % divisor`` in normal form; the divisor is positive."""
    if divisor <= 0:
        raise ValueError(f"an index is divided by positive constants only, not by {divisor}")
    _, rest = _split(index, divisor)
    if rest.low // divisor == rest.high // divisor:
        return rest - rest.low // divisor * divisor
    rest = combine([(atom, coefficient % divisor) for atom, coefficient in rest.terms], rest.constant)
    if rest is not index:
        return modulo(rest, divisor)  # combining can join digits to terms that divide again
    coarser = _coarsen(rest, divisor)
    if coarser is not None:
        step, coarse, fine = coarser
        return modulo(coarse, divisor // step) * step + fine
    if rest.constant == 0 and len(rest.terms) == 1:
        atom, coefficient = rest.terms[0]
        if coefficient == 1 and isinstance(atom, Modulo) and atom.divisor % divisor == 0:
            return modulo(atom.index, divisor)
    return combine([(Modulo._intern(rest, divisor), 1)], 0)


def format_index(index: Index) -> str:
    """The text of an index, as the parser reads it; operators bind as in Python."""
    parts: list[str] = []
    for atom, coefficient in index.terms:
        text = _format_atom(atom)
        factor = abs(coefficient)
        if coefficient != 1 and not isinstance(atom, Iterator):
            text = f"({text})"
        sign = "-" if coefficient < 0 else "+"
        parts.append(f"{sign} {text}" if factor == 1 else f"{sign} {factor}*{text}")
    if index.constant or not parts:
        parts.append(f"{'-' if index.constant < 0 else '+'} {abs(index.constant)}")
    text = " ".join(parts)
    return text[2:] if text.startswith("+ ") else "-" + text[2:]


def _format_atom(atom: Atom) -> str:
    match atom:
        case Iterator():
            return format_name(atom.name)
        case FloorDiv():
            return f"{_format_operand(atom.index)}//{atom.divisor}"
        case Modulo():
            return f"{_format_operand(atom.index)}%{atom.divisor}"


def _format_operand(index: Index) -> str:
    bare = index.constant == 0 and len(index.terms) == 1 and index.terms[0][1] == 1
    text = format_index(index)
    return text if bare and isinstance(index.terms[0][0], Iterator) else f"({text})"


def format_name(name: str) -> str:
    """A name as it stands in the text form: bare where it is an identifier, else a quoted string."""
    return name if _IDENTIFIER.fullmatch(name) else json.dumps(name)
