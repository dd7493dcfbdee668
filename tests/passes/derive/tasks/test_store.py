"""Derivations on disk: they come back as they were, or not at all."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from passes.derive import rules
from passes.derive.candidate import SearchLimits
from passes.derive.certify.certificate import Checker
from passes.derive.rules import RULES, RULES_BY_NAME
from passes.derive.tasks import store
from passes.derive.tasks.cache import DeriveCache
from passes.derive.tasks.task import Found, Task
from tensoropt.disk_cache import entry_path, sources_digest
from tensoropt.ir.expression import Scope, Tensor, replace_sources, tensors
from tensoropt.ir.program import Compute
from tensoropt.rewrite.derivation import Derivation
from tensoropt.rewrite.rule import Refusal, Site
from tests.strategies.operators import convolution, transposed_convolution

ROOT = Path(__file__).resolve().parents[4]
UPSAMPLED = transposed_convolution(1, 6, 5, 4, 4, 2, 1)
LIMITS = SearchLimits(states=60)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path))


def statement(scope: Scope = UPSAMPLED, output: str = "O", **names: str) -> Compute:
    """The scope assigned, with its tensors (A and K) under other names."""
    renamed: dict[Tensor | Scope, Tensor | Scope] = {
        tensor: Tensor(names.get(tensor.name, tensor.name), tensor.type) for tensor in tensors(scope)
    }
    return Compute(Tensor(output, scope.type), replace_sources(scope, renamed), (f"node of {output}",))


def task_of(scope: Scope = UPSAMPLED) -> Task:
    return Task.of(statement(scope), {"K"}, LIMITS, ())[0]


@pytest.fixture(scope="module")
def found() -> Found:
    return task_of().solve()


def stored(task: Task) -> Path:
    return entry_path("derived", store.key_of(task))


@pytest.mark.parametrize(
    "scope", [UPSAMPLED, convolution(1, 5, 7, 6, (3, 3)), convolution(2, 8, 6, 8, (3, 3), groups=4)]
)
def test_what_is_written_is_read(scope: Scope) -> None:
    task = task_of(scope)
    made = task.solve()
    assert made.candidates
    store.write(task, made)
    again = store.read(task)
    assert again == made
    assert again is not None
    assert [found.as_json() for found in again.candidates] == [found.as_json() for found in made.candidates]


def test_equal_statements_share_an_entry_under_their_own_names() -> None:
    first, second = DeriveCache(), DeriveCache()
    ours = statement(output="layers/0", A="x", K="layers/w0")
    theirs = statement(output="P", A="layers/w0", K="V")  # a name that stood for the weights stands for the data
    made = first.derive(ours, {"layers/w0"}, LIMITS)
    again = second.derive(theirs, {"V"}, LIMITS)
    assert (first.from_disk, second.from_disk) == (0, 1)
    assert [found.label for found in made] == [found.label for found in again]
    for compute, candidates, read in ((ours, made, {"x", "layers/w0"}), (theirs, again, {"layers/w0", "V"})):
        for candidate in candidates:
            outputs = [made.output.name for made in candidate.statements]
            assert outputs[-1] == compute.output.name
            assert all(name.startswith(f"{compute.output.name}/") for name in outputs[:-1])
            assert "@" not in "".join(outputs)
            assert {tensor.name for made in candidate.statements for tensor in made.inputs} - {*outputs} == read
            assert candidate.derivation.start is compute.expression
            assert candidate.derivation.states(RULES_BY_NAME)
            assert {made.origin for made in candidate.statements} == {compute.origin}
    report = second.report(theirs, {"V"}, LIMITS)
    assert report is not None
    assert report.visited == 60


def test_other_limits_constants_and_exclusions_are_other_entries(found: Found) -> None:
    task = task_of()
    store.write(task, found)
    assert store.read(task) is not None
    assert store.read(replace(task, limits=SearchLimits(states=61))) is None
    assert store.read(replace(task, constants=frozenset())) is None
    assert store.read(replace(task, excluded_rules=frozenset({"stage"}))) is None


def test_what_was_cut_short_is_not_kept(found: Found) -> None:
    task = task_of()
    store.write(task, Found(found.candidates, replace(found.report, truncated="time")))
    store.write(task, Found((), replace(found.report, failure="its process died of SIGKILL")))
    assert store.read(task) is None


def _truncate(text: str) -> str:
    return text[: len(text) // 2]


def _edited(change: Callable[[dict[str, Any]], None]) -> Callable[[str], str]:
    """The entry changed, and its digest made to fit: what only the replay can notice."""

    def edit(text: str) -> str:
        entry = json.loads(text)
        change(entry["content"])
        return json.dumps({**entry, "digest": store.digest(entry["content"])})

    return edit


def _other_key(content: dict[str, Any]) -> None:
    content["candidates"][0]["derivation"]["steps"][1]["after"] = "0" * 64


def _other_site(content: dict[str, Any]) -> None:
    step = next(step for step in content["candidates"][0]["derivation"]["steps"] if step["site"])
    step["site"] = {name: 1 if isinstance(value, int) else value for name, value in step["site"].items()}
    step["rule"] = "relax_traversal"


def _unknown_rule(content: dict[str, Any]) -> None:
    content["candidates"][0]["derivation"]["steps"][0]["rule"] = "import_os"


def _other_statements(content: dict[str, Any]) -> None:
    program = content["candidates"][0]["program"]
    content["candidates"][0]["program"] = program.replace(" * ", " + ")


def _other_start(content: dict[str, Any]) -> None:
    content["candidates"][0] = content["candidates"][1] | {"derivation": content["candidates"][0]["derivation"]}


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        lambda text: "",
        lambda text: "[1, 2]",
        lambda text: text.replace('"visited": 60', '"visited": 61'),
        lambda text: "[" * 100_000,
        _edited(_other_key),
        _edited(_other_site),
        _edited(_unknown_rule),
        _edited(_other_statements),
        _edited(_other_start),
        _edited(lambda content: content["candidates"][0].pop("certificate")),
        _edited(lambda content: content["report"].pop("rules")),
    ],
)
def test_a_damaged_or_foreign_entry_counts_as_absent(damage: Callable[[str], str], found: Found) -> None:
    task = task_of()
    store.write(task, found)
    path = stored(task)
    text = path.read_text()
    changed = damage(text)
    assert changed != text
    path.write_text(changed)
    assert store.read(task) is None
    cache = DeriveCache()
    made = cache.derive(statement(), {"K"}, LIMITS)
    assert [candidate.label for candidate in made] == [candidate.label for candidate in found.candidates]
    assert store.read(task) is not None


class Idle:
    """``f = f``."""

    name = "idle"

    def sites(self, scope: Scope) -> list[Site]:
        return []

    def apply(self, scope: Scope, site: Site) -> Scope | Refusal:
        return scope


def test_a_new_rule_invalidates(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of()
    store.write(task, found)
    monkeypatch.setitem(rules.RULES_BY_NAME, "idle", Idle())
    assert store.read(task) is None
    monkeypatch.delitem(rules.RULES_BY_NAME, "idle")
    assert store.read(task) is not None


def test_a_changed_source_invalidates(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "one.py").write_text("A = 1\n")
    before = sources_digest([tmp_path])
    assert sources_digest([tmp_path]) == before
    (tmp_path / "rules" / "one.py").write_text("A = 2\n")
    changed = sources_digest([tmp_path])
    (tmp_path / "rules" / "two.py").write_text("")
    assert len({before, changed, sources_digest([tmp_path])}) == 3


def test_the_sources_of_all_rules_and_of_the_check_count() -> None:
    used = [*(type(rule) for rule in RULES), Checker, Scope, Derivation]
    files = [Path(inspect.getfile(kind)).resolve() for kind in used]
    assert all(any(folder in file.parents for folder in store.source_folders()) for file in files)


WRITER = """
import sys
from passes.derive.tasks import store
from tests.passes.derive.tasks.test_store import task_of
task = task_of()
made = task.solve()
print("ready", flush=True)
while True:
    store.write(task, made)
"""


def test_writers_at_the_same_time_that_are_killed_leave_whole_entries(found: Found) -> None:
    task = task_of()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            again = store.read(task)
            if again is not None:
                assert again.candidates == found.candidates
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    again = store.read(task)
    assert again is not None
    assert again.candidates == found.candidates


def test_a_folder_that_cannot_be_written_is_no_error(
    found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "file"))
    store.write(task_of(), found)
    assert store.read(task_of()) is None


def test_abandoned_partial_files_are_swept(found: Found) -> None:
    task = task_of()
    store.write(task, found)
    folder = stored(task).parent
    old, new = folder / "old.partial", folder / "new.partial"
    old.write_text("")
    new.write_text("")
    os.utime(old, (0, 0))
    store.write(task, found)
    assert (old.exists(), new.exists()) == (False, True)
