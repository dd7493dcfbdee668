"""Random kernels that schedules can cut in several ways: products, convolutions, convolutions by products at points, attention."""

from __future__ import annotations

from hypothesis import strategies as st

from passes.winograd import filtered
from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.program import Compute
from tensoropt.ir.types import DataType
from tests.codegen.schedules.gpu.contraction.test_emit import product_of
from tests.codegen.schedules.test_contraction import convolution as biased_convolution
from tests.strategies import networks
from tests.strategies.attention import Sizes, attention
from tests.strategies.networks import tensor

FLOATS = st.sampled_from([DataType.FLOAT32, DataType.FLOAT32, DataType.FLOAT64, DataType.FLOAT16, DataType.INT64])


@st.composite
def cut_kernels(draw: st.DrawFn) -> tuple[Scope, frozenset[str]]:
    """A kernel's expression, and which of its tensors are known when it is compiled."""
    kind = draw(st.sampled_from(["product", "convolution", "points", "attention"]))
    if kind == "product":
        extents = draw(st.tuples(*[st.integers(1, 3000)] * 3))
        turned = draw(st.tuples(st.booleans(), st.booleans()))
        scope, _ = product_of(extents, draw(st.integers(1, 9)), turned, draw(FLOATS))
        return scope, frozenset(draw(st.sampled_from([(), ("right",), ("left", "right")])))
    if kind == "convolution":
        size, window = draw(st.tuples(*[st.integers(7, 60)] * 2)), draw(st.tuples(*[st.integers(1, 5)] * 2))
        groups, pad = draw(st.sampled_from([1, 1, 4])), draw(st.tuples(*[st.integers(0, 2)] * 2))
        channels, filters = groups * draw(st.integers(1, 40)), groups * draw(st.integers(1, 40))
        stride, batch = draw(st.integers(1, 2)), draw(st.integers(1, 3))
        scope = biased_convolution(batch, channels, filters, size, window, stride, 1, pad, groups)
        return scope, frozenset(draw(st.sampled_from([(), ("weight", "bias")])))
    if kind == "points":
        extent, channels, filters = draw(st.integers(24, 60)), draw(st.integers(16, 40)), draw(st.integers(16, 40))
        image, weight = tensor("A", 1, channels, extent, extent), tensor("K", filters, channels, 3, 3)
        core = networks.convolution(tensor("out", 1, filters, extent, extent), image, weight, 1)
        one = draw(st.sampled_from(list(filtered(core, ["K"], 1e6))))
        return one.kernel.expression, frozenset(statement.output.name for statement in one.constants)
    rows, keys = draw(st.integers(1, 300)), draw(st.integers(8, 300))
    sizes = Sizes(draw(st.integers(1, 8)), rows, keys, draw(st.integers(1, 80)), draw(st.integers(1, 80)))
    dtype = draw(st.sampled_from([DataType.FLOAT32, DataType.FLOAT16]))
    return attention(sizes, dtype, draw(st.booleans()), draw(st.booleans())), frozenset()


def statement(scope: Scope) -> Compute:
    """The kernel as a statement."""
    return Compute(Tensor("out", scope.type), scope)
