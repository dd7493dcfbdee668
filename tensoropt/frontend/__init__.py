"""ONNX models as programs of tensor algebra.

``load_program`` reads; ``reference`` runs the original in ONNX Runtime to compare with.
"""

from tensoropt.frontend.loader import LoadedModel, load_program

__all__ = ["LoadedModel", "load_program"]
