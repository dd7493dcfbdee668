"""What holds for all tests."""

import atexit
import os
import shutil
import tempfile

from hypothesis import settings

settings.register_profile("shared machines", deadline=None)
settings.load_profile("shared machines")

if (
    "POCL_CACHE_DIR" not in os.environ
):  # PoCL keeps every kernel that it ever compiled; those of tests are of no use to anybody
    os.environ["POCL_CACHE_DIR"] = tempfile.mkdtemp(prefix="tensoropt-pocl-")
    atexit.register(shutil.rmtree, os.environ["POCL_CACHE_DIR"], ignore_errors=True)
