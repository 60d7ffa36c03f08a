"""What both nodes of a mailweir pair are told, in the networks of `networks.pair`."""

import os
from pathlib import Path

from harness.clients.dialogue import Address
from harness.mailweir.run import Tree, configuration
from harness.networks.pair import ADDRESSES, DEVICES, GATEWAY, NODES, VIRTUAL, Node

HEARTBEATS = 5405  # a port
_KEY_BYTES = 32


def pair_configuration(
    folder: Path, node: Node, key: Path, server: Address, port: int, **more: object
) -> Tree:
    """One listener at `port` of every address, one server `mx`; `more` is of the part `ha`.

    `folder` is the node's own; its sockets are `admin.sock` and `ha.sock` there.
    """
    config = configuration(folder, {"mx": "{}:{}".format(*server)})
    config["listeners"]["mx"]["bind"] = [f"0.0.0.0:{port}"]
    links = {
        one: {link: f"{ADDRESSES[one][link]}:{HEARTBEATS}" for link in DEVICES} for one in NODES
    }
    ha = {
        "node": node,
        "nodes": {one: {"links": links[one]} for one in NODES},
        "virtual": [{"address": f"{VIRTUAL}/24", "dev": DEVICES["lan"]}],
        "keys": {1: str(key)},
        "gateway": [GATEWAY],
        "socket": str(folder / "ha.sock"),
        "http": "off",
    }
    return config | {"ha": ha | more}


def new_key(file: Path) -> Path:
    """A key for both nodes."""
    file.touch(mode=0o400)
    file.write_bytes(os.urandom(_KEY_BYTES))
    return file
