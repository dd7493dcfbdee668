"""Searches as tasks: run in processes of their own, kept on disk, found once for all statements of one form."""
