"""The order in which variants are measured: the most promising by the model first, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from codegen.schedules.context import Offer
from codegen.targets.parsing import Target
from codegen.tune.database import Database
from codegen.tune.learned.features import Rows, described
from codegen.tune.learned.model import Absent, CostModel, Damaged, shipped
from codegen.tune.learned.stored import MOST, noted, samples_of
from codegen.tune.space import Variant

ENOUGH = 32
"""Measurements of this machine's database from which the model is refined by them."""


class LearnedOrder:
    """A ``space.Order``. The model is loaded at the first kernel, and refined by what a database knows.

    Without a model the order stays as it is. ``warnings`` says so where that is a defect, a sentence each.
    """

    def __init__(self, database: Database | None = None, model: CostModel | None = None) -> None:
        self.warnings: list[str] = []
        self._database, self._model, self._loaded = database, model, False

    def __call__(self, variants: Sequence[Variant], offers: Sequence[Offer], target: Target) -> list[Variant]:
        """The variants that the model knows in its order, in the places that such had; others stay where they are."""
        found = described(offers, target)
        if found is None:
            return list(variants)
        kind, rows = found
        noting = [_noting(variant, kind, rows) for variant in variants]
        model = self._ready()
        known = [place for place, variant in enumerate(variants) if _number(variant, kind, len(rows))]
        if model is None or not known:
            return noting
        scores = model.scores(rows)
        numbers = np.array([_number(variants[place], kind, len(rows)) for place in known])
        for place, better in zip(known, np.argsort(scores[numbers], kind="stable"), strict=True):
            promise = float(scores[0] - scores[numbers[better]])
            noting[place] = replace(_noting(variants[known[better]], kind, rows), promise=promise)
        return noting

    def _ready(self) -> CostModel | None:
        if not self._loaded:
            self._loaded = True
            try:
                model = self._model or shipped()
                samples = samples_of(self._database.latest(MOST)) if self._database is not None else []
                enough = sum(len(sample.seconds) for sample in samples) >= ENOUGH
                self._model = model.refined(samples) if enough else model
            except Absent:
                self._model = None
            except Damaged as damage:
                self._model = None
                self.warnings.append(str(damage))
        return self._model


def _number(variant: Variant, kind: str, count: int) -> int:
    """The number of a variant that is of the kind and nothing else; 0 for the default and all others."""
    number = variant.parameters.get(kind)
    return number if len(variant.parameters) == 1 and isinstance(number, int) and 0 < number < count else 0


def _noting(variant: Variant, kind: str, rows: Rows) -> Variant:
    """The variant with its features noted for learning."""
    number = _number(variant, kind, len(rows))
    if not number and variant.parameters:
        return variant
    return Variant(variant.parameters, variant.growth, noted(rows[number]))
