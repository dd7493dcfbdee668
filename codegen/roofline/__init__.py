"""What kernels would take on a GPU that is not here: counted from expressions, bounded by the GPU's data."""
