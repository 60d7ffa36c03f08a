"""A process that has floating addresses, says so and renews them, until it is killed.

python lease_holder.py LEASE DEV ADDRESS/LENGTH...
"""

import asyncio
import sys

from mailweir.config.ha import Floating
from mailweir.ha.kernel.addresses import Addresses
from mailweir.ha.kernel.announce import Announcer


def floating(dev: str, *addresses: str) -> list[Floating]:
    """These addresses on one device."""
    return [Floating.model_validate({"address": each, "dev": dev}) for each in addresses]


async def hold(lease: float, what: list[Floating]) -> None:
    """For ever."""
    addresses = Addresses(what, lease=lease, on_event=print)
    await addresses.open()
    announcer = Announcer(what)
    await addresses.add()
    announcer.burst()
    print("held", flush=True)
    while True:
        await asyncio.sleep(lease / 3)
        await addresses.renew()


if __name__ == "__main__":
    asyncio.run(hold(float(sys.argv[1]), floating(*sys.argv[2:])))
