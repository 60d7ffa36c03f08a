"""The configuration as one file. Pure.

Called by the admin routes (`config show`).
"""

from mailweir.config.model import Config
from mailweir.config.written import plain


def whole(config: Config) -> dict[str, object]:
    """As one file: what it includes stands in it already."""
    return {key: found for key, found in plain(config).items() if key != "include"}
