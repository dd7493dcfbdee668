"""Which variants of a kernel are worth measuring: a model that learns from what was measured, over kernels and targets.

``features`` describe a variant by its schedule, its work and its hardware, ``model`` gives scores, ``ordering`` sorts the variants.
Nothing here is needed for a correct kernel: without the library or the model's file, variants come in the order of the analytic
estimate.
"""
