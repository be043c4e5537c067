"""Objects of the API server that the operator needs: complete after every list.

Reflectors fill it; own writes are added at once, so that the next reconcile sees them. Objects are
found by name, by the update that they belong to, and by index keys. Each version of an object is
parsed once. Readers must not change what they get.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from cachetools import LRUCache

from springtide_operator.cluster.api.kinds import Raw, identity, version

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from typing import Any

    from springtide_operator.cluster.api.kinds import Kind

NamespacedName = tuple[str, str]
"""Namespace and name."""

Owner = Callable[[Raw], str]
"""Returns the name of the update that an object belongs to; empty for none."""

T = TypeVar("T")

MAX_TOMBSTONES = 10_000
"""Tombstones of deleted objects, of each kind."""

MAX_PARSED = 2_000
"""Parsed objects of each kind that are kept: they take more memory than the raw ones,
and only those of updates that are reconciled now are read again and again."""


def no_index_keys(raw: Raw) -> Iterable[Hashable]:
    """Return no index keys."""
    return ()


class Store:
    """All objects of one kind.

    Args:
        owner: returns the name of the update that an object belongs to.
        trim: drops fields that are never read.
        index_keys: what else an object is found by; hashable.
        required: whether nothing is decided before the first list.
    """

    def __init__(
        self,
        owner: Owner,
        trim: Callable[[Raw], None],
        index_keys: Callable[[Raw], Iterable[Hashable]] = no_index_keys,
        *,
        required: bool = True,
    ) -> None:
        self.owner = owner
        self.required = required
        self.namespaces: frozenset[str] | None = None
        """Namespaces whose objects are kept; None: all. Those of others are dropped at once."""
        self._trim = trim
        self._index_keys = index_keys
        self._objects: dict[NamespacedName, Raw] = {}
        self._owned: defaultdict[NamespacedName, set[NamespacedName]] = defaultdict(set)
        self._index: defaultdict[Hashable, set[NamespacedName]] = defaultdict(set)
        self._parsed: LRUCache[NamespacedName, tuple[Raw, Any]] = LRUCache(MAX_PARSED)
        self._tombstones: dict[NamespacedName, int] = {}
        """Resource version of the last deletion: older versions of the object are ignored."""
        self.version = 0
        """Resource version up to which everything that happened is known."""
        self.listed = False
        self.unavailable = ""
        """Why nothing is known of the kind; empty: it was listed, or will be soon."""
        self.served = True
        """False: the API server has no such kind."""

    def get(self, namespace: str, name: str) -> Raw | None:
        """Return the object of that name."""
        return self._objects.get((namespace, name))

    def all(self) -> Iterable[Raw]:
        """Return every object, in no order."""
        return self._objects.values()

    def of_update(self, namespace: str, update: str) -> list[Raw]:
        """Return the objects of one update, by name."""
        return [self._objects[place] for place in sorted(self._owned.get((namespace, update), ()))]

    def by_index(self, index_key: Hashable) -> list[Raw]:
        """Return the objects with an index key, ordered by namespace and name."""
        return [self._objects[place] for place in sorted(self._index.get(index_key, ()))]

    def count(self, index_key: Hashable) -> int:
        """Return how many objects have an index key."""
        return len(self._index.get(index_key, ()))

    def parsed(self, raw: Raw, parse: Callable[[Raw, T | None], T]) -> T:
        """Return an object of this store, parsed into its type.

        Args:
            raw: the object as the store returned it.
            parse: is also given what an earlier version with the same spec was parsed into.
        """
        place = identity(raw)
        known, before = self._parsed.get(place, ({}, None))
        if known is raw:
            return before  # type: ignore[no-any-return]
        made = parse(raw, before if known.get("spec") is raw.get("spec") else None)
        if self._objects.get(place) is raw:
            self._parsed[place] = raw, made
        return made

    def replace(
        self, items: list[Raw], at: int, *, within: frozenset[str] | None = None
    ) -> list[Raw]:
        """Replace the content by a list at resource version `at`; return what changed or is gone.

        Own writes that came after the list stay. A list of the namespaces `within` says nothing of
        others, which were added while it was read.
        """
        listed = {identity(item): item for item in items}
        gone = [
            held
            for place, held in list(self._objects.items())
            if place not in listed
            and version(held) <= at
            and (within is None or place[0] in within)
        ]
        for held in gone:
            self._drop(held)
            self._add_tombstone(identity(held), version(held))
        changed = [item for item in items if self._store(item)]
        self.version = at
        self.listed, self.unavailable, self.served = True, "", True
        return [*gone, *changed]

    def clear(self, why: str, *, served: bool) -> list[Raw]:
        """Drop all objects of a kind that cannot be listed; return them."""
        self.unavailable, self.served, self.listed = why, served, False
        gone = list(self._objects.values())
        for held in gone:
            self._drop(held)
        return gone

    def drop_namespace(self, namespace: str) -> list[Raw]:
        """Drop all objects of a namespace; return them."""
        gone = [held for place, held in self._objects.items() if place[0] == namespace]
        for held in gone:
            self._drop(held)
        return gone

    def update_from_watch(self, item: Raw) -> list[Raw]:
        """Handle ADDED or MODIFIED of a watch; return what changed, before and after.

        The version stays: events of different objects may come in any order.
        """
        before = self._objects.get(identity(item))
        changed = self._store(item)
        return [each for each in (before, item) if each is not None] if changed else []

    def delete_from_watch(self, item: Raw) -> list[Raw]:
        """Handle DELETED of a watch; return the object that was removed, if it was still there."""
        if not self._keeps(identity(item)):
            return []
        self._add_tombstone(identity(item), version(item))
        held = self._objects.get(identity(item))
        if held is None or version(held) > version(item):
            return []
        self._drop(held)
        return [held]

    def insert(self, item: Raw) -> None:
        """Add the result of an own write, unless the watch has already passed its version.

        An older version was replaced or deleted since: it must not come back.
        """
        if version(item) > self.version:
            self._store(item)

    def remove(self, namespace: str, name: str, uid: str) -> None:
        """Remove what an own write deleted; the watch will report it too."""
        held = self._objects.get((namespace, name))
        if held is not None and held["metadata"]["uid"] == uid:
            self._drop(held)
            self._add_tombstone((namespace, name), version(held))

    def _add_tombstone(self, place: NamespacedName, at: int) -> None:
        """Record a deletion as the newest tombstone."""
        self._tombstones[place] = max(at, self._tombstones.pop(place, 0))
        if len(self._tombstones) > MAX_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _keeps(self, place: NamespacedName) -> bool:
        return self.namespaces is None or place[0] in self.namespaces

    def _store(self, item: Raw) -> bool:
        place = identity(item)
        if not self._keeps(place):
            return False
        self._trim(item)
        if version(item) <= self._tombstones.get(place, -1):
            return False
        held = self._objects.get(place)
        if held is not None:
            if version(held) >= version(item):
                return False
            self._unlink(held)
            if "spec" in held and held["spec"] == item.get("spec"):
                item["spec"] = held["spec"]  # the same object: nothing of it is parsed again
        self._objects[place] = item
        if owner := self.owner(item):
            self._owned[place[0], owner].add(place)
        for index_key in self._index_keys(item):
            self._index[index_key].add(place)
        return True

    def _drop(self, held: Raw) -> None:
        self._unlink(held)
        del self._objects[identity(held)]
        self._parsed.pop(identity(held), None)

    def _unlink(self, held: Raw) -> None:
        place = identity(held)
        _remove(self._owned, (place[0], self.owner(held)), place)
        for index_key in self._index_keys(held):
            _remove(self._index, index_key, place)


def _remove(index: dict[Any, set[NamespacedName]], key: Hashable, place: NamespacedName) -> None:
    if key in index:
        index[key].discard(place)
        if not index[key]:
            del index[key]


class Cache:
    """One store for each kind that is watched."""

    def __init__(self, stores: Mapping[Kind, Store]) -> None:
        self.stores = stores

    @property
    def listed(self) -> bool:
        """Whether every required kind was listed at least once."""
        return all(store.listed for store in self.stores.values() if store.required)

    def keep(self, namespaces: frozenset[str]) -> None:
        """Keep objects of these namespaces alone, from now on."""
        for store in self.stores.values():
            store.namespaces = namespaces

    def drop_namespace(self, namespace: str) -> set[str]:
        """Drop all objects of a namespace; return the names of the updates that they belong to."""
        dropped = ((store, store.drop_namespace(namespace)) for store in self.stores.values())
        return {store.owner(raw) for store, gone in dropped for raw in gone} - {""}

    def get(self, kind: Kind, namespace: str, name: str) -> Raw | None:
        """Return the object of that kind and name."""
        return self.stores[kind].get(namespace, name)

    def of_update(self, kind: Kind, namespace: str, update: str) -> list[Raw]:
        """Return the objects of that kind that belong to an update, by name."""
        return self.stores[kind].of_update(namespace, update)

    def parsed(self, kind: Kind, raw: Raw, parse: Callable[[Raw, T | None], T]) -> T:
        """Return an object of that kind, parsed into its type, see `Store.parsed`."""
        return self.stores[kind].parsed(raw, parse)

    def insert(self, kind: Kind, item: Raw) -> None:
        """Add the result of an own write; kinds that are not watched are ignored."""
        if kind in self.stores:
            self.stores[kind].insert(item)

    def remove(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Remove what an own write deleted."""
        self.stores[kind].remove(namespace, name, uid)
