"""Which function lifts which operator."""

from __future__ import annotations

from collections.abc import Callable

from tensoropt.frontend.lift import (
    contraction,
    convolution,
    elementwise,
    gather,
    lrn,
    normalization,
    padding,
    pooling,
    reduction,
    reshaping,
    resize,
    slicing,
    softmax,
    transposed_convolution,
)
from tensoropt.frontend.lift.node import Node
from tensoropt.ir.program import Statement

Lift = Callable[[Node], list[Statement]]

LIFTS: dict[tuple[str, str], Lift] = {
    **{("", name): elementwise.lift_elementwise for name in elementwise.BODIES},
    **{("", name): reduction.lift_reduction for name in reduction.REDUCTIONS},
    ("", "ReduceLogSumExp"): reduction.lift_log_sum_exp,
    ("", "ArgMax"): reduction.lift_arg_extreme,
    ("", "ArgMin"): reduction.lift_arg_extreme,
    ("", "MatMul"): contraction.lift_matmul,
    ("", "Gemm"): contraction.lift_gemm,
    ("", "Einsum"): contraction.lift_einsum,
    ("", "Conv"): convolution.lift_convolution,
    ("", "ConvTranspose"): transposed_convolution.lift_transposed_convolution,
    ("", "MaxPool"): pooling.lift_max_pool,
    ("", "AveragePool"): pooling.lift_average_pool,
    ("", "LpPool"): pooling.lift_lp_pool,
    ("", "GlobalMaxPool"): pooling.lift_global_max_pool,
    ("", "GlobalAveragePool"): pooling.lift_global_average_pool,
    ("", "GlobalLpPool"): pooling.lift_global_lp_pool,
    ("", "Softmax"): softmax.lift_softmax,
    ("", "LogSoftmax"): softmax.lift_log_softmax,
    ("", "Hardmax"): softmax.lift_hardmax,
    ("", "BatchNormalization"): normalization.lift_batch_normalization,
    ("", "LayerNormalization"): normalization.lift_layer_normalization,
    ("", "GroupNormalization"): normalization.lift_group_normalization,
    ("", "InstanceNormalization"): normalization.lift_instance_normalization,
    ("", "RMSNormalization"): normalization.lift_rms_normalization,
    ("", "LpNormalization"): normalization.lift_lp_normalization,
    ("", "LRN"): lrn.lift_lrn,
    ("", "Reshape"): reshaping.lift_reshape,
    ("", "Flatten"): reshaping.lift_reshape,
    ("", "Squeeze"): reshaping.lift_reshape,
    ("", "Unsqueeze"): reshaping.lift_reshape,
    ("", "Transpose"): reshaping.lift_transpose,
    ("", "Identity"): reshaping.lift_identity,
    ("", "Dropout"): reshaping.lift_dropout,
    ("", "Expand"): reshaping.lift_expand,
    ("", "Tile"): reshaping.lift_tile,
    ("", "DepthToSpace"): reshaping.lift_depth_to_space,
    ("", "SpaceToDepth"): reshaping.lift_space_to_depth,
    ("", "ConstantOfShape"): reshaping.lift_constant_fill,
    ("", "Slice"): slicing.lift_slice,
    ("", "Split"): slicing.lift_split,
    ("", "Concat"): slicing.lift_concat,
    ("", "Pad"): padding.lift_pad,
    ("", "Resize"): resize.lift_resize,
    ("", "Upsample"): resize.lift_resize,
    ("", "Gather"): gather.lift_gather,
    ("", "GatherElements"): gather.lift_gather_elements,
    ("", "GatherND"): gather.lift_gather_nd,
}
"""By domain ("" is the standard one) and operator. A function raises NotExpressed for what it does not cover."""
