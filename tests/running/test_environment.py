"""benchmark/running/environment.py: memory that a process keeps."""

import platform
import subprocess
import sys

import pytest

from benchmark.files import PROJECT

# Faults of pages of 4 KiB while 64 MiB are filled and freed, and filled again: 16,384 where the kernel took them back.
AGAIN = """
import resource
import numpy as np
from benchmark.running.environment import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**26, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
given = faults()
keep_memory()
faults()
print(given, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is asked to keep memory")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    done = subprocess.run([sys.executable, "-c", AGAIN], cwd=PROJECT, capture_output=True, text=True, check=True)
    given, kept = map(int, done.stdout.split())
    assert kept < 10 < given
