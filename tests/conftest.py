"""What every test shares: single-threaded libraries, one cache of compiled kernels, and the hypothesis profiles."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path

from hypothesis import settings

import vpngen

# Contended threads of BLAS and OpenMP can be several times slower than one; set before either is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# numba looks at the date of the file that holds a kernel, not at the helpers and constants compiled into it, so an edit
# elsewhere could leave the tests running yesterday's code. One cache folder for each state of the sources prevents that;
# subprocesses inherit it, and a later run starts warm.
_HOME = Path(vpngen.__file__).parent
_COMPILED = [_HOME / "rng.py", *sorted(_HOME.glob("generators/*.py")), *sorted(_HOME.glob("backends/*.py"))]
_STATE = hashlib.sha256(b"".join(path.read_bytes() for path in _COMPILED)).hexdigest()[:16]
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / f"numba-{_STATE}"))

settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True)
settings.register_profile(
    "explore", max_examples=1000, deadline=None, derandomize=False
)  # pytest --hypothesis-profile=explore
settings.load_profile("ci")

# A shell starts background jobs with SIGINT ignored, programs inherit that, and `vpngen` respects it. The tests send signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
