"""The files of a device's artefact, by name."""

LAUNCHES = "launches.json"
"""The table of launches."""

SOURCES = {"opencl": "kernels.cl", "cuda": "kernels.cu"}
"""The kernels as text, by the target's kind."""
