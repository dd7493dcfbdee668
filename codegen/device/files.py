"""The files of a device's artefact, by name."""

LAUNCHES = "launches.json"
"""The table of launches."""

SOURCES = {"opencl": "kernels.cl", "cuda": "kernels.cu"}
"""The kernels as text, by the target's kind."""

CUBINS = "cubins.json"
"""The compiled kernels of CUDA, with their digests."""

CODE = {"opencl": (SOURCES["opencl"], LAUNCHES), "cuda": (CUBINS, LAUNCHES)}
"""What is about to run, by the target's kind."""
