"""Other engines that run ONNX models on this machine, one a file. None is needed but by ``bench``, and none is imported here."""

from __future__ import annotations

from collections.abc import Iterable

from tensoropt.errors import UsageError
from tensoropt.peers.onnxruntime import OnnxRuntime
from tensoropt.peers.openvino import OpenVino
from tensoropt.peers.peer import Peer
from tensoropt.peers.torch import Torch
from tensoropt.peers.tvm import Tvm

PEERS: tuple[Peer, ...] = (OnnxRuntime(), OpenVino(), Torch(), Tvm())


def peers_named(names: Iterable[str] | None = None) -> list[Peer]:
    """The peers of these names, all where there are none. UsageError for a name that no peer has."""
    if names is None:
        return list(PEERS)
    known = {peer.name: peer for peer in PEERS}
    wanted = list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError(f"--against takes {', '.join(known)}, not {unknown[0]!r}")
    return [known[name] for name in wanted]
