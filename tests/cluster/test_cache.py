"""The cache after lists, watch events and own writes, in any order: what it holds, and finds."""

from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.kinds import UPDATE
from springtide_operator.cluster.watching.cache import Store


def thing(name, version, update="u", **fields):
    metadata = {"namespace": "n", "name": name, "uid": f"uid-{name}"}
    metadata["resourceVersion"] = str(version)
    return {"metadata": metadata | {"labels": {"update": update}}, **fields}


def store():
    return Store(owner=lambda raw: raw["metadata"]["labels"]["update"], trim=lambda raw: None)


def names(objects):
    return [each["metadata"]["name"] for each in objects]


def test_a_list_replaces_what_is_held_and_tells_what_changed_and_went():
    held = store()
    held.replace([thing("a", 1), thing("b", 2), thing("c", 3)], 5)
    reported = held.replace([thing("b", 2), thing("c", 7), thing("d", 8)], 9)
    assert sorted(names(reported)) == ["a", "c", "d"]
    assert names(held.of_update("n", "u")) == ["b", "c", "d"]


def test_an_own_write_is_seen_at_once_and_its_echo_tells_nothing():
    held = store()
    held.replace([], 5)
    held.insert(thing("a", 6))
    assert names(held.of_update("n", "u")) == ["a"]
    assert held.update_from_watch(thing("a", 6)) == []


def test_an_own_write_that_the_watch_is_past_is_no_ghost():
    held = store()
    held.replace([], 5)
    held.update_from_watch(thing("a", 6))
    held.delete_from_watch(thing("a", 7))
    held.insert(thing("a", 6))
    assert held.of_update("n", "u") == []


def test_an_own_write_after_the_list_was_made_stays():
    held = store()
    held.insert(thing("a", 12))
    assert held.replace([], 10) == []
    assert names(held.of_update("n", "u")) == ["a"]


def test_replayed_old_events_change_nothing():
    held = store()
    held.replace([thing("a", 5, x=2)], 6)
    assert held.update_from_watch(thing("a", 4, x=1)) == []
    assert held.delete_from_watch(thing("a", 4)) == []
    assert held.get("n", "a")["x"] == 2


def test_what_was_deleted_does_not_come_back_with_a_replayed_event():
    held = store()
    held.replace([thing("a", 5), thing("b", 5), thing("c", 5)], 6)
    held.delete_from_watch(thing("a", 9))
    held.remove("n", "b", "uid-b")
    held.replace([], 10)
    for name in "abc":
        assert held.update_from_watch(thing(name, 5)) == []
    assert held.of_update("n", "u") == []
    held.update_from_watch(thing("a", 12))
    assert names(held.of_update("n", "u")) == ["a"]


def test_an_object_whose_deletion_is_told_before_its_creation_is_no_ghost():
    held = store()
    held.replace([], 5)
    assert held.delete_from_watch(thing("a", 8)) == []
    assert held.update_from_watch(thing("a", 7)) == []
    assert held.of_update("n", "u") == []


def test_only_so_many_deletions_are_remembered(monkeypatch):
    monkeypatch.setattr("springtide_operator.cluster.watching.cache.MAX_TOMBSTONES", 2)
    held = store()
    held.replace([], 5)
    for number in range(9):
        held.delete_from_watch(thing(f"a{number}", 10 + number))
    assert len(held._tombstones) == 2


def test_an_object_that_moves_to_another_update_leaves_the_first():
    held = store()
    held.replace([thing("a", 5, update="u")], 6)
    reported = held.update_from_watch(thing("a", 7, update="v"))
    assert [each["metadata"]["labels"]["update"] for each in reported] == ["u", "v"]
    assert held.of_update("n", "u") == []
    assert names(held.of_update("n", "v")) == ["a"]


def test_an_object_is_found_by_its_marks_until_it_changes_or_goes():
    held = Store(owner=lambda raw: "", trim=lambda raw: None, index_keys=lambda raw: raw["aims"])
    held.replace([thing("a", 1, aims=["x", "y"]), thing("b", 2, aims=["x"])], 3)
    assert names(held.by_index("x")) == ["a", "b"]
    held.update_from_watch(thing("a", 4, aims=["y"]))
    held.delete_from_watch(thing("b", 5, aims=["x"]))
    assert held.by_index("x") == []
    assert names(held.by_index("y")) == ["a"]


