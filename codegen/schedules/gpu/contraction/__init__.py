"""Sums of products on a GPU: blocks of the result in shared memory, tiles of it in registers, for every form that has two sides."""
