"""What a run does with the adapter of its parent: continue it, start a new one, or train Full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from springtide_api.schema import Digest, Model, Text, Uri

if TYPE_CHECKING:
    from springtide_api.update.training import Training


class Adapter(Model):
    """A low-rank adapter that a generation leaves for the next one. Immutable."""

    uri: Uri
    """Folder of the adapter, in the format of peft."""
    digest: Digest
    """Digest of the adapter."""
    base: Digest
    """Digest of the weights that it belongs to: those of the generation that started it continued
    from. They are kept as long as the adapter is."""
    generations: Annotated[int, Field(ge=1, le=2**31)] = 1
    """Number of generations that it was trained by, one after the other."""


class Continuation(Model):
    """What the training does with the adapter of its parent."""

    adapter: Adapter | None = None
    """Adapter of the parent, which the training continues; unset: it starts a new one, or with
    lora.rebaseEvery is a Full update."""
    message: Text = ""
    """Human-readable: which adapter is continued, or why none is."""


def continuation(
    declared: Training,
    resolved: Training,
    *,
    parent: str,
    left: Adapter | None,
    before: Training | None,
) -> Continuation | None:
    """Decide what a run does with the adapter of its parent.

    Args:
        declared: The training of the spec.
        resolved: That of the recipe: a Full update where lora.rebaseEvery is reached.
        parent: Name of the parent.
        left: The adapter that the parent left.
        before: The training of the parent's recipe.

    Returns:
        None if the spec does not ask to continue adapters.
    """
    lora = declared.method.lora
    if lora is None or lora.continuation != "Continue":
        return None
    if left is None or before is None:
        return Continuation(message=f"starts a new adapter: {parent} left none")
    count = f"{left.generations} generation{'' if left.generations == 1 else 's'}"
    trained = f"adapter of {parent}, trained by {count}"
    if resolved.method.type == "Full":
        message = f"is a Full update instead of the {trained} (rebaseEvery {lora.rebase_every})"
        return Continuation(message=message)
    was, now = before.adapter_options, resolved.adapter_options
    if changed := [f"{name} is {now[name]}, was {was.get(name)}" for name in _changed(was, now)]:
        message = f"starts a new adapter, that of {parent} has other options: {', '.join(changed)}"
        return Continuation(message=message[:1024])
    return Continuation(adapter=left, message=f"continues the {trained}")


def adapter_left(
    uri: str, digest: str, base: str, *, continued: Adapter | None, parent: str
) -> Adapter | None:
    """Return the adapter that a generation left, with the number of generations that it has.

    Args:
        uri: Its folder.
        digest: Its digest.
        base: Digest of the weights that it belongs to.
        continued: The adapter that the generation was given.
        parent: Digest of the parent's weights.

    Returns:
        None if it belongs to weights that the generation was not given: nothing can continue it.
    """
    if continued is not None and base == continued.base:
        return Adapter(uri=uri, digest=digest, base=base, generations=continued.generations + 1)
    return Adapter(uri=uri, digest=digest, base=base) if base == parent else None


def _changed(was: dict[str, object], now: dict[str, object]) -> list[str]:
    return [name for name in now if now[name] != was.get(name)]
