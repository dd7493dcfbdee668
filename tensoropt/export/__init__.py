"""Programs as standard ONNX models."""

from tensoropt.export.files import save_onnx
from tensoropt.export.program import export_onnx

__all__ = ["export_onnx", "save_onnx"]