def test_each_version_of_an_object_is_parsed_once_and_an_unchanged_spec_is_shared():
    held, parsed = store(), []

    def parse(raw, before):
        parsed.append(before)
        return raw["metadata"]["resourceVersion"]

    def ask():
        return held.parsed(held.get("n", "a"), parse)

    held.replace([thing("a", 1, spec={"x": 1})], 2)
    assert (ask(), ask()) == ("1", "1")
    held.update_from_watch(thing("a", 3, spec={"x": 1}, status={"y": 2}))
    assert (ask(), ask()) == ("3", "3")
    held.update_from_watch(thing("a", 4, spec={"x": 5}))
    assert (ask(), ask()) == ("4", "4")
    assert parsed == [None, "1", None]


def test_an_object_created_again_under_the_same_name_shares_nothing_with_the_first():
    held, parsed = store(), []
    held.replace([thing("a", 1, spec={})], 2)
    held.parsed(held.get("n", "a"), lambda raw, before: parsed.append(before))
    held.delete_from_watch(thing("a", 3, spec={}))
    held.update_from_watch(thing("a", 4, spec={}))
    held.parsed(held.get("n", "a"), lambda raw, before: parsed.append(before))
    assert parsed == [None, None]


def test_only_so_many_objects_are_kept_in_their_type(monkeypatch):
    monkeypatch.setattr("springtide_operator.cluster.watching.cache.MAX_PARSED", 2)
    held = store()
    held.replace([thing(f"a{number}", 1) for number in range(9)], 2)
    for raw in held.all():
        assert (
            held.parsed(raw, lambda raw, before: raw["metadata"]["name"]) == raw["metadata"]["name"]
        )
    assert len(held._parsed) == 2


def elsewhere(name, version, namespace):
    made = thing(name, version)
    made["metadata"]["namespace"] = namespace
    return made


def test_objects_of_namespaces_that_are_not_kept_are_dropped_at_once():
    held = store()
    held.namespaces = frozenset({"n"})
    assert held.update_from_watch(elsewhere("a", 3, "other")) == []
    assert held.replace([elsewhere("a", 3, "other"), thing("b", 4)], 5) == [thing("b", 4)]
    held.insert(elsewhere("c", 6, "other"))
    assert held.delete_from_watch(elsewhere("a", 7, "other")) == []
    held.namespaces = frozenset({"n", "other"})
    assert names(held.all()) == ["b"]
    assert held.update_from_watch(elsewhere("a", 3, "other"))  # its deletion was not noted either


def test_a_list_that_began_earlier_says_nothing_of_a_namespace_that_came_meanwhile():
    held = store()
    held.namespaces = before = frozenset({"n"})
    held.update_from_watch(thing("b", 2))
    held.namespaces = frozenset({"n", "other"})
    held.update_from_watch(elsewhere("a", 3, "other"))
    held.replace([], 5, within=before)
    assert names(held.all()) == ["a"]


async def test_a_list_names_the_namespaces_that_were_kept_when_its_version_was_known(monkeypatch):
    """One kept before the answer is in it; one kept later is listed by itself, and newer."""
    kept = {"n"}
    client = Client(None, None, None)

    async def ask(verb, path, query):
        page = 2 if query["continue"] else 1
        kept.add("late" if page == 2 else "early")
        items = [elsewhere(f"{name}-{page}", page, name) for name in ("n", "early", "late")]
        more = "" if page == 2 else "more"
        return {"items": items, "metadata": {"resourceVersion": "7", "continue": more}}

    monkeypatch.setattr(client, "_ask", ask)
    listed = await client.list_all(UPDATE, within=lambda: frozenset(kept))
    assert listed.within == {"n", "early"}
    assert sorted(names(listed.items)) == ["early-1", "early-2", "n-1", "n-2"]


def test_a_namespace_that_was_dropped_can_come_back_unchanged():
    held = store()
    held.replace([thing("a", 1), elsewhere("b", 2, "other")], 5)
    assert names(held.drop_namespace("n")) == ["a"]
    assert held.of_update("n", "u") == []
    assert held.update_from_watch(thing("a", 1))
    assert names(held.of_update("n", "u")) == ["a"]
    assert names(held.of_update("other", "u")) == ["b"]
