"""Attention in one launch: sums of values, weighted by a softmax over scores, which are themselves sums of products."""
