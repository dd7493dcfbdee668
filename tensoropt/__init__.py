"""tensoropt: a compiler-style optimizer of tensor programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensoropt.api import CompiledModel, bench, load, optimize, plan, tune

__version__ = "0.1.0"
__all__ = ["CompiledModel", "__version__", "bench", "load", "optimize", "plan", "tune"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used so that ``import tensoropt`` and ``--help`` stay fast."""
    if name in ("CompiledModel", "bench", "load", "optimize", "plan", "tune"):
        from tensoropt import api

        return getattr(api, name)
    raise AttributeError(f"module 'tensoropt' has no attribute {name!r}")
