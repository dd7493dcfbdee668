"""What is compared on a GPU: the seven models, the four published operator cases, and kernels as shares of the peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import onnx

from examples.gpu.operators import KERNELS, PUBLISHED, SMALL, Band, Operator, Product, converted
from examples.models import BUILDERS, FORMULATIONS

SEVEN = ("infogan", "dcgan", "fsrcnn", "gcn", "resnet18", "csrnet", "longformer_gathered")
"""The models of the published comparison of derivation-based optimizers."""

GROUPS = ("models", "operators", "kernels")

LARGE = 2e10
"""Operations of an operator that are too many to be checked on a processor."""

_TABLES = {"operators": PUBLISHED, "kernels": KERNELS, "small": SMALL}


@dataclass(frozen=True, slots=True)
class Case:
    """One row: a name of a group (``models``, ``operators``, ``kernels`` or ``small``) at a type, models at a batch size."""

    group: str
    name: str
    dtype: str
    batch: int = 1

    @property
    def label(self) -> str:
        """As tables have it."""
        return f"{self.name}, {self.dtype}" + (f", batch {self.batch}" if self.group == "models" else "")

    @property
    def folder(self) -> str:
        """A name for what is made of it, of letters, digits and underscores."""
        plain = "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in self.label)
        return f"{self.group}-{plain}"

    @property
    def operator(self) -> Operator | None:
        """Its sizes; None for a model."""
        return _TABLES[self.group][self.name] if self.group in _TABLES else None

    @property
    def checked(self) -> bool:
        """Whether it is compared with ONNX Runtime when it is compiled, and not only with PyTorch when it is timed.

        ONNX Runtime multiplies no bf16, and would store 41 GB of the band product as it is defined. What is large for a GPU takes
        minutes on a processor.
        """
        operator = self.operator
        return operator is None or (
            self.dtype != "bf16" and operator.operations <= LARGE and not isinstance(operator, Band)
        )

    def model(self) -> onnx.ModelProto:
        """What ours compiles. Not to be changed: the same is given again."""
        return _model(self)

    def formulations(self) -> dict[str, onnx.ModelProto]:
        """What a peer runs, by name: the fastest one counts, and plain TVM is given the first."""
        operator = self.operator
        if isinstance(operator, Band):  # the gathered rows of its definition would take 41 GB
            return {f"chunks of {chunk}": operator.chunked(self.dtype, chunk) for chunk in (250, 500)}
        others = FORMULATIONS.get(self.name, {}) if operator is None else {}
        return {self.name: self.model()} | {
            name: converted(build(self.batch), self.dtype) for name, build in others.items()
        }


@lru_cache(maxsize=1)
def _model(case: Case) -> onnx.ModelProto:
    """Kept for a while, because a model of 130 MiB takes seconds."""
    operator = case.operator
    return converted(BUILDERS[case.name](case.batch), case.dtype) if operator is None else operator.model(case.dtype)


def chosen(groups: Sequence[str], names: Sequence[str], batches: Sequence[int], types: Sequence[str]) -> list[Case]:
    """The rows of these groups, the most wanted first. With names, those whose name has one of them, and other models too.

    bf16 is for matrix products: the converter makes no models of it.
    """
    found = []
    for group in groups:
        if group == "models":
            models = [name for name in BUILDERS if name in names] if names else list(SEVEN)
            found += [Case(group, name, dtype, batch) for batch in batches for dtype in types for name in models]
            continue
        for name, operator in _TABLES[group].items():
            if not names or any(part in name for part in names):
                found += [
                    Case(group, name, dtype) for dtype in types if dtype != "bf16" or isinstance(operator, Product)
                ]
    return [case for case in found if case.group != "models" or case.dtype != "bf16"]
