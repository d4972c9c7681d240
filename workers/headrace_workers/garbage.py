"""Python's cyclic garbage collector in a process that lives long: what was loaded at its start is not looked at again.

By default it looks at a few hundred new objects at a time, and now and then at all there are. Of those a worker with
its detectors has half a million, none of them garbage: that was a fifth of what moderating and judging a job cost.
"""

import gc
from typing import Final

# New containers to the next look: more than a group of jobs leaves at any time, so that nearly all of them are gone by
# themselves before. What they hold may be some megabytes.
_NEW: Final = 20_000


def spare_what_is_loaded() -> None:
    """Call it once a process, when all that it works with is loaded, and after any fork."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW, 10, 10)
