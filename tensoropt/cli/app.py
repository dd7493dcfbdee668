"""The application: its verbs, and what becomes of an error."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer

from tensoropt import __version__
from tensoropt.cli import bench, cache, inspect, optimize, plan, rules, run_model, targets, tune
from tensoropt.cli.output import print_json
from tensoropt.errors import TensoroptError

app = typer.Typer(
    name="tensoropt",
    help="Optimize ONNX models by derivation, inspect what was rewritten, and run the result.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("optimize")(optimize.optimize)
app.command("run")(run_model.run)
app.command("bench")(bench.bench)
app.command("inspect")(inspect.inspect)
app.command("plan")(plan.plan)
app.command("tune")(tune.tune)
app.command("targets")(targets.targets)
app.command("rules")(rules.rules)
app.command("cache")(cache.cache)


_INTERRUPTED = 130


def _version(wanted: bool) -> None:
    if wanted:
        print(f"tensoropt {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of all verbs."""


def run(arguments: list[str]) -> int:
    """The exit status of the contract.

    0 done, 1 internal error, 2 usage or model, 3 no plan, 4 wrong result, 5 all devices lost, 130 interrupted.
    """
    wants_json = "--json" in arguments
    try:
        status = _status(lambda: app(arguments, prog_name="tensoropt", standalone_mode=True))
        if status == 2 and wants_json:  # the parser has said what is wrong on standard error
            print_json(
                {"error": {"kind": "UsageError", "message": "wrong usage; see standard error"}, "exit_status": 2}
            )
        if status == _INTERRUPTED:  # typer turns an interrupt into this status without a word
            raise KeyboardInterrupt
        return status
    except TensoroptError as error:
        return _fail(str(error), error.exit_status, wants_json, type(error).__name__)
    except KeyboardInterrupt:
        return _fail("interrupted; nothing was left half-written", _INTERRUPTED, wants_json, "Interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _internal(error, wants_json)


def _status(call: Callable[[], Any]) -> int:
    try:
        call()
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 0 if exit.code is None else 2
    return 0


def _fail(message: str, status: int, wants_json: bool, kind: str) -> int:
    print(f"tensoropt: {message}", file=sys.stderr)
    if wants_json:
        with contextlib.suppress(OSError):  # standard output may be what failed
            print_json({"error": {"kind": kind, "message": message}, "exit_status": status})
            sys.stdout.flush()
    return status


def _internal(error: Exception, wants_json: bool) -> int:
    with tempfile.NamedTemporaryFile("w", prefix="tensoropt-error-", suffix=".txt", delete=False) as file:
        file.write(f"tensoropt {__version__}, Python {sys.version}\narguments: {sys.argv[1:]}\n\n")
        traceback.print_exception(error, file=file)
    message = f"internal error: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return _fail(f"{message}; please report it with the file {file.name}", 1, wants_json, "InternalError")
