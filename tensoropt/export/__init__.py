"""Programs as standard ONNX models."""

from tensoropt.export.program import export_onnx, save_onnx

__all__ = ["export_onnx", "save_onnx"]
