"""From a state whose core is a library operator to statements: relayouts, the operator, the gather-add."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from math import prod

from passes.derive.candidate import SearchReport
from passes.derive.operators.matching import LibraryMatch, describe, recognised
from passes.derive.operators.product import factors_of
from passes.derive.operators.solving import band_sites, convolution_sites, matmul_sites
from passes.derive.proposals import mixed_components
from passes.derive.state import MERGE, MERGE_RULE, Application, State, applied, compacted
from tensoropt.ir.expression import Access, Scope, Tensor, accesses, free_iterators, replace_sources, tensors
from tensoropt.ir.operators import Parameters
from tensoropt.ir.program import Compute
from tensoropt.ir.structure import is_contraction
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
    tried += _windows(core, constants)
    tried = [(rule, site) for rule, site in tried if rule not in excluded]
    if not tried:
        return
    short = compacted(state, report)
    for rule, site in tried:
        draft = _instantiated(short, rule, site, output, constants, report)
        if draft is not None and (draft.matched[0].operator, draft.matched[0].parameters) not in written:
            yield draft


def as_written(state: State, output: Tensor, constants: Collection[str]) -> frozenset[Named]:
    """The operators with windows that the start of a search is as it stands: without any move, and no data is moved either."""
    drafts = (
        _instantiated(state, rule, site, output, constants, SearchReport())
        for rule, site in _windows(state.core, constants)
    )
    return frozenset(
        (match.operator, match.parameters)
        for match in (draft.matched[0] for draft in drafts if draft is not None)
        if all(read.name in constants for moved in match.relayouts for read in tensors(moved))
    )


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


def _instantiated(
    state: State, rule: str, site: Site, output: Tensor, constants: Collection[str], report: SearchReport
) -> Draft | None:
    path = state.path
    root = applied(report, rule, state.root, path, site)
    if isinstance(root, Refusal):
        return None
    chain = [*state.chain, (rule, path, site)]
    place: Path = (*path, 0)
    if path:
        merged = applied(report, MERGE_RULE, root, (), MERGE)
        if not isinstance(merged, Refusal):
            root, place = merged, (0,)
            chain.append((MERGE_RULE, (), MERGE))
    built = [(rule, place)]
    for waiting in built:  # grows while it is walked
        root = _with_operands(root, waiting[1], chain, built, constants, report)
    libraries = [nested_at(root, where) for _, where in built]
    matches = [describe(made, found) for (made, _), found in zip(built, libraries, strict=True) if found is not None]
    if None in matches or len(matches) < len(built):
        report.rejected.append(f"{rule} built what is not the operator that it says")
        return None
    statements = outlined(root, [found for found in libraries if found is not None], output)
    rest = recognised(statements[-1].expression)
    proved = [match for match in (*matches, rest) if match is not None]
    return Draft(root, tuple(chain), statements, tuple(proved))


def _with_operands(
    root: Scope,
    place: Path,
    chain: list[Application],
    built: list[tuple[str, Path]],
    constants: Collection[str],
    report: SearchReport,
) -> Scope:
    """The root with operands of the operator at this place that are contractions themselves made operators too."""
    library = nested_at(root, place)
    assert library is not None
    for position in range(len(accesses(library.body))):
        path, found = _contraction_below(root, (*place, position))
        site = _in_place(found, constants) if found is not None else None
        if site is None:
            continue
        result = applied(report, "match_matmul", root, path, site)
        if isinstance(result, Refusal):
            continue
        root = result
        chain.append(("match_matmul", path, site))
        if path[:-1] != place:  # read by what brings it into place, which can read the operator itself
            merge = Site.of(access=path[-1])
            merged = applied(report, MERGE_RULE, root, path[:-1], merge)
            if not isinstance(merged, Refusal):
                root = merged
                chain.append((MERGE_RULE, path[:-1], merge))
                built.append(("match_matmul", path))
                continue
        built.append(("match_matmul", (*path, 0)))
    return root


def _in_place(scope: Scope, constants: Collection[str]) -> Site | None:
    """The way to take a contraction as a matmul that gives its axes in their order, if there is one, else any."""
    order = tuple(iterator.name for iterator in scope.traversal)
    sites = list(matmul_sites(scope, constants))
    fitting = [site for site in sites if (*site.names("batch"), *site.names("rows"), *site.names("columns")) == order]
    return next(iter((*fitting, *sites)), None)


def _contraction_below(root: Scope, path: Path) -> tuple[Path, Scope | None]:
    """The contraction that the scope at the end of a path is or moves, and its path."""
    scope = nested_at(root, path)
    while scope is not None and not is_contraction(scope):
        path = (*path, 0)
        scope = nested_at(root, path) if isinstance(scope.body, Access) else None
    return path, scope


def outlined(root: Scope, libraries: list[Scope], output: Tensor) -> tuple[Compute, ...]:
    """Library operators and the relayouts that they read as statements of their own, then what is left of the root.

    The first one is the main operator; those that it reads, directly or through others, follow it.
    """
    statements: list[Compute] = []
    mapping: dict[Tensor | Scope, Tensor | Scope] = {}

    def made(name: str, scope: Scope) -> None:
        tensor = Tensor(f"{output.name}/{name}", scope.type)
        statements.append(Compute(tensor, replace_sources(scope, mapping)))
        mapping[scope] = tensor

    relaid = 0
    for number, library in sorted(enumerate(libraries), reverse=True):
        for access in accesses(library.body):
            if isinstance(access.source, Scope) and access.source not in mapping:
                read = "_".join(tensor.name.rpartition("/")[2] for tensor in tensors(access.source))
                made(f"relaid{relaid}_{read}", access.source)
                relaid += 1
        if library not in mapping:
            made(f"product{number or ''}", library)
    statements.append(Compute(output, replace_sources(root, mapping)))
    return tuple(statements)
