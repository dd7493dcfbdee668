"""Certificates: what is checked before a candidate exists, on smaller sizes and at points of the real ones."""
