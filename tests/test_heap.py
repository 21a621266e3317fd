"""Freed memory: counted in the pages that the system has to fill again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from elysium import heap

pytestmark = pytest.mark.skipif(heap._glibc() is None, reason="the C library is not glibc")

MIB = 2**20
FAULTS = """
import resource
import numpy as np
from elysium.heap import keep_freed, release_freed

def faults(megabytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(megabytes << 20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = [faults(64) for _ in range(3)]
keep_freed()
kept = [faults(64) for _ in range(3)]
release_freed()
print(min(before), *kept[1:], faults(64))
"""


def test_kept_memory_is_not_filled_again_until_it_is_released():
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    given_back, second, third, released = (int(word) for word in ran.stdout.split())
    assert given_back > 10  # of 16,384 small pages, fewer where the system gives huge ones
    assert second < given_back / 10 and third < given_back / 10
    assert released > given_back / 2
