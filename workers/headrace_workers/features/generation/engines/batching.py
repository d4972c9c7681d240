"""The plan of batches for prompts of mixed length. Pure: lengths in, lists of indexes out."""

from collections.abc import Sequence


def plan_batches(
    lengths: Sequence[int], *, max_tokens: int, max_rows: int, workers: int, max_steps: int | None = None
) -> list[list[int]]:
    """Return batches of indexes into `lengths`: neighbours in length together, the longest batch first.

    A batch holds at most `max_rows` prompts and `max_tokens` tokens with padding; a prompt above that stands alone.
    With several `workers` the work is cut finer, so that none idles: the last to finish sets the time.

    CTranslate2 forwards only the shortest prompt's length at once; what longer ones have beyond it is decoded step by
    step, in company of the shorter ones' answers. `max_steps` bounds the sum of those steps over a batch, each row's
    first answer token included: it is what a caller pays for who keeps the logits of every step.
    """
    if not lengths:
        return []
    rows = min(max_rows, -(-len(lengths) // workers))
    batches: list[list[int]] = []
    batch: list[int] = []
    steps = 0
    # From the longest down: the first of a batch sets its padding.
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # Every row gains what the new shortest prompt leaves to be stepped through.
        grown = steps + len(batch) * (lengths[batch[-1]] - lengths[index]) + 1 if batch else 1
        if batch and (
            len(batch) == rows
            or (len(batch) + 1) * lengths[batch[0]] > max_tokens
            or (max_steps is not None and grown > max_steps)
        ):
            batches.append(batch)
            batch, grown = [], 1
        batch.append(index)
        steps = grown
    batches.append(batch)
    return batches
