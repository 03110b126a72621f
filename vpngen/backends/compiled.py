"""How kernels are compiled for the CPU, and where the compiled ones are kept: a cache that costs time where it cannot be used, never a run.

numba looks at the file of a kernel alone. Here the state of every source that kernels are made of is part of the key, since
constants and helpers of other files are compiled into them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from vpngen.errors import MissingError

# numba takes settings from a file in the current folder where it can read YAML: whoever made that folder would say where compiled
# kernels, which are unpickled, come from.
_yaml = sys.modules.get("yaml")
if "numba" not in sys.modules:
    sys.modules["yaml"] = None  # type: ignore[assignment]
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is such a file
        from numba import config, njit
        from numba.core.caching import FunctionCache
        from numba.core.compiler_lock import global_compiler_lock
finally:
    sys.modules.pop("yaml", None)
    if _yaml is not None:
        sys.modules["yaml"] = _yaml

config._config_fname = os.devnull  # it is looked for again at each compilation
config.reload_config()
if config.DISABLE_JIT:
    raise MissingError("backend 'numba' cannot run with NUMBA_DISABLE_JIT=1; unset it, or use backend='reference'")

SOURCES: Final = (
    "checks.py",
    "floats.py",
    "rng.py",
    "units.py",
    "generators/*.py",
    "backends/numba_*.py",
    "backends/simd.py",
    "backends/compiled.py",
)
"""What kernels are compiled from, below the folder of vpngen."""
_UNUSABLE: dict[str, str] = {}
"""What went wrong with the cache of a kernel in this process."""


@functools.cache
def state() -> bytes:
    """The sha256 of `SOURCES`."""
    folder = Path(__file__).parents[1]
    files = (path for pattern in SOURCES for path in sorted(folder.glob(pattern)))
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).digest()


class _Cache(FunctionCache):
    """numba's cache of one kernel. Whatever is wrong with it, the kernel is compiled."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = self._cache_file._source_stamp, state()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled kernel, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a pickle that is damaged raises anything
            self._failed("read", error)
            with contextlib.suppress(Exception):
                self.flush()  # so that the next process finds it whole
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel, if that is possible."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self._failed("written", error)

    def _failed(self, what: str, error: Exception) -> None:
        said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        _UNUSABLE[self._name] = f"{self.cache_path} cannot be {what}: {said}"


def kernel(function: Callable[..., Any]) -> Any:
    """The function, compiled when it is first called to machine code that releases the interpreter lock."""
    compiled = njit(nogil=True, error_model="numpy")(function)
    try:
        compiled._cache = _Cache(function)
    except Exception as error:  # numba finds no folder that it can write to
        _UNUSABLE[function.__qualname__] = str(error)
    return compiled


def cache_state(compiled: Any) -> tuple[str, str]:
    """The folder of a kernel's cache and what is wrong with it; either may be empty."""
    folder = compiled.stats.cache_path or ""
    problem = next(iter(_UNUSABLE.values()), "")
    if folder and not problem and not os.access(folder, os.W_OK):
        problem = f"{folder} cannot be written"
    return folder, problem


# A child that is forked while a thread compiles has the lock of the compiler, and not the thread that would open it.
os.register_at_fork(
    before=global_compiler_lock.acquire,
    after_in_parent=global_compiler_lock.release,
    after_in_child=global_compiler_lock.release,
)
