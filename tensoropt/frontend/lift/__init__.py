"""ONNX operators as tensor algebra, one operator family a file."""
