"""Jobs that take a while, so that a fault finds work under way; and what must be true of them in the end."""

from itertools import count

from tests.chaos.deployment import Deployment
from tests.chaos.history import History, read_history
from tests.chaos.rules import Tally, check

from headrace_schemas.criteria import Length

_keys = count(1)
JUDGED = (Length(min_words=1),)
BREATH = 0.01  # seconds that each job takes, so that a fault finds work under way
LONG = 0.05  # of a group that can be caught at work for certain: it takes more than a second


def fresh_key(name: str) -> str:
    """The beginning of idempotency keys that no other jobs have."""
    return f"{name}-{next(_keys)}"


def prompts(number: int, seconds: float = BREATH) -> list[str]:
    return [f"%%sleep:{seconds}%% tell me of the river number {n}" for n in range(number)]


def publish(deployment: Deployment, number: int = 200, seconds: float = BREATH) -> list[str]:
    return deployment.publish(prompts(number, seconds), fresh_key("fault"), criteria=JUDGED)


def under_way(deployment: Deployment, before: int, at_least: int = 10) -> None:
    """Wait until some jobs have ended, and others have not."""
    deployment.wait_until(lambda: deployment.ended() >= before + at_least, "the first jobs end")


def history_of(deployment: Deployment, ids: list[str], forbidden: tuple[str, ...] = ()) -> History:
    whole = read_history(
        bootstrap=deployment.kafka,
        prefix=deployment.prefix,
        ledger=deployment.ledger,
        published=ids,
        forbidden=forbidden,
    )
    return whole.of(ids)


def verdict(deployment: Deployment, ids: list[str], **ends: int) -> Tally:
    """Wait until all is quiet; the history must hold, with so many jobs at each end (all answered by default)."""
    deployment.wait_quiet(ids)
    tally = check(history_of(deployment, ids))
    assert tally.holds, f"\n{tally}"
    found = {name: tally.counts[f"  {name}"] for name in ("answered", "cancelled", "dead")}
    assert found == {"answered": len(set(ids)) - sum(ends.values()), "cancelled": 0, "dead": 0} | ends, f"\n{tally}"
    return tally
