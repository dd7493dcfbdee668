"""Cubins in an artefact folder: one file each, and one that says what they are for and what their kernels need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codegen.cuda.resources import Resources
from codegen.cuda.runtime import Image
from codegen.device.files import CUBINS
from tensoropt.errors import ArtefactError

INDEX = CUBINS


def write_cubins(
    folder: Path,
    arch: str,
    cubins: Iterable[tuple[bytes, Mapping[str, Resources]]],
    dynamic_shared_bytes: Mapping[str, int],
) -> None:
    """Writes code for one architecture. Kernels that are not in ``dynamic_shared_bytes`` ask for no shared memory when started."""
    entries: list[dict[str, Any]] = []
    for number, (code, kernels) in enumerate(cubins):
        name = f"kernels.{number}.cubin"
        (folder / name).write_bytes(code)
        needs = {
            kernel: {**asdict(found), "dynamic_shared_bytes": dynamic_shared_bytes.get(kernel, 0)}
            for kernel, found in kernels.items()
        }
        entries.append({"file": name, "sha256": hashlib.sha256(code).hexdigest(), "kernels": needs})
    (folder / INDEX).write_text(json.dumps({"arch": arch, "cubins": entries}, indent=1) + "\n")


def read_images(folder: Path) -> list[Image]:
    """The code of a folder. ArtefactError where files are missing or damaged."""
    try:
        index = json.loads((folder / INDEX).read_text())
        images = []
        for entry in index["cubins"]:
            code = (folder / str(entry["file"])).read_bytes()
            if hashlib.sha256(code).hexdigest() != entry["sha256"]:
                raise ArtefactError(
                    f"{folder}: {entry['file']} is not the file that was written; optimize the model again"
                )
            shared = {str(name): int(needs["dynamic_shared_bytes"]) for name, needs in entry["kernels"].items()}
            images.append(Image(code, str(index["arch"]), shared))
    except OSError as error:
        raise ArtefactError(
            f"{folder}: {Path(error.filename).name} is missing from the artefact; optimize the model again"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{folder}: {INDEX} is damaged ({error!r}); optimize the model again") from error
    return images
