"""The seventeen models that tensoropt is measured on, each a function from a batch size to an ONNX model.

Weights are random with fixed seeds: the same name and batch size give the same bytes each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from examples.models import (
    csrnet,
    dcgan,
    fsrcnn,
    gcn,
    infogan,
    light,
    longformer,
    losses,
    resnet18,
    srcnn,
    transformer,
    unet,
)

Builder = Callable[[int], onnx.ModelProto]

MODELS: Mapping[str, Builder] = {name: light.builder(name) for name in light.NAMES} | {
    "infogan": infogan.build,
    "dcgan": dcgan.build,
    "fsrcnn": fsrcnn.build,
    "srcnn": srcnn.build,
    "gcn": gcn.build,
    "resnet18": resnet18.build,
    "csrnet": csrnet.build,
    "longformer_gathered": longformer.build_gathered,
}

FORMULATIONS: Mapping[str, Mapping[str, Builder]] = {
    "longformer_gathered": {"longformer_chunked": longformer.build_chunked},
}
"""Other ways to write a model of `MODELS`: same inputs, same outputs. A peer is timed on the fastest."""

FURTHER: Mapping[str, Builder] = {"unet": unet.build, "transformer": transformer.build}
"""Models that memory is measured on."""

TRAINED: Mapping[str, Builder] = {
    f"{name}_loss": losses.with_loss(builder, "logits")
    for name, builder in {"resnet18": resnet18.build, **FURTHER}.items()
}
"""Models with the output ``loss`` and normalisation by the batch, for ``optimize --training loss``."""

BUILDERS: Mapping[str, Builder] = {
    **MODELS,
    **{name: builder for others in FORMULATIONS.values() for name, builder in others.items()},
    **FURTHER,
    **TRAINED,
}
"""Every name that can be built."""
