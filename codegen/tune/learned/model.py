"""The model itself: trees of decisions that predict how far variants of a kernel are apart (``objective``).

They see the numbers of a variant, and by how much these differ from those of the kernel's default: what is better than the
default in one kernel tends to be so in another, whatever both are in themselves.

The file is XGBoost's own (UBJSON, https://xgboost.readthedocs.io, compressed by gzip), the names of its columns are in it, and the
attribute ``format`` says what they mean. It needs the package xgboost-cpu, of the extra ``tune``, and is loaded when it is first
used.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from codegen.tune.learned.features import FORMAT, NAMES, Rows
from codegen.tune.learned.objective import objective
from codegen.tune.learned.samples import Numbers, Sample

FILE = Path(__file__).with_name("cost_model.ubj.gz")
"""What was learned from the kernels of ``examples.cost_model``."""

TREES = 150
MORE_TREES = 40
"""That are added for what this machine has measured."""

_PARAMETERS = {
    "tree_method": "hist",
    "num_parallel_tree": 4,  # their mean: what one tree makes of few kernels is half chance
    "max_depth": 6,
    "eta": 0.1,
    "subsample": 0.7,
    "colsample_bytree": 0.6,
    "min_child_weight": 1,
    "base_score": 0.0,
    "disable_default_eval_metric": True,  # of an objective of ours it is not known
    "nthread": 1,  # quick enough, and kernels that are being built or timed keep the other processors
}


_OF_TRAINING = ("base_weights", "loss_changes", "sum_hessian")
"""What a file of XGBoost has for each node beside where it leads, and what a leaf gives: more than half of it."""

COLUMNS = (*NAMES, *(f"{name} beside the default" for name in NAMES))
"""What the trees see."""


class Absent(Exception):
    """There is no model: neither the library nor the file is needed."""


class Damaged(Exception):
    """The file is no model of this format."""


class CostModel:
    """Scores of variants, by their features."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster

    def scores(self, rows: Rows) -> Numbers:
        """For each row how many times longer than others it takes, as a logarithm to the base 2; only differences mean something.

        The rows are of one kernel, the default first.
        """
        found = self._booster.inplace_predict(_seen(rows), validate_features=False)
        return np.asarray(found, np.float64)

    def refined(self, samples: Sequence[Sample], seed: int = 0) -> CostModel:
        """A model that knows these kernels too: trees are added for what is left to explain. Less than two variants say nothing."""
        samples = [sample for sample in samples if len(sample.seconds) > 1]
        return CostModel(_trained(samples, MORE_TREES, seed, self._booster)) if samples else self

    def save(self, path: Path) -> None:
        """Writes the file, without what is known of the training and not needed to predict; equal models are equal files."""
        whole = json.loads(self._booster.save_raw("json"))
        for tree in whole["learner"]["gradient_booster"]["model"]["trees"]:
            for name in _OF_TRAINING:
                tree[name] = [0.0] * len(tree[name])
        bare = _library().Booster(model_file=bytearray(json.dumps(whole).encode()))
        bare.set_attr(format=str(FORMAT))
        path.write_bytes(gzip.compress(bytes(bare.save_raw("ubj")), 9, mtime=0))


def learned(samples: Sequence[Sample], seed: int = 0) -> CostModel:
    """A model of these kernels. Absent where the library is missing."""
    return CostModel(_trained(samples, TREES, seed, None))


def load(path: Path = FILE) -> CostModel:
    """The model of a file. Absent where there is none or no library that reads it, Damaged where it is another's or not whole."""
    xgboost = _library()
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise Absent(f"there is no {path}") from error
    except (OSError, EOFError, ValueError) as error:  # gzip checks that every byte is as it was
        raise Damaged(
            f"the cost model {path} cannot be read ({error}); variants are measured in the analytic order"
        ) from error
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
    except (xgboost.core.XGBoostError, ValueError, TypeError) as error:
        raise Damaged(
            f"the cost model {path} is no model of XGBoost; variants are measured in the analytic order"
        ) from error
    if booster.attr("format") != str(FORMAT) or tuple(booster.feature_names or ()) != COLUMNS:
        raise Damaged(f"the cost model {path} is of another version; variants are measured in the analytic order")
    return CostModel(booster)


@cache
def shipped() -> CostModel:
    """The model that comes with this version, read once. Errors as ``load``."""
    return load()


def _trained(samples: Sequence[Sample], trees: int, seed: int, before: Any) -> Any:
    xgboost = _library()
    data = xgboost.DMatrix(np.concatenate([_seen(sample.rows) for sample in samples]), feature_names=list(COLUMNS))
    parameters = {**_PARAMETERS, "seed": seed}
    return xgboost.train(parameters, data, trees, obj=objective(samples), xgb_model=before)


def _seen(rows: Rows) -> Rows:
    """A row of ``COLUMNS`` for each of a kernel's variants, the default first."""
    return np.concatenate([rows, rows - rows[0]], axis=1)


def _library() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise Absent("xgboost-cpu is not installed") from error
    return xgboost
