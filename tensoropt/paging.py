"""Paging: how long it takes to copy what a step writes to the host, or back, from a rate as people write it."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from tensoropt.budget import UNITS
from tensoropt.errors import UsageError
from tensoropt.plan_types import Problem

TARGET = "target"
"""Written in place of a rate: that of the target."""

NANOSECONDS = 10**9


def require_rate(text: str, timed: bool) -> None:
    """UsageError for what is no rate. ``timed``: durations are seconds, as a model's are, and not units of a graph's own."""
    if not (timed and text == TARGET):
        _parsed(text, timed)


def bytes_per_unit(text: str, timed: bool, of_target: float) -> Fraction:
    """Bytes in a nanosecond (``timed``; ``of_target``: bytes a second of the target), or in a unit of a graph's durations."""
    if not timed:
        return _parsed(text, timed)
    return (Fraction(of_target) if text == TARGET else _parsed(text, timed)) / NANOSECONDS


def paged(problem: Problem, rate: Fraction) -> Problem:
    """The problem with a transfer time for every step: the bytes that it writes over a rate in bytes a unit of time, rounded up."""
    sizes = [sum(problem.values[value].bytes for value in step.writes) for step in problem.steps]
    return replace(problem, transfers=tuple(-int(-size // rate) for size in sizes)).check()


def _parsed(text: str, timed: bool) -> Fraction:
    match = re.fullmatch(r"\s*(\d{1,400}(?:\.\d{1,400})?)\s*(?:([A-Za-z]+)/s)?\s*", text)
    unit = (match.group(2) or "") if match else ""
    of_bits = unit[-1:] == "b" and unit != unit.lower()  # 25Gb/s are bits by convention
    fits = match is not None and (unit.lower() in UNITS and unit != "" and not of_bits if timed else unit == "")
    if match is None or not fits or not Fraction(match.group(1)):
        wanted = (
            f"a rate such as 25GB/s, or {TARGET!r}" if timed else "a number of bytes for each unit of the durations"
        )
        raise UsageError(f"--paging {text!r} is not {wanted}")
    return Fraction(match.group(1)) * UNITS[unit.lower()]
