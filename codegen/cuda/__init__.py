"""CUDA: sources, cubins, and running them through the driver."""
