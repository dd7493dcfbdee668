"""Cases of the table of derivations that several expressions take part in."""

from __future__ import annotations

from collections.abc import Callable

from examples.combined_operators import (
    Combined,
    Shape,
    combined,
    einsum,
    linear_maps,
    normalised_convolution,
    projections,
)
from examples.derivations import Case, Result
from tensoropt.ir.program import Program


def rewritten(build: Callable[[], Program], is_wanted: Callable[[Combined], bool]) -> Callable[[], Result]:
    """The measurement of a program that the combining passes rewrite; whether it was found is asked of what they did and derived.

    The passes are not cut into first and rest: both times are those of all of them, checks included.
    """

    def measure() -> Result:
        found = combined(build)
        told = next((entry for entry in found.derivations if entry["kept"]), None) or next(
            iter(found.derivations), None
        )
        before, after = found.cost(found.before), found.cost(found.after)
        return Result(
            is_wanted(found),
            tuple(dict.fromkeys(step.partition("(")[0] for step in told["chain"])) if told else (),
            told["pattern"] if told else "as written",
            len(found.derivations),
            len(found.derivations),
            found.seconds,
            found.seconds,
            told["estimated_seconds"] * 1e3 if told and not told["kept"] else after,
            min(before, after),
            told["pattern"] if told and told["kept"] else "as written",
            None,
            f"contractions {found.contractions()} in {len(found.after.statements)} statements",
        )

    return measure


def _leaves(contractions: list[Shape], statements: int) -> Callable[[Combined], bool]:
    """Whether these contractions are left, in so many statements at the most."""
    return lambda found: found.contractions() == sorted(contractions) and len(found.after.statements) <= statements


def combined_cases() -> dict[str, Case]:
    """By number and letter."""
    return {
        "11": Case(
            "three projections of 512x768",
            "one matmul",
            rewritten(
                lambda: projections(512, 768, 3),
                lambda found: any(
                    entry["pattern"] == "3 contractions of one input as 1" for entry in found.derivations
                ),
            ),
        ),
        "12": Case(
            "Einsum ij,jk,kl->il 1024x512x2048x8",
            "two matmuls, the right pair first",
            rewritten(lambda: einsum((1024, 512, 2048, 8)), _leaves([(8, 512, 1024), (8, 512, 2048)], 2)),
        ),
        "13a": Case(
            "linear 1024 to 1024 to 64, 256 rows",
            "one linear map",
            rewritten(lambda: linear_maps(256, (1024, 1024, 64)), _leaves([(64, 256, 1024)], 2)),
        ),
        "13b": Case(
            "linear 1024 to 32 to 1024, 256 rows",
            "two: one map would be dearer",
            rewritten(lambda: linear_maps(256, (1024, 32, 1024)), _leaves([(32, 256, 1024)] * 2, 4)),
        ),
        "14": Case(
            "scale, Conv3x3 64x56x56 + bias, BatchNormalization, scale, shift, Relu",
            "Conv, one addition, Relu",
            rewritten(lambda: normalised_convolution(64, 56, 64), _leaves([(3, 3, 56, 56, 64, 64)], 3)),
        ),
    }
