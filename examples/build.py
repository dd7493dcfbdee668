"""Write the example models as ONNX files: `python -m examples.build NAME|all [-o DIR] [--batch N]`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from examples.models import BUILDERS


def write(name: str, folder: Path, batch: int = 1) -> Path:
    """Build the model `name` and write it to `folder`/`name`.onnx, whole or not at all; return the file's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    unfinished = path.with_suffix(f".onnx.{os.getpid()}")
    try:
        unfinished.write_bytes(BUILDERS[name](batch).SerializeToString(deterministic=True))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and write the models that it names."""
    parser = argparse.ArgumentParser(prog="python -m examples.build", description=__doc__.split(":")[0])
    parser.add_argument(
        "names", nargs="+", choices=[*BUILDERS, "all"], metavar="NAME", help=f"{', '.join(BUILDERS)}, or all"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("."), metavar="DIR", help="folder to write to")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="batch size, fixed in the file")
    options = parser.parse_args(arguments)
    for name in BUILDERS if "all" in options.names else options.names:
        print(write(name, options.output, options.batch))


if __name__ == "__main__":
    main()
