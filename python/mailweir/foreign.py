"""Words that others chose (servers, files), made fit to be shown wherever words go: a terminal, a
page, a log. Used once, where they come in. Every module may import this one; it imports none.
"""

# Of what somebody says at a time: enough to know what it is about.
MOST = 200


def shown(text: str, most: int = MOST) -> str:
    """`text` with all that isn't to be seen written out, as `\\x1b` or `\\u202e`, and cut."""
    found = text[: most + 1]
    if not found.isprintable():
        found = "".join(one if one.isprintable() else _escape(one) for one in found)
    return found if len(found) <= most else f"{found[:most]}..."


def shown_bytes(data: bytes, most: int = MOST) -> str:
    """The same of bytes, whatever their encoding: ASCII stays, others are written out."""
    return shown(data[: most + 1].decode("ascii", "backslashreplace"), most)


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")
