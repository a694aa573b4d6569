"""Settings of one machine that make the libraries choose other kernels, as machines of other ages would.

    python tests/exact/conformance_settings.py docs/CONFORMANCE.md

computes the golden vectors under each of them, in a process of its own, and adds what was seen to the table.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime

ENVIRONMENTS = [
    {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ATEN_CPU_CAPABILITY": "avx512"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    {"NUMBA_CPU_NAME": "generic"},
    {"NUMBA_ENABLE_AVX": "0"},
    {"NUMBA_CPU_NAME": "generic", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"NUMBA_CPU_NAME": "haswell", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
]

OLD = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
    "NUMBA_CPU_NAME": "nehalem",
    "NUMBA_CPU_FEATURES": "+cx16,+popcnt,+sse4.1,+sse4.2,+ssse3",
    "OMP_NUM_THREADS": "1",
}
"""A machine of 2008: no AVX, no fused multiply-add. Numba's kernels are compiled for it before they are emulated."""

REPORT = "import sys; from podlt.cli import main; sys.argv[:1] = ['podlt', 'conformance', '--report']; main()"
"""What a process runs that writes its own line; its arguments are further ones of `podlt conformance`."""


def main(document: str) -> int:
    """Add one line for each setting; those that the table has already are said and left out."""
    failed = 0
    for environment in ENVIRONMENTS:
        child = subprocess.run(
            [sys.executable, "-c", REPORT, "--append", document],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        failed += child.returncode != 0
        outcome = (child.stdout + child.stderr).strip()[-120:]
        print(datetime.now(UTC).isoformat(timespec="seconds"), environment, outcome)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
