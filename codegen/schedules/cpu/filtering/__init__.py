"""Convolutions by products at points (Winograd): transforms and products of one block of tiles after another, in one kernel."""
