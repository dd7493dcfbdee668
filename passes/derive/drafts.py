"""From a state whose core is a library operator to statements: relayouts, the operator, the gather-add."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import prod

from passes.derive.candidate import SearchReport
from passes.derive.matching import LibraryMatch, describe
from passes.derive.product import factors_of
from passes.derive.proposals import mixed_components
from passes.derive.solving import band_sites, convolution_sites, matmul_sites
from passes.derive.state import MERGE, MERGE_RULE, Application, State, applied, compacted
from tensoropt.ir.expression import Scope, Tensor, accesses, free_iterators, replace_sources, tensors
from tensoropt.ir.operators import Parameters
from tensoropt.ir.program import Compute
from tensoropt.rewrite.rule import Path, Refusal, Site, nested_at

_REPEATED = 4
"""How often, on average, relaying an operand may repeat its elements where its blocks overlap."""


Named = tuple[str, Parameters]
"""An operator by its name and parameters."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A candidate that nothing has checked yet."""

    root: Scope
    chain: tuple[Application, ...]
    statements: tuple[Compute, ...]
    matched: tuple[LibraryMatch, ...]


def drafts_of(
    state: State,
    output: Tensor,
    constants: Collection[str],
    excluded: Collection[str],
    report: SearchReport,
    written: Collection[Named] = (),
) -> Iterable[Draft]:
    """Every way to instantiate the state's core, but not as an operator that was written so."""
    core = state.core
    tried: list[tuple[str, Site]] = []
    if not mixed_components(core) or state.moves == 0 or _repeats_little(core):
        tried += [("match_matmul", site) for site in matmul_sites(core, constants)]
    if state.moves == 0:
        tried = [(rule, site) for rule, site in tried if _fuses(site)]  # otherwise it is the operator that was written
    else:
        tried += _windows(core, constants)
    tried = [(rule, site) for rule, site in tried if rule not in excluded]
    if not tried:
        return
    short = compacted(state, report)
    for rule, site in tried:
        draft = _instantiated(short, rule, site, output, report)
        if draft is not None and (draft.matched[0].operator, draft.matched[0].parameters) not in written:
            yield draft


def as_written(state: State, output: Tensor, constants: Collection[str]) -> frozenset[Named]:
    """The operators with windows that the start of a search is without any move."""
    drafts = (
        _instantiated(state, rule, site, output, SearchReport()) for rule, site in _windows(state.core, constants)
    )
    return frozenset((draft.matched[0].operator, draft.matched[0].parameters) for draft in drafts if draft is not None)


def _windows(core: Scope, constants: Collection[str]) -> list[tuple[str, Site]]:
    return [
        *(("match_convolution", site) for site in convolution_sites(core, constants)),
        *(("match_band_matmul", site) for site in band_sites(core, core.traversal, constants)),
        *(("match_matmul_band", site) for site in band_sites(core, core.reduction, constants)),
    ]


def _fuses(site: Site) -> bool:
    """Whether a matmul gathers several iterators to one axis."""
    return any(len(site.names(group)) > 1 for group in ("batch", "rows", "columns", "sums"))


def _repeats_little(core: Scope) -> bool:
    """Whether a batched operand whose axes overlap (blocks of a band) can be laid out with few repetitions."""
    factors = factors_of(core)
    if factors is None or not frozenset.intersection(*map(free_iterators, factors)) & set(core.traversal):
        return False
    return all(
        prod(iterator.extent for iterator in free_iterators(access)) <= _REPEATED * access.source.type.elements
        for access in accesses(core.body)
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
    match = describe(rule, library)
    if match is None:
        report.rejected.append(f"{rule} built what is not the operator that it says")
        return None
    statements = outlined(root, library, output)
    return Draft(root, tuple(chain), statements, (match,))


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
