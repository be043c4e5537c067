"""An operator ends at one write of something that goes on, and the next one continues it."""

import asyncio


async def crash_during(scene, crash, going_on, **start):
    """Play what goes on; once the operator has ended at its write, start the next.

    Args:
        scene: where it goes on; its operator is replaced by one that is to end.
        crash: where that one ends.
        going_on: what is to come about, as a coroutine.
        start: settings of both operators.
    """
    await scene.drop()
    await scene.start(crash, **start)
    living = asyncio.create_task(going_on)
    ended = asyncio.create_task(crash.happened.wait())
    await asyncio.wait({living, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    await scene.drop()
    await scene.start(**start)
    await living
