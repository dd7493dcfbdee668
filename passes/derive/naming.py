"""Names of iterators inside rules: the same for every size, so that a chain replays on other sizes."""

from __future__ import annotations

from collections.abc import Iterable

from tensoropt.ir.index import Iterator


def find_iterator(iterators: Iterable[Iterator], name: str) -> Iterator | None:
    """The iterator of this name."""
    return next((iterator for iterator in iterators if iterator.name == name), None)


def fresh_iterator(name: str, extent: int, taken: Iterable[Iterator]) -> Iterator:
    """An iterator named after another one, by the least number that no taken one has."""
    base = name.rstrip("0123456789") or "i"
    used = {iterator.name for iterator in taken}
    number = 1
    while f"{base}{number}" in used:
        number += 1
    return Iterator(f"{base}{number}", extent)
