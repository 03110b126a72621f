"""The three kinds of error a user can meet, and the exit code the command line gives each.

Every message names the argument, its value, what is allowed, and what to do about it.
"""

from __future__ import annotations


class VpngenError(Exception):
    """Base of all errors raised on purpose by vpngen; `exit_code` is what the command line exits with."""

    exit_code = 1


class ArgumentError(VpngenError, ValueError):
    """An argument that cannot be honoured: wrong value, wrong type, or a combination that makes no sense."""

    exit_code = 2


class ConflictError(VpngenError):
    """What is on disk contradicts what was asked for; nothing on disk was changed."""

    exit_code = 3


class MissingError(VpngenError):
    """A part of the machine is missing: a backend, an optional package, or disk space."""

    exit_code = 4


class RunError(VpngenError):
    """A run that started well and failed: a full disk, damaged data found by `verify`."""

    exit_code = 1
