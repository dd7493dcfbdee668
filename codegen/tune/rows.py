"""Rows of the tuning database: what a measurement depends on, its entry, and the check that tells a damaged row."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

COLUMNS = ("place", "variant", "kernel", "target", "versions", "generator", "device", "entry", "written", "digest")
"""The columns of the table, in the order of ``Row.values``."""


@dataclass(frozen=True, slots=True)
class Key:
    """Everything that a measurement of a kernel depends on, but the variant.

    ``kernel`` is canonical text, ``target`` the full description (features, caches, threads), ``versions`` those of TVM,
    ``generator`` a digest of the sources that make kernels, ``device`` the name of the processor, or of the GPU.
    """

    kernel: str
    target: str
    versions: str
    generator: str
    device: str

    @property
    def place(self) -> str:
        """A digest of the whole key, under which its rows are found."""
        return _digest(self.kernel, self.target, self.versions, self.generator, self.device)


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement: an entry of plain data, and when it was written (seconds since 1970)."""

    key: Key
    variant: str
    entry: dict[str, Any]
    written: float

    @staticmethod
    def now(key: Key, variant: str, entry: dict[str, Any]) -> Row:
        """A row written at this moment."""
        return Row(key, variant, entry, time.time())

    def values(self) -> tuple[Any, ...]:
        """One value for each of ``COLUMNS``."""
        key, text = self.key, json.dumps(self.entry, sort_keys=True)
        place = key.place
        digest = _digest(place, self.variant, text, repr(self.written))
        parts = (key.kernel, key.target, key.versions, key.generator, key.device)
        return (place, self.variant, *parts, text, self.written, digest)

    @staticmethod
    def of(values: tuple[Any, ...]) -> Row | None:
        """The row of such values; None where they are not what was written."""
        try:
            place, variant, kernel, target, versions, generator, device, text, written, digest = values
            key = Key(kernel, target, versions, generator, device)
            if place != key.place or digest != _digest(place, variant, text, repr(float(written))):
                return None
            entry = json.loads(text)
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None
        return Row(key, variant, entry, float(written)) if isinstance(entry, dict) else None


def _digest(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()
