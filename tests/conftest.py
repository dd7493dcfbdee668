"""What holds for all tests."""

from hypothesis import settings

settings.register_profile("shared machines", deadline=None)
settings.load_profile("shared machines")
