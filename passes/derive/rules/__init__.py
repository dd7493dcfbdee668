"""The derivation rules, by family; ``RULES`` is the table that searches, replays and ``tensoropt rules`` use."""

from __future__ import annotations

from passes.derive.operators.patterns import MatchBandMatmul, MatchConvolution, MatchMatmul, MatchMatmulBand
from passes.derive.rules.boundary import CompactWindow, DropUnits, RelaxReduction, RelaxTraversal, Tighten
from passes.derive.rules.collapsing import CollapseTraversal, DropIdle
from passes.derive.rules.distribution import Distribute, DistributeSum, GroupTerms, SeparateTerms
from passes.derive.rules.division import DivideAfter
from passes.derive.rules.exponential import BlockExponentials, ShiftToMaximum
from passes.derive.rules.merging import Concatenate, CutRange, JoinRanges
from passes.derive.rules.products import DivideByReciprocal, FlattenProduct, GroupFactors, ScaleSource
from passes.derive.rules.reductions import SplitOverlapping, UnitFactor, ViewResidues
from passes.derive.rules.reindexing import SkewReduction, SkewTraversal
from passes.derive.rules.splitting import SplitReduction, SplitTraversal
from passes.derive.rules.stacking import Stack
from passes.derive.rules.staging import Merge, Stage
from passes.derive.rules.winograd import Winograd
from tensoropt.rewrite.rule import Rule

RULES: tuple[Rule, ...] = (
    SplitTraversal(),
    SplitReduction(),
    SkewTraversal(),
    SkewReduction(),
    Stage(),
    Merge(),
    Tighten(),
    RelaxTraversal(),
    RelaxReduction(),
    DropUnits(),
    CompactWindow(),
    GroupFactors(),
    ScaleSource(),
    FlattenProduct(),
    DivideByReciprocal(),
    Distribute(),
    DistributeSum(),
    SeparateTerms(),
    GroupTerms(),
    Concatenate(),
    Stack(),
    CutRange(),
    JoinRanges(),
    CollapseTraversal(),
    DropIdle(),
    UnitFactor(),
    SplitOverlapping(),
    ViewResidues(),
    BlockExponentials(),
    ShiftToMaximum(),
    DivideAfter(),
    Winograd(),
    MatchMatmul(),
    MatchConvolution(),
    MatchBandMatmul(),
    MatchMatmulBand(),
)

RULES_BY_NAME: dict[str, Rule] = {rule.name: rule for rule in RULES}
