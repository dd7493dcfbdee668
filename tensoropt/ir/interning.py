"""Hash-consing: nodes that are built from equal parts are one object, so equality is identity.

Interning is per process; unpickling goes through the constructor and interns again.
"""

from __future__ import annotations

from typing import Any, Self
from weakref import WeakValueDictionary


class Interned:
    """Base of immutable nodes. ``cls._intern(parts)`` returns the one node of this class with these parts."""

    __slots__ = ("__weakref__", "_parts")

    _table: WeakValueDictionary[tuple[Any, ...], Any]
    _parts: tuple[Any, ...]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls._table = WeakValueDictionary()

    @classmethod
    def _intern(cls, *parts: Any) -> Self:
        """The node with these parts, built by ``_build`` when it does not exist yet. Parts are hashable."""
        found = cls._table.get(parts)
        if found is None:
            found = object.__new__(cls)
            object.__setattr__(found, "_parts", parts)
            found._build(*parts)
            found = cls._table.setdefault(parts, found)
        return found  # type: ignore[no-any-return]

    def _build(self, *parts: Any) -> None:
        raise NotImplementedError

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _rebuild, (type(self), self._parts)


def _rebuild(cls: type[Interned], parts: tuple[Any, ...]) -> Interned:
    return cls._intern(*parts)
