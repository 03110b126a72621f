"""The places for stores: `base` says what each must do, and each of the others is one."""

from __future__ import annotations

from collections.abc import Mapping

from vpngen.store.places import Objects, Where, place_of
from vpngen.store.targets.base import Target
from vpngen.store.targets.local import LocalTarget
from vpngen.store.targets.objects import ObjectTarget


def target_of(where: Where, options: Mapping[str, str] | None = None) -> Target:
    """The place for a store that a path, a URL or a store of obstore names. Raises as `place_of`."""
    place = place_of(where, options)
    return ObjectTarget(place) if isinstance(place, Objects) else LocalTarget(place.path)
