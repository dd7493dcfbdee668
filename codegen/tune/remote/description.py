"""What a server says of its device, and whether what is built here is what would be built there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from codegen.libraries import library
from codegen.targets.cpu import CpuTarget
from codegen.targets.gpu import GpuTarget
from codegen.targets.parsing import Target
from codegen.tune.records import device_of, generator_version, versions_for


@dataclass(frozen=True, slots=True)
class Description:
    """A device: its target as plain data, its name in the tuning database, what makes kernels there, and which ``libraries`` of
    which versions these may call.
    """

    target: Mapping[str, Any]
    device: str
    versions: str
    generator: str
    libraries: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def here(target: Target) -> Description:
        """That of a device of this machine."""
        libraries = library.installed() if target.kind == "cuda" else {}
        versions = versions_for(target.kind)
        return Description(target.describe(), device_of(target), versions, generator_version(), libraries)

    @staticmethod
    def parse(text: str) -> Description:
        """What ``text`` says, the reverse of ``as_text``. ValueError for what no server of this version says."""
        try:
            found = Description(**json.loads(text))
            if not all(isinstance(version, str) for version in found.libraries.values()):
                raise TypeError("a library's version is a text")
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        found.parsed_target()
        return found

    def as_text(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def problem(self) -> str:
        """Why kernels of this program cannot be measured there, where they cannot."""
        for what, theirs, ours in (
            ("another TVM", _of_tvm(self.versions), _of_tvm(versions_for("cpu"))),
            ("another code generator", self.generator, generator_version()),
        ):
            if theirs != ours:
                return (
                    f"it has {what} than this machine ({theirs} there, {ours} here); install the same tensoropt on both"
                )
        return ""

    def parsed_target(self) -> Target:
        """The target. ValueError where it is none."""
        try:
            if self.target["kind"] == "cpu":
                return CpuTarget.described(self.target)
            return GpuTarget.described(self.target)
        except (TypeError, KeyError) as error:
            raise ValueError(f"the server's target is damaged ({error!r})") from error


def _of_tvm(versions: str) -> str:
    """The versions of TVM alone: kernels are compiled on the device's machine, so what else does that there need not be here."""
    return ", ".join(f"{name} {version}" for name, version in sorted(json.loads(versions).items()) if "tvm" in name)
