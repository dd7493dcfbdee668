"""From a state whose core is a library operator to statements: relayouts, the operator, the gather-add."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import prod

from passes.derive.candidate import SearchReport
from passes.derive.matching import LibraryMatch, convolution_sites, describe, matmul_sites
from passes.derive.patterns import factor_accesses, used
from passes.derive.proposals import mixed_components
from passes.derive.state import MERGE, MERGE_RULE, Application, State, applied, compacted
from tensoropt.ir.expression import Scope, Tensor, accesses, replace_sources, tensors
from tensoropt.ir.program import Compute
from tensoropt.rewrite.rule import Path, Refusal, Site, nested_at

_REPEATED = 4
"""How often, on average, relaying an operand may repeat its elements where its blocks overlap."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A candidate that nothing has checked yet."""

    root: Scope
    chain: tuple[Application, ...]
    statements: tuple[Compute, ...]
    matched: tuple[LibraryMatch, ...]


def drafts_of(
    state: State, output: Tensor, constants: Collection[str], excluded: Collection[str], report: SearchReport
) -> Iterable[Draft]:
    """Every way to instantiate the state's core."""
    tried: list[tuple[str, Site]] = []
    if not mixed_components(state.core) or state.moves == 0 or _repeats_little(state.core):
        tried += [("match_matmul", site) for site in matmul_sites(state.core, constants)]
    if state.moves == 0:
        tried = [(rule, site) for rule, site in tried if _fuses(site)]  # otherwise it is the operator that was written
    else:
        tried += [("match_convolution", site) for site in convolution_sites(state.core, constants)]
    tried = [(rule, site) for rule, site in tried if rule not in excluded]
    if not tried:
        return
    short = compacted(state, report)
    for rule, site in tried:
        draft = _instantiated(short, rule, site, output, report)
        if draft is not None:
            yield draft


def _fuses(site: Site) -> bool:
    """Whether a matmul gathers several iterators to one axis."""
    return any(len(site.names(group)) > 1 for group in ("batch", "rows", "columns", "sums"))


def _repeats_little(core: Scope) -> bool:
    """Whether a batched operand whose axes overlap (blocks of a band) can be laid out with few repetitions."""
    factors = factor_accesses(core)
    if factors is None or not used(factors[0]) & used(factors[1]) & set(core.traversal):
        return False
    return all(
        prod(iterator.extent for iterator in used(access)) <= _REPEATED * access.source.type.elements
        for access in factors
    )


def _instantiated(state: State, rule: str, site: Site, output: Tensor, report: SearchReport) -> Draft | None:
    path = state.path
    root = applied(report, rule, state.root, path, site)
    if isinstance(root, Refusal):
        return None
    chain = [*state.chain, (rule, path, site)]
    library_path: Path = (*path, 0)
    if path:
        merged = applied(report, MERGE_RULE, root, (), MERGE)
        if not isinstance(merged, Refusal):
            root, library_path = merged, (0,)
            chain.append((MERGE_RULE, (), MERGE))
    library = nested_at(root, library_path)
    assert library is not None
    statements = outlined(root, library, output)
    return Draft(root, tuple(chain), statements, (describe(rule, library),))


def outlined(root: Scope, library: Scope, output: Tensor) -> tuple[Compute, ...]:
    """The library operator and the relayouts that it reads as statements of their own, then what is left of the root."""
    statements: list[Compute] = []
    mapping: dict[Tensor | Scope, Tensor | Scope] = {}
    for access in accesses(library.body):
        if isinstance(access.source, Scope) and access.source not in mapping:
            read = "_".join(tensor.name.rpartition("/")[2] for tensor in tensors(access.source))
            tensor = Tensor(f"{output.name}/relaid{len(mapping)}_{read}", access.source.type)
            statements.append(Compute(tensor, access.source))
            mapping[access.source] = tensor
    product = Tensor(f"{output.name}/product", library.type)
    statements.append(Compute(product, replace_sources(library, mapping)))
    statements.append(Compute(output, replace_sources(root, {library: product})))
    return tuple(statements)
