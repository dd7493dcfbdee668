"""A compiled module as a shared library."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from tensoropt.errors import UsageError


def link_library(module: Any, library: Path) -> None:
    """Writes the library by whichever linker there is. UsageError where none is there or it fails."""
    compiled = library.with_suffix(".o")
    module.write_to_file(str(compiled), "o")
    commands = [[tool, "-shared", "-fPIC"] for tool in ("cc", "gcc", "clang")]
    commands += [[tool, "-shared"] for tool in ("ld", "ld.lld", "ld.gold")]
    for command in commands:
        if shutil.which(command[0]) is None:
            continue
        tail = ["-lm"] if command[0] in ("cc", "gcc", "clang") else []
        done = subprocess.run(
            [*command, "-o", str(library), str(compiled), *tail], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            compiled.unlink()
            return
        failure = done.stderr.strip().splitlines()
        raise UsageError(f"the linker {command[0]} failed: {failure[-1] if failure else 'no message'}")
    raise UsageError("no linker was found (cc, gcc, clang or ld); install one to write artefacts")
