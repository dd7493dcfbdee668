"""The import contract: the core names no pass and no backend, passes and code generators never name one another."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {"tensoropt": {"passes", "codegen"}, "passes": {"codegen"}, "codegen": {"passes"}}
EXEMPT = Path("tensoropt/api")


def imported(file: Path) -> set[str]:
    """The top-level packages that a file imports, function bodies included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_packages_keep_to_their_side(package: str) -> None:
    files = [file for file in (ROOT / package).rglob("*.py") if EXEMPT not in file.relative_to(ROOT).parents]
    assert files
    wrong = {str(file.relative_to(ROOT)) for file in files if imported(file) & FORBIDDEN[package]}
    assert wrong == set()


def test_the_tests_have_no_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
