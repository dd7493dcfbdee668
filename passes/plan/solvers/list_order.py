"""An order of low memory by list scheduling: always the ready step that leaves the fewest bytes live.

Searches of a free order start from it.
"""

from __future__ import annotations

from tensoropt.plan_types import Problem


def listed(problem: Problem) -> tuple[int, ...]:
    """Every step once, in a topological order. Ties, and steps that leave the same, go by the order of the input."""
    steps, values = problem.steps, problem.values
    waiting = [len({problem.writer[value] for value in step.reads}) for step in steps]
    followers: list[list[int]] = [[] for _ in steps]
    for number, step in enumerate(steps):
        for writer in {problem.writer[value] for value in step.reads}:
            followers[writer].append(number)
    unread = [len(readers) for readers in problem.readers]
    ready = {number for number, count in enumerate(waiting) if count == 0}
    order: list[int] = []

    def growth(number: int) -> tuple[int, int]:
        step = steps[number]
        written = sum(values[value].bytes for value in step.writes if unread[value] or values[value].kept)
        freed = sum(values[value].bytes for value in {*step.reads} if unread[value] == 1 and not values[value].kept)
        return written - freed, number

    while ready:
        number = min(ready, key=growth)
        ready.remove(number)
        order.append(number)
        for value in {*steps[number].reads}:
            unread[value] -= 1
        for follower in followers[number]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                ready.add(follower)
    return tuple(order)
