"""Digests by which the nodes of a pair see whether they agree: of the configuration that runs,
and of what operators have said. Owned by the daemon, served by the routes to `mailweir ha`.
"""

import json
from hashlib import sha256

from mailweir.config.agreed import Agreement
from mailweir.state.overrides import Overrides


class Digests:
    """Those of this node."""

    def __init__(self) -> None:
        self._agreement = Agreement(b"", {})
        self._digested: tuple[Overrides, str] = (Overrides(), "")

    def take(self, agreement: Agreement) -> None:
        """Remember which configuration runs."""
        self._agreement = agreement

    @property
    def configuration(self) -> str:
        """As far as both nodes of a pair need the same; empty before one was taken."""
        return self._agreement.digest.hex()

    def of_words(self, overrides: Overrides) -> str:
        """Of what operators have said; `words` tells the same from here on."""
        if self._digested[0] is not overrides:
            said = sorted((what, word.until or 0.0) for what, word in overrides.words())
            self._digested = (overrides, sha256(json.dumps(said).encode()).hexdigest()[:16])
        return self._digested[1]

    def parts(self) -> dict[str, object]:
        """What the digest is made of: names of keys, with digests of their values."""
        named = {name: one.hex() for name, one in self._agreement.parts.items()}
        return {"digest": self._agreement.digest.hex(), "parts": named}

    def words(self) -> dict[str, object]:
        """What operators had said when it was asked for health last, with the digest that was told
        then; `until` in seconds since 1970.
        """
        overrides, digest = self._digested
        said = [{"what": what, "until": word.until} for what, word in overrides.words()]
        return {"digest": digest, "words": said}
