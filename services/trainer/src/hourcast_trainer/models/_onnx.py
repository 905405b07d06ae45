"""The ONNX file of a network: features in, z out, written node by node."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hourcast.features import FeatureSpec
from hourcast.forecaster import HORIZONS, LEVELS

__all__ = ["onnx_bytes"]

_OPSETS = {"": 17, "ai.onnx.ml": 3}
_IR_VERSION = 10


def onnx_bytes(
    kind: str,
    features: FeatureSpec,
    nodes: Sequence[Any],
    constants: Mapping[str, npt.NDArray[Any]],
    domains: Sequence[str] = ("",),
) -> bytes:
    """A checked model from `x` (n, window, width) to `z` (n, H, Q), of operators of `domains`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        f"hourcast_{kind}",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features.window, features.width])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", len(HORIZONS), len(LEVELS)])],
        [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid(domain, _OPSETS[domain]) for domain in domains]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="hourcast")
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model)
    exported: bytes = model.SerializeToString()
    return exported
