"""A persistent map whose older part lies on disk: what changed since is in memory, nothing else.

Like ``immutables.Map`` (a hash array mapped trie) it never changes: ``set`` and ``delete`` make a
new one that shares all but the path to the change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar, cast

from immutables import Map

K = TypeVar("K")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)
_GONE: Any = object()


class PersistentMap(Protocol[K, V]):
    """What a state's maps are: an ``immutables.Map``, or a `Shelf`."""

    def __getitem__(self, key: K, /) -> V: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[K]: ...
    def get(self, key: K, /) -> V | None: ...
    def keys(self) -> Iterable[K]: ...
    def values(self) -> Iterable[V]: ...
    def items(self) -> Iterable[tuple[K, V]]: ...
    def set(self, key: K, value: V, /) -> PersistentMap[K, V]: ...
    def delete(self, key: K, /) -> PersistentMap[K, V]: ...


class Stored(Protocol[K, V_co]):
    """The part on disk, at one moment for ever."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[K]: ...
    def get(self, key: K, /) -> V_co | None: ...


class Shelf(Mapping[K, V], Generic[K, V]):
    """What is stored, and over it what changed since."""

    def __init__(self, stored: Stored[K, V], changed: Map[K, V] | None = None, count: int = -1):
        """Start with what is stored, unchanged."""
        self._stored = stored
        self.changed: Map[K, V] = Map() if changed is None else changed
        """Since then; see `changes`."""
        self._count = len(stored) if count < 0 else count

    def changes(self) -> Iterator[tuple[K, V | None]]:
        """What changed since it was stored; None where it is gone."""
        for key, value in self.changed.items():
            yield key, None if value is _GONE else value

    def __getitem__(self, key: K) -> V:
        found = self._find(key)
        if found is None:
            raise KeyError(key)
        return found

    def get(self, key: K, default: Any = None) -> Any:
        """As of any mapping."""
        found = self._find(key)
        return default if found is None else found

    def __contains__(self, key: object) -> bool:
        return self._find(cast(K, key)) is not None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[K]:
        for key, value in self.changed.items():
            if value is not _GONE:
                yield key
        for key in self._stored:
            if key not in self.changed:
                yield key

    def set(self, key: K, value: V) -> Shelf[K, V]:
        """With a value (never None) under a key."""
        count = self._count + (self._find(key) is None)
        return Shelf(self._stored, self.changed.set(key, value), count)

    def delete(self, key: K) -> Shelf[K, V]:
        """Without a key; KeyError where it is not."""
        if self._find(key) is None:
            raise KeyError(key)
        return Shelf(self._stored, self.changed.set(key, _GONE), self._count - 1)

    def _find(self, key: K) -> V | None:
        found = self.changed.get(key)
        if found is None:
            return self._stored.get(key)
        return None if found is _GONE else found
