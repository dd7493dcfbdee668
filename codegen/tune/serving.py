"""Answers of the processes that search for schedules: a result, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codegen.tune.guarded import Broken
from tensoropt.serving import reason


def replying(answer: Callable[[Any], Any]) -> Callable[[Any], tuple[str, Any]]:
    """The reply to a request is ("done", what ``answer`` gives) or ("failed", why).

    "broken" instead of "failed" says that the process, or its place on a device, is not to be used any more.
    """

    def reply(request: Any) -> tuple[str, Any]:
        try:
            return "done", answer(request)
        except Broken as broken:
            return "broken", str(broken)
        except MemoryError:
            return "failed", "ran out of memory"
        except Exception as error:  # a candidate that does not compile must not end the process
            return "failed", reason(error)

    return reply
