"""Outputs that stay on the GPU, for torch, CuPy and whatever else takes DLPack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from codegen.cuda.dlpack import capsule_of
from tensoropt.ir.types import DataType


class DeviceTensor:
    """An output in device memory, complete: ``torch.from_dlpack(tensor)`` or ``cupy.from_dlpack(tensor)`` takes it without a copy.

    Its memory is used for a later run's output once this object and whatever was made of it are gone.
    """

    def __init__(
        self,
        address: int,
        device: tuple[int, int],
        shape: tuple[int, ...],
        dtype: DataType,
        release: Callable[[], None],
    ) -> None:
        self.address, self.shape, self.dtype, self._device = address, shape, dtype, device
        self._hold = _Hold(release)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, **_: Any) -> Any:
        """The capsule. No stream has to wait: the run that wrote the tensor has ended."""
        hold = self._hold
        return capsule_of(self.address, self._device, self.shape, self.dtype, hold.taken())


class _Hold:
    """Counts who uses a piece of memory, and releases it after the last of them."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release

    def taken(self) -> Callable[[], None]:
        """One more user; what is returned is called when it is done, and keeps this alive until then."""
        kept = [self]
        return kept.clear

    def __del__(self) -> None:
        self._release()
