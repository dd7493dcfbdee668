"""Code generation: statements become kernels, a program becomes one library with constants and an arena.

The public entry points, each in the file of its name:

``codegen.targets.cpu.host_target(threads: int | None = None) -> CpuTarget``
    This machine, with the threads that the process may use.
``codegen.kernel.compile_kernel(statement, target) -> Callable[[Mapping[str, Array]], dict[str, Array]]``
    One statement as a callable from arrays by name to its outputs by name; for checks statement by statement.
``codegen.build.compile_program(program, plan, target) -> BuiltProgram``
    A planned program linked to one library. ``BuiltProgram.model()`` runs it in this process.
``codegen.artefact.save(built, folder, files=..., extra=..., force=False)`` and ``codegen.artefact.load(folder, threads=None)``
    The artefact folder, written atomically, and the model read back from it.
``codegen.runtime.CompiledModel.run(feeds) -> dict[str, Array]``
    One run; callable from several threads. Imports neither onnx nor the compiler.
``codegen.tune.worker.MeasuredCost(target)``
    ``tensoropt.cost.CostModel`` by timing kernels in a worker process.
"""

import os

# TVM's thread pool pins the thread that first uses it, the caller's own, to one processor, and every thread and engine that the
# caller starts from it later with it. These are read when a pool is set up, so they stand before anything here imports TVM.
os.environ.setdefault("TVM_BIND_THREADS", "0")
if hasattr(os, "sched_getaffinity"):
    os.environ.setdefault("TVM_NUM_THREADS", str(len(os.sched_getaffinity(0))))
