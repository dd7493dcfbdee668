"""Operators that tensor algebra does not express: imported through TVM's ONNX importer one node at a time."""
