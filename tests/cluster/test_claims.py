"""One release at a time holds a namespace; it goes over once the holder cannot write any more."""

import dataclasses

import pytest
from patience import within

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.claims import CLAIM, Claims
from springtide_operator.cluster.api.kinds import LEASE, NAMESPACE
from springtide_operator.cluster.api.lease import Lease, LeaseLost

pytestmark = pytest.mark.apiserver


async def release(client, namespace, name, seconds=30.0):
    """A process of a release that holds its Lease, and its claims."""
    quick = dataclasses.replace(client, timeout=1.0)
    lease = Lease(quick, namespace, name, f"pod-of-{name}", seconds=seconds)
    await lease.acquire()
    return Claims(quick, lease)


async def test_a_namespace_is_held_by_the_first_until_it_is_released(client, namespace):
    one, other = [await release(client, namespace, name) for name in ("one", "other")]
    assert await one.take(namespace) == ""
    assert await one.take(namespace) == ""
    assert await other.take(namespace) == f"{namespace}/one"
    await other.release(namespace)
    assert await other.take(namespace) == f"{namespace}/one"
    await one.release(namespace)
    assert await other.take(namespace) == ""
    assert await one.take(namespace) == f"{namespace}/other"


@pytest.mark.survives(
    "Operator",
    "of a shard gets no answer to the release of a namespace whose label changes back meanwhile",
    "it claims the namespace again, so that a release that is carried out late fails: no other "
    "release takes over while it writes",
)
async def test_a_release_that_is_carried_out_late_gives_no_namespace_away(
    client, namespace, monkeypatch
):
    one, other = [await release(client, namespace, name) for name in ("one", "other")]
    await one.take(namespace)
    late = []

    async def unanswered(*write):
        late.append(write)
        raise errors.Timeout("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(one.client, "replace", unanswered)
        with pytest.raises(errors.Timeout):
            await one.release(namespace)
    assert await one.take(namespace) == ""
    with pytest.raises(errors.Conflict):
        await one.client.replace(*late.pop())
    assert await other.take(namespace) == f"{namespace}/one"
    await one.release(namespace)
    assert await other.take(namespace) == ""


async def test_the_next_process_of_a_release_takes_its_claims(client, namespace):
    one = await release(client, namespace, "one")
    await one.take(namespace)
    await one.lease.release()
    again = await release(client, namespace, "one")
    assert await again.take(namespace) == ""
    held = await client.get(LEASE, namespace, CLAIM)
    assert held["spec"]["holderIdentity"] == again.holder != one.holder


@pytest.mark.parametrize("end", ["released", "restarted", "deleted"])
async def test_the_claim_of_a_process_that_is_over_goes_to_another_release(client, namespace, end):
    one, other = [await release(client, namespace, name) for name in ("one", "other")]
    await one.take(namespace)
    if end == "deleted":
        seen = await client.get(LEASE, namespace, "one")
        await client.delete(LEASE, namespace, "one", uid=seen["metadata"]["uid"])
    else:
        await one.lease.release()
    if end == "restarted":
        await release(client, namespace, "one")
    assert await other.take(namespace) == ""


@pytest.mark.survives(
    "Operator",
    "of a shard no longer renews its Lease while it holds a namespace whose label has changed",
    "the other release empties the expired Lease, so that a late renewal fails, and takes over",
)
async def test_an_expired_lease_is_emptied_before_its_claims_are_taken(client, namespace):
    one = await release(client, namespace, "one", seconds=8.0)
    other = await release(client, namespace, "other")
    await one.take(namespace)
    async with within(30):
        while holder := await other.take(namespace):
            assert holder == f"{namespace}/one"
    assert not one.lease.fresh
    with pytest.raises(LeaseLost):
        async with within(20):
            await one.lease.keep()


async def test_of_two_that_take_at_the_same_time_one_is_refused(client, namespace):
    one, other = [await release(client, namespace, name) for name in ("one", "other")]
    await one.take(namespace)
    seen = await client.get(LEASE, namespace, CLAIM)
    await one.release(namespace)
    assert await other.take(namespace) == ""
    with pytest.raises(errors.Conflict):
        await client.replace(LEASE, seen)


async def test_a_claim_that_names_no_release_is_not_taken(client, namespace, monkeypatch):
    """A user of the namespace may have written it: nothing that it names is asked for."""
    one = await release(client, namespace, "one")
    metadata = {"namespace": namespace, "name": CLAIM}
    held = await client.create(LEASE, {"metadata": metadata, "spec": {"holderIdentity": "some"}})
    monkeypatch.setattr(Claims, "_is_over", None)
    process = one.lease.process
    for text in (
        "a-user",
        "a/b/c",
        *(f"{each}/{process}" for each in ("../..", "a/b?c", "a/b%2f")),
    ):
        held = await client.replace(LEASE, {**held, "spec": {"holderIdentity": text}})
        assert await one.take(namespace) == text


async def test_an_expired_lease_that_we_may_not_change_keeps_its_claims(
    client, namespace, monkeypatch
):
    """It lies in the namespace of another release: a person deletes the claim."""

    async def refused(lease, seen):
        raise errors.Forbidden("leases is forbidden")

    one, other = [await release(client, namespace, name) for name in ("one", "other")]
    await one.take(namespace)
    monkeypatch.setattr(Lease, "end", refused)
    assert await other.take(namespace) == f"{namespace}/one"
    claim = await client.get(LEASE, namespace, CLAIM)
    await client.delete(LEASE, namespace, CLAIM, uid=claim["metadata"]["uid"])
    assert not await one.holds(namespace)
    assert await other.take(namespace) == ""
    assert await other.holds(namespace)


@pytest.mark.survives(
    "People",
    "delete a namespace of a shard while its operator is restarted",
    "it is served without a claim, which cannot be created: finalizers are removed",
)
async def test_a_namespace_that_is_being_deleted_needs_no_claim(client, namespace):
    one = await release(client, "default", f"of-{namespace}")
    seen = await client.get(NAMESPACE, "", namespace)
    await client.delete(NAMESPACE, "", namespace, uid=seen["metadata"]["uid"])
    assert await one.take(namespace) == ""
    with pytest.raises(errors.NotFound):
        await client.get(LEASE, namespace, CLAIM)
    await one.release(namespace)
