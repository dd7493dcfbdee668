"""Rules with one side condition removed: mutants of the sources of the rules and of what proves their conditions.

A side condition is a test that leads to a refusal; where it is a disjunction, each operand is one. In ``support`` every branch,
filter and conjunct is one. A mutant is that source without it, executed as modules of its own.
"""

from __future__ import annotations

import ast
import copy
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from passes.derive.rules import RULES
from tensoropt.rewrite.rule import Rule

HELPERS = (
    "passes.derive.support",
    "passes.derive.operators.product",
    "passes.derive.operators.operands",
    "passes.derive.polynomials",
)
"""Modules that hold conditions of several rules; a later one may use an earlier one."""

_LONGEST = 80
"""Longer conditions are cut in the name of a mutant."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A module without one of its conditions. ``name`` tells the module, the function and the condition."""

    module: str
    function: str
    condition: str
    number: int
    tree: ast.Module

    @property
    def name(self) -> str:
        """Stable while the source of the function stays."""
        again = f" #{self.number}" if self.number else ""
        text = self.condition if len(self.condition) <= _LONGEST else f"{self.condition[:_LONGEST]}..."
        return f"{self.module.rpartition('.')[2]}.{self.function}: {text}{again}"


def rule_modules() -> list[str]:
    """The modules of all rules, in the order of the table."""
    return list(dict.fromkeys(type(rule).__module__ for rule in RULES))


def all_mutants() -> list[Mutant]:
    """Of every rule in the table and of the helpers."""
    return [mutant for module in (*HELPERS, *rule_modules()) for mutant in mutants_of(module)]


def mutants_of(module: str) -> list[Mutant]:
    """Those of one module, in the order of its source."""
    tree = ast.parse(inspect.getsource(import_module(module)))
    refusals = _refusal_names(tree)
    found: list[Mutant] = []
    seen: dict[tuple[str, str], int] = {}
    for function, name in _functions(tree):
        places = list(_guards(function)) if module == HELPERS[0] else list(_conditions(function, refusals))
        for node, replacement, text in places:
            number = seen[name, text] = seen.get((name, text), -1) + 1
            found.append(Mutant(module, name, text, number, _without(tree, node, replacement)))
    return found


def mutated_rules(mutant: Mutant) -> list[Rule]:
    """The rules that the mutant touches, built from its source."""
    names = {mutant.module: mutant.tree}
    if mutant.module in HELPERS:
        later = HELPERS[HELPERS.index(mutant.module) + 1 :]
        names |= {module: _tree(module) for module in (*later, "passes.derive.operators.solving", *rule_modules())}
        touched = {mutant.module}
        for module, tree in names.items():
            if _uses(tree, touched):
                touched.add(module)
        names = {module: tree for module, tree in names.items() if module in touched}
    built = _executed(names)
    return [
        getattr(built[module], type(rule).__name__)()
        for rule in RULES
        for module in [type(rule).__module__]
        if module in built and (mutant.module in HELPERS or _belongs(mutant, rule, built[module]))
    ]


def _belongs(mutant: Mutant, rule: Rule, module: ModuleType) -> bool:
    """Whether a rule has the mutated function: as a method, or as a function of its module."""
    owner = mutant.function.partition(".")[0]
    others = {type(other).__name__ for other in RULES}
    return owner == type(rule).__name__ or owner not in others


def _tree(module: str) -> ast.Module:
    return ast.parse(inspect.getsource(import_module(module)))


def _uses(tree: ast.Module, changed: set[str]) -> bool:
    return any(isinstance(node, ast.ImportFrom) and node.module in changed for node in ast.walk(tree))


def _executed(trees: dict[str, ast.Module]) -> dict[str, ModuleType]:
    """The modules executed from these sources in order, so that they import one another and not the originals."""
    built: dict[str, ModuleType] = {}
    kept = {name: sys.modules[name] for name in trees}
    parents = {name: name.rpartition(".") for name in trees}
    attributes = {name: getattr(sys.modules[parent], own) for name, (parent, _, own) in parents.items()}
    try:
        for name, tree in trees.items():
            module = ModuleType(name)
            module.__file__ = kept[name].__file__
            sys.modules[name] = built[name] = module
            setattr(sys.modules[parents[name][0]], parents[name][2], module)
            exec(compile(ast.fix_missing_locations(tree), f"<mutant of {name}>", "exec"), module.__dict__)
    finally:
        sys.modules.update(kept)
        for name, (parent, _, own) in parents.items():
            setattr(sys.modules[parent], own, attributes[name])
    return built


# Finding conditions --------------------------------------------------------------------------------------------------

Place = tuple[ast.AST, ast.expr | None, str]
"""A node, what takes its place (None: it is dropped), and the text of the condition."""


def _functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef, str]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node, node.name
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name != "sites":
                    yield inner, f"{node.name}.{inner.name}"


def _refusal_names(tree: ast.Module) -> set[str]:
    return {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and _is_refusal(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _is_refusal(node: ast.expr | None, names: set[str]) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "Refusal"
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Name) and node.id in names)


def _conditions(function: ast.FunctionDef, names: set[str]) -> Iterator[Place]:
    """Tests that lead to a refusal (or to the text of one)."""
    for node in ast.walk(function):
        if isinstance(node, ast.If) and len(node.body) == 1:
            last = node.body[-1]
            if isinstance(last, ast.Return) and _is_refusal(last.value, names):
                yield from _operands(node.test)
        elif isinstance(node, ast.IfExp) and _is_refusal(node.orelse, names) != _is_refusal(node.body, names):
            other = node.body if _is_refusal(node.orelse, names) else node.orelse
            yield node, other, ast.unparse(node.test)


def _operands(test: ast.expr) -> Iterator[Place]:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        for operand in test.values:
            yield operand, ast.Constant(False), ast.unparse(operand)
    else:
        yield test, ast.Constant(False), ast.unparse(test)


def _guards(function: ast.FunctionDef) -> Iterator[Place]:
    """Every branch not taken, every filter and every conjunct left out."""
    for node in ast.walk(function):
        match node:
            case ast.If():
                yield from _operands(node.test)
            case ast.comprehension():
                for test in node.ifs:
                    yield test, ast.Constant(True), f"filter {ast.unparse(test)}"
            case ast.BoolOp(op=ast.And()):
                for operand in node.values:
                    yield operand, ast.Constant(True), f"conjunct {ast.unparse(operand)}"
            case ast.While() if not isinstance(node.test, ast.Constant):
                yield node.test, ast.Constant(False), f"while {ast.unparse(node.test)}"


class _Replacing(ast.NodeTransformer):
    def __init__(self, node: ast.AST, replacement: Any) -> None:
        self._node, self._replacement = node, replacement

    def visit(self, node: ast.AST) -> Any:
        return self._replacement if node is self._node else super().visit(node)


def _without(tree: ast.Module, node: ast.AST, replacement: ast.expr | None) -> ast.Module:
    """A copy of the tree with the node replaced."""
    memo: dict[int, Any] = {}
    duplicate = copy.deepcopy(tree, memo)
    result = _Replacing(memo[id(node)], copy.deepcopy(replacement)).visit(duplicate)
    assert isinstance(result, ast.Module)
    return result
