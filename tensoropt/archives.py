"""Inputs and outputs as ``.npz`` files: arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tensoropt.errors import InputError, UsageError
from tensoropt.ir.program import Array


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an archive by name. InputError where it cannot be read."""
    import zipfile

    import numpy as np

    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: this is not a readable .npz file of inputs by name ({error})") from error


def write_arrays(path: Path, results: Mapping[str, Array]) -> None:
    """The outputs as one ``.npz``, complete or not at all. Any name will do, which ``np.savez`` does not offer."""
    import zipfile

    import numpy as np

    if not path.name or path.is_dir():
        raise UsageError(f"{path}: a folder cannot hold the outputs; give the name of an .npz file")
    partial = path.with_name(f".{path.name}.partial")
    try:
        with zipfile.ZipFile(partial, "w") as archive:
            for name, array in results.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UsageError(f"{path}: the outputs cannot be written there ({error.strerror})") from error
