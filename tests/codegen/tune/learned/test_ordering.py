"""The order of variants: a permutation with the default first, whatever the model, and the analytic one where there is none."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen.schedules.context import Offer
from codegen.targets.cpu import CpuTarget, host_target
from codegen.targets.gpu import GpuTarget
from codegen.targets.named import NAMED
from codegen.targets.parsing import Target
from codegen.tune.database import Database
from codegen.tune.learned import model as models
from codegen.tune.learned import ordering
from codegen.tune.learned.features import NAMES, Rows, described
from codegen.tune.learned.model import Absent, CostModel, Damaged, learned, load
from codegen.tune.learned.ordering import LearnedOrder
from codegen.tune.learned.samples import Numbers, Sample
from codegen.tune.learned.stored import noted, samples_of
from codegen.tune.records import Records
from codegen.tune.space import DEFAULT, TEMPLATES, Variant, variants, with_known
from tensoropt.ir.expression import Scope
from tests.codegen.schedules.gpu.contraction.test_emit import product_of
from tests.codegen.tune.learned.test_features import offers_of
from tests.strategies.compilers import OPENCL
from tests.strategies.cut_kernels import cut_kernels, statement

CPU = host_target(2)
ALL = 10_000
PRODUCT = product_of((96, 160, 64), 1, (False, True))[0]
COLUMN = NAMES.index("block_rows")


class ByColumn(CostModel):
    """Scores that are one column of the features."""

    def __init__(self, column: int, sign: float) -> None:
        self.column, self.sign = column, sign

    def scores(self, rows: Rows) -> Numbers:
        found: Numbers = self.sign * np.nan_to_num(rows[:, self.column]).astype(np.float64)
        return found


def samples(count: int = 12, seed: int = 0) -> list[Sample]:
    """Kernels whose times follow one of their features."""
    found = described(offers_of(PRODUCT, frozenset(), CPU), CPU)
    assert found is not None
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        rows = found[1][generator.choice(len(found[1]), 24, replace=False)]
        made.append(Sample(str(number), rows, np.exp2(rows[:, COLUMN].astype(float) / 4)))
    return made


@given(
    kernel=cut_kernels(), target=st.sampled_from([CPU, OPENCL, NAMED["h200"]]),
    column=st.integers(0, len(NAMES) - 1), sign=st.sampled_from([-1.0, 1.0]), most=st.sampled_from([1, 6, 64, ALL]),
)  # fmt: skip
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_order_is_a_permutation_with_the_default_first(
    kernel: tuple[Scope, frozenset[str]], target: CpuTarget | GpuTarget, column: int, sign: float, most: int
) -> None:
    scope, constants = kernel
    seen: list[list[Variant]] = []

    def order(listed: Sequence[Variant], offers: Sequence[Offer], on: Target) -> list[Variant]:
        seen.append(list(listed))
        seen.append(LearnedOrder(model=ByColumn(column, sign))(listed, offers, on))
        return seen[-1]

    found = variants(statement(scope), constants, target, most, order=order)
    listed, ordered = seen
    assert found[0] == DEFAULT
    assert sorted(variant.key for variant in ordered) == sorted(variant.key for variant in listed)
    assert found == ordered[: min(most, TEMPLATES) if isinstance(target, CpuTarget) else most]
    assert variants(statement(scope), constants, target, most) == listed[: len(found)]


@pytest.mark.parametrize("target", [CPU, OPENCL, NAMED["h200"]])
def test_variants_come_in_the_order_of_their_scores(target: CpuTarget | GpuTarget) -> None:
    offers = offers_of(PRODUCT, frozenset(), target)
    found = described(offers, target)
    assert found is not None
    kind, rows = found
    listed = [DEFAULT, *(Variant({kind: number}) for number in range(1, len(rows))), Variant({"rows": 1})]
    ordered = LearnedOrder(model=ByColumn(COLUMN, 1.0))(listed, offers, target)
    assert ordered[-1] == listed[-1], "what the model does not know stays where it is"
    numbers = [variant.parameters[kind] for variant in ordered[1:-1]]
    assert (np.diff(rows[numbers, COLUMN]) >= 0).all()
    assert all(variant.noted == noted(rows[variant.parameters[kind]]) for variant in ordered[1:-1])


@pytest.mark.parametrize("reason", ["no library", "no file", "damaged", "cut off", "another format"])
def test_without_a_model_the_order_is_the_analytic_one(
    reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    learned(samples(2)).save(path)
    if reason == "no library":
        monkeypatch.setattr(models, "_library", _absent)
    elif reason == "no file":
        path.unlink()
    elif reason == "damaged":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(bytes(content))
    elif reason == "cut off":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.write_bytes(gzip.compress(b"{}"))
    monkeypatch.setattr(ordering, "shipped", lambda: load(path))
    order = LearnedOrder()
    kernel = statement(PRODUCT)
    found = variants(kernel, frozenset(), CPU, 12, order=order)
    assert found == variants(kernel, frozenset(), CPU, 12)
    assert bool(order.warnings) == (reason in ("damaged", "cut off", "another format"))
    assert all("analytic order" in warning and str(path) in warning for warning in order.warnings)


def _absent() -> None:
    raise Absent("not installed")


def test_a_model_is_learned_saved_and_read(tmp_path: Path) -> None:
    made, again = learned(samples()), learned(samples())
    path, other = tmp_path / "one", tmp_path / "other"
    made.save(path)
    again.save(other)
    assert path.read_bytes() == other.read_bytes(), "the same kernels make the same model"
    rows = samples(1, 7)[0].rows
    np.testing.assert_array_equal(load(path).scores(rows), made.scores(rows))
    assert np.corrcoef(made.scores(rows), rows[:, COLUMN])[0, 1] > 0.9
    path.write_bytes(b"no model")
    with pytest.raises(Damaged, match="cannot be read"):
        load(path)


def test_a_model_is_refined_by_what_contradicts_it() -> None:
    before = learned(samples())
    turned = [replace(sample, seconds=1 / sample.seconds) for sample in samples(12, 3)]
    after = before.refined(turned)
    rows = samples(1, 7)[0].rows
    agreement = [np.corrcoef(one.scores(rows), rows[:, COLUMN])[0, 1] for one in (before, after)]
    assert agreement[1] < agreement[0]


def test_what_is_stored_is_learned_from(tmp_path: Path) -> None:
    sample = samples(1)[0]
    sample = replace(sample, seconds=sample.seconds + np.arange(len(sample.seconds)) * 1e-3)  # no two are equal
    with Database(tmp_path / "db.sqlite") as database:
        records = Records(database, CPU)
        entries = {
            Variant({"contraction": number} if number else {}).key: {
                "seconds": float(seconds), "default_seconds": 2.0, "schedule": "", **noted(row)
            }
            for number, (row, seconds) in enumerate(zip(sample.rows, sample.seconds, strict=True))
        }  # fmt: skip
        records.write("kernel", entries)
        records.write("kernel", {"searched": {"trials": 3}, '{"contraction": 99}': {"failed": "it crashed"}})
        records.write("other", {'{"contraction": 1}': {"seconds": 1.0, "features": {"format": 0, "values": [1.0]}}})
        records.write("without its default", {key: one for key, one in entries.items() if key != DEFAULT.key})
        (found,) = samples_of(database.latest(1000))
    assert len(found.seconds) == len(sample.seconds)
    np.testing.assert_allclose(found.rows[0], sample.rows[0], rtol=1e-3, err_msg="the default is not the first")
    order, expected = np.argsort(found.seconds), np.argsort(sample.seconds)
    np.testing.assert_allclose(np.sort(found.seconds), np.sort(sample.seconds) / 2)
    np.testing.assert_allclose(found.rows[order][0], sample.rows[expected][0], rtol=1e-3)


def test_the_faster_of_two_times_is_learned() -> None:
    sample = Sample("one", np.zeros((3, 1), np.float32), np.array([4.0, 2.0, 8.0]), np.array([1.0, 3.0, 8.0]))
    np.testing.assert_allclose(sample.behind, [0.0, 1.0, 3.0])


def test_what_is_better_than_the_default_is_so_in_kernels_of_another_size() -> None:
    """Rows of kernels far apart, in each of which less of a feature than the default has is faster."""

    def scaled(offset: float, seed: int) -> Sample:
        (sample,) = samples(1, seed)
        rows = sample.rows.copy()
        rows[:, COLUMN] += offset
        return replace(sample, kernel=str(offset), rows=rows)

    model = learned([scaled(10.0 * number, number) for number in range(12)])
    unseen = scaled(500.0, 99)
    assert np.corrcoef(model.scores(unseen.rows), unseen.seconds)[0, 1] > 0.8


def test_known_variants_count_as_trials() -> None:
    listed = [DEFAULT, *(Variant({"contraction": number}) for number in (7, 8, 9))]
    measured = {"seconds": 1.0, "schedule": "contraction"}
    entries: dict[str, dict[str, Any]] = {
        "{}": measured,
        '{"contraction": 1}': measured,
        '{"contraction": 2}': {"failed": "it crashed"},
        '{"contraction": 8}': measured,
        '{"metaschedule": "trace"}': measured,
        "searched": {"trials": 40},
    }
    found = with_known(listed, entries)
    assert found[0] is DEFAULT
    assert len(found) == len(listed)
    assert [variant.key for variant in found if variant.key not in entries] == []
    assert with_known(listed, {}) == listed
