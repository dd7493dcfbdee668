"""The OpenCL device of this machine as a target, asked of pyopencl."""

from __future__ import annotations

from codegen.targets.gpu import Ceilings, GpuTarget, Multiprocessor
from tensoropt.errors import UsageError


def opencl_target() -> GpuTarget:
    """The first device of the first platform that has one; UsageError where there is none, or no pyopencl."""
    try:
        import pyopencl
    except ImportError as error:
        raise UsageError("--target opencl needs pyopencl: pip install 'pyopencl[pocl]'") from error
    try:
        devices = [device for platform in pyopencl.get_platforms() for device in platform.get_devices()]
    except pyopencl.Error as error:
        raise UsageError(f"--target opencl: no OpenCL platform can be used ({error})") from error
    if not devices:
        raise UsageError("--target opencl: this machine has no OpenCL device; pip install 'pyopencl[pocl]' brings one")
    device = devices[0]
    extensions = device.extensions.split()
    shared = int(device.local_mem_size)
    return GpuTarget(
        kind="opencl",
        name=device.name.strip(),
        warp=1 if device.type & pyopencl.device_type.CPU else 32,
        max_threads=min(int(device.max_work_group_size), 1024),
        shared_bytes=shared,
        multiprocessors=int(device.max_compute_units),
        half="cl_khr_fp16" in extensions,
        double="cl_khr_fp64" in extensions,
        alignment=max(int(device.mem_base_addr_align) // 8, 1),
        multiprocessor=Multiprocessor(shared_bytes=shared, most_shared_bytes=shared),
        ceilings=Ceilings(memory_bytes=int(device.global_mem_size)),
    )
