"""Sums of products of two operands: matrix products, convolutions and their batched and grouped forms, in one template."""
