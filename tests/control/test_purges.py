"""Orders to purge go through the store to every node."""

import asyncio

from tests.support import wait_until

from meridian.control.purges import PurgeDesk
from meridian.core.purging import Purge, Purges
from meridian.store.embedded import EmbeddedStore
from meridian.store.keys import Keys


async def test_every_node_hears_every_order_in_order() -> None:
    store, heard = EmbeddedStore(asyncio.get_running_loop().time), list[Purges]()
    desks = [PurgeDesk(store, Keys("test"), told) for told in (heard.append, lambda purges: None)]
    running = asyncio.get_running_loop().create_task(desks[0].run())
    try:
        await wait_until(lambda: heard == [Purges()], within_seconds=5, what="that there is none")
        numbers = await asyncio.gather(*(desks[n % 2].order(Purge(0, tag=f"t{n}")) for n in range(4)))
        assert sorted(numbers) == [1, 2, 3, 4], "none is lost to another"
        await wait_until(lambda: heard[-1].number == 4, within_seconds=5, what="all of them")
        assert sorted(order.tag for order in heard[-1].orders) == ["t0", "t1", "t2", "t3"]
        await store.put(Keys("test").purge("orders"), b"damaged")
        assert await desks[1].order(Purge(0)) == 1
        await wait_until(lambda: heard[-1].number == 1, within_seconds=5, what="a record that begins anew")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
