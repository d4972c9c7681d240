"""The two lanes of work, as the ledger numbers them: the smaller, the more urgent."""

from typing import Final

INTERACTIVE: Final = 0
BATCH: Final = 1
