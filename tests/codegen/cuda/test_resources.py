"""What ptxas says, read."""

from __future__ import annotations

from codegen.cuda.resources import Resources, parse_report

REPORT = """\
ptxas info    : 0 bytes gmem, 24 bytes cmem[4]
ptxas info    : Compiling entry function 'kernel_1' for 'sm_90'
ptxas info    : Function properties for kernel_1
    64 bytes stack frame, 60 bytes spill stores, 72 bytes spill loads
ptxas info    : Function properties for __internal_trig_reduction_slowpathd
    40 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 64 bytes cumulative stack size, 49152 bytes smem, 8 bytes cmem[2]
ptxas info    : Compile time = 15.079 ms
ptxas info    : Compiling entry function 'kernel_2' for 'sm_90'
ptxas info    : Function properties for kernel_2
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 14 registers, used 0 barriers
ptxas info    : Compiling entry function 'kernel_3' for 'sm_75'
ptxas info    : Function properties for kernel_3
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, 1024+16 bytes smem, 376 bytes cmem[0]
"""


def test_every_kernel_is_found() -> None:
    assert parse_report(REPORT) == {
        "kernel_1": Resources(255, 64, 60, 72, 49152, 1),
        "kernel_2": Resources(14),
        "kernel_3": Resources(40, shared_bytes=1040),
    }
    assert [found.spills for found in parse_report(REPORT).values()] == [True, False, False]


def test_a_report_without_kernels() -> None:
    assert parse_report("nvcc warning : something\n") == {}
