"""tensoropt: a compiler-style optimizer of tensor programs."""

__version__ = "0.1.0"
