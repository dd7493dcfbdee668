"""How well a model orders the variants of kernels that it has not seen, from measured times alone.

Kernels are cut into folds; each fold is judged by a model of the others. All figures are means over kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from codegen.tune.learned.features import NAMES
from codegen.tune.learned.model import CostModel, learned
from codegen.tune.learned.replay import ENOUGH, default_first, pairwise_accuracy, regret, trials_needed
from codegen.tune.learned.samples import Numbers, Sample
from codegen.tune.learned.whole import trials_at_random, trials_by_gains, trials_by_promises

APART = 0.05
"""Pairs whose times differ by more are told apart by a repeated measurement."""
FOLDS = 5
OPERATOR = "random"
"""How the origins of single operators begin, which are no models."""
_PLACE = NAMES.index("place")

Compared = dict[str, list[tuple[Sample, "Figures"]]]
"""What each way to order variants is worth for each kernel."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one kernel, for one way to order its variants; ``trials`` are with the default first."""

    accuracy: float
    accuracy_apart: float
    regret: float
    trials: float


def figures(scores: Numbers, seconds: Numbers) -> Figures:
    """What an order by scores is worth."""
    return Figures(
        pairwise_accuracy(scores, seconds),
        pairwise_accuracy(scores, seconds, APART),
        regret(scores, seconds),
        float(trials_needed(default_first(scores), seconds)),
    )


def figures_of_chance(seconds: Numbers) -> Figures:
    """What a random order is worth on the average, exactly."""
    good = seconds <= seconds.min() / ENOUGH
    others = int(good[1:].sum())
    trials = 1.0 if good[0] else 1 + len(seconds) / (others + 1)
    return Figures(0.5, 0.5, float((seconds / seconds.min() - 1).mean()), trials)


def by_kernel(sample: Sample) -> str:
    """Every kernel is a group of its own, whatever the target."""
    return sample.kernel


def by_origin(sample: Sample) -> str:
    """All kernels of a model are one group; each random operator is one."""
    return sample.origin or sample.kernel


def judged(samples: Sequence[Sample], seed: int, group: Callable[[Sample], str]) -> Iterable[tuple[Sample, CostModel]]:
    """Every kernel with a model of the kernels of other folds."""
    groups = sorted({group(sample) for sample in samples})
    fold_of = dict(zip(groups, np.random.default_rng(seed).permutation(len(groups)) % FOLDS, strict=True))
    for fold in range(FOLDS):
        held = [sample for sample in samples if fold_of[group(sample)] == fold]
        rest = [sample for sample in samples if fold_of[group(sample)] != fold]
        if held and rest:
            model = learned(rest, seed)
            yield from ((sample, model) for sample in held)


def compared(samples: Sequence[Sample], seeds: Sequence[int], group: Callable[[Sample], str]) -> Compared:
    """Figures by the way of ordering, of every kernel and seed: learned, analytic, random, and by a second measurement.

    Orders are judged by the faster of two measurements, the second measurement by the first.
    """
    found: Compared = {"learned": [], "analytic": [], "random": []}
    for seed in seeds:
        for sample, model in judged(samples, seed, group):
            found["learned"].append((sample, figures(model.scores(sample.rows), sample.fastest)))
    for sample in samples:
        analytic = sample.rows[:, _PLACE].astype(np.float64)
        found["analytic"].append((sample, figures(analytic, sample.fastest)))
        found["random"].append((sample, figures_of_chance(sample.fastest)))
        if sample.again is not None:
            found.setdefault("measured again", []).append((sample, figures(sample.again, sample.seconds)))
    return found


@dataclass(frozen=True, slots=True)
class WholeModel:
    """How many trials the tuning of a model needs by the learned order, by the analytic one, and at random."""

    origin: str
    kernels: int
    learned: float
    analytic: float
    random: float


def whole_models(samples: Sequence[Sample], seeds: Sequence[int]) -> list[WholeModel]:
    """Each model of several kernels, tuned by what was learned from the kernels of other models; the means over seeds.

    Models whose defaults are fast enough need no trials, and are left out.
    """
    scores: dict[str, list[list[tuple[Sample, Numbers]]]] = {}
    for seed in seeds:
        of_model: dict[str, list[tuple[Sample, Numbers]]] = {}
        for sample, model in judged(samples, seed, by_origin):
            of_model.setdefault(by_origin(sample), []).append((sample, model.scores(sample.rows)))
        for origin, known in of_model.items():
            scores.setdefault(origin, []).append(known)
    found = []
    for origin, runs in scores.items():
        ones = [sample for sample, _ in runs[0]]
        analytic = [one.rows[:, _PLACE].astype(np.float64) for one in ones]
        by_chance = float(np.mean([trials_at_random(ones, seed) for seed in seeds]))
        if len(ones) > 1 and by_chance and not origin.startswith(OPERATOR):
            by_learned = [trials_by_promises([one for one, _ in run], [given for _, given in run]) for run in runs]
            by_estimate = float(trials_by_gains(ones, analytic))
            found.append(WholeModel(origin, len(ones), float(np.mean(by_learned)), by_estimate, by_chance))
    return sorted(found, key=lambda one: one.origin)


def table_of_models(found: Sequence[WholeModel]) -> str:
    """As Markdown, a line for each model and one for all."""
    lines = [
        f"| model | kernels | trials to {ENOUGH:.0%}: learned | analytic | random | learned / random |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    every = WholeModel(
        "all",
        sum(one.kernels for one in found),
        *(sum(getattr(one, way) for one in found) for way in ("learned", "analytic", "random")),
    )
    for one in (*found, every):
        share = one.learned / one.random if one.random else 0.0
        lines.append(
            f"| {one.origin} | {one.kernels} | {one.learned:.1f} | {one.analytic:.1f} | {one.random:.1f} | {share:.0%} |"
        )
    return "\n".join(lines)


def table(found: Compared) -> str:
    """The means as Markdown, a line for each way to order variants; trials also as a share of those of a random order."""
    lines = [
        f"| order | pairs | pairs over {APART:.0%} apart | top-1 regret | trials to {ENOUGH:.0%} | of random |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    chance = float(np.mean([one.trials for _, one in found["random"]]))
    for name, figures in found.items():
        ones = [one for _, one in figures]
        pairs = np.nanmean([one.accuracy for one in ones])
        apart = np.nanmean([one.accuracy_apart for one in ones])
        lost, trials = np.mean([one.regret for one in ones]), np.mean([one.trials for one in ones])
        lines.append(f"| {name} | {pairs:.3f} | {apart:.3f} | {lost:.1%} | {trials:.2f} | {trials / chance:.0%} |")
    return "\n".join(lines)
