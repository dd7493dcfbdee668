"""A rewritten expression as statements: one for each nested scope, and one for whatever constants alone decide."""

from __future__ import annotations

from collections.abc import Collection

from tensoropt.ir.expression import Scope, Tensor, accesses, replace_sources, tensors
from tensoropt.ir.program import Compute


def statements_of(
    root: Scope, output: Tensor, constants: Collection[str], taken: Collection[str], origin: tuple[str, ...]
) -> tuple[Compute, ...]:
    """The statements in order, the last assigns ``output``. New tensors are named after it, by names that are not taken."""
    mapping: dict[Tensor | Scope, Tensor | Scope] = {}
    statements: list[Compute] = []
    used = set(taken)

    def visit(scope: Scope, top: bool) -> None:
        if scope in mapping:
            return
        if top or not _is_known(scope, constants):
            for access in accesses(scope.body):
                if isinstance(access.source, Scope):
                    visit(access.source, False)
        if not top:
            kind = "constant" if _is_known(scope, constants) else "part"
            tensor = Tensor(_fresh(f"{output.name}/{kind}", used), scope.type)
            statements.append(Compute(tensor, replace_sources(scope, mapping), origin))
            mapping[scope] = tensor

    visit(root, True)
    return (*statements, Compute(output, replace_sources(root, mapping), origin))


def _is_known(scope: Scope, constants: Collection[str]) -> bool:
    return all(tensor.name in constants for tensor in tensors(scope))


def _fresh(base: str, used: set[str]) -> str:
    number = next(number for number in range(len(used) + 1) if f"{base}{number}" not in used)
    used.add(f"{base}{number}")
    return f"{base}{number}"
