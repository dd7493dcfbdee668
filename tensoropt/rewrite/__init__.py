"""Rewriting of expressions: what a rule is, and derivations as data."""
