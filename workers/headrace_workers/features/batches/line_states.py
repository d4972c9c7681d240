"""The words for the state of a batch's line."""

from typing import Final

OPEN: Final = "open"  # its jobs are not finished
REFUSED: Final = "refused"  # it became no job; the error file does not say so yet
DONE: Final = "done"  # its answer is in the output file
FAILED: Final = "failed"  # the error file says why
