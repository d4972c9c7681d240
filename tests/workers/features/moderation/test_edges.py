"""What detectors find does not hang on where in a long text it stands, nor on how long it is."""

import base64
import json
from collections.abc import Iterator
from functools import cache

import pytest
from tests.slow import slow_after_first
from tests.workers.features.moderation.test_secrets import TOKENS

from headrace_workers.features.moderation.blocklist import BlocklistDetector
from headrace_workers.features.moderation.detector import Detector
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.profanity import ProfanityDetector
from headrace_workers.features.moderation.secrets import SecretsDetector
from headrace_workers.features.moderation.segments import OVERLAP, SIZE

LONGEST_EMAIL = f"{'jo.' * 21}j@{'mail.' * 50}co.uk"  # 64 characters, an @, 255
PERSONAL = (
    "jo@headrace.io", LONGEST_EMAIL, "+44 20 7946 0958", "4111 1111 1111 1111", "GB82 WEST 1234 5698 7654 32",
    "81.2.169.142",
)  # fmt: skip


@cache
def detector(name: str) -> Detector:
    if name == "blocklist":
        return BlocklistDetector(["falcon", "night of  the hawk", "re:code-[0-9]{300}"])
    return {"secrets": SecretsDetector, "personal": PersonalDataDetector, "profanity": ProfanityDetector}[name]()


def covered(name: str, text: str, start: int, end: int) -> bool:
    """Whether every character of the span lies in a detection."""
    at = start
    for detection in sorted(detector(name).detect([text])[0], key=lambda d: d.start):
        if detection.start <= at:
            at = max(at, detection.end)
    return at >= end


def places(length: int) -> Iterator[int]:
    """Around the edges of the first two windows, in what both see, and at the beginning."""
    for edge in (SIZE, SIZE - OVERLAP, 2 * SIZE - OVERLAP):
        yield from range(edge - length - 3, edge + 4, max(1, length // 12))
    yield 0


def jwt(length: int) -> str:
    """A token of at least so many characters, most of them in its claims."""
    header = base64.urlsafe_b64encode(b'{"alg":"RS256","typ":"JWT"}').rstrip(b"=").decode()
    claims = json.dumps({"sub": "1", "groups": ["a1" * max(0, 3 * (length - 300) // 8)]})
    return f"{header}.{base64.urlsafe_b64encode(claims.encode()).rstrip(b'=').decode()}.{'s1G-_' * 40}"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "sample"),
    [
        *(("secrets", token) for token in TOKENS.values()),
        *(("personal", sample) for sample in PERSONAL),
        ("blocklist", "Falcon"),
        ("blocklist", "night of\n\n  the HAWK"),
        ("blocklist", "code-" + "7" * 300),
        ("profanity", "fuck"),
    ],
    ids=lambda value: value[:20],
)
@pytest.mark.parametrize("filler", slow_after_first(["word ", ",", "x\n\n"]), ids=["prose", "without spaces", "lines"])
def test_found_wherever_it_stands(name: str, sample: str, filler: str) -> None:
    for place in places(len(sample)):
        before = (filler * place)[: max(0, place - 1)] + " "
        text = before + sample + " " + filler * 400
        assert covered(name, text, len(before), len(before) + len(sample)), place


@pytest.mark.integration
@pytest.mark.parametrize("length", [300, 2_000, 2_048, 2_049, 2_550, 4_096, 20_000, 190_000])
@pytest.mark.parametrize("place", [0, 1, SIZE - OVERLAP, SIZE - 5, SIZE, 3_000])
def test_a_token_of_any_length_is_a_secret_to_its_end(length: int, place: int) -> None:
    body = ("aB3-" * length)[:length]
    for before, secret, after in (
        ("token: ", jwt(length), " ok"),
        ("https://bob:", body, "@host/path"),
        ("https://" + "u" * length + ":", "pass1word", "@host"),
        ("", "sk-proj-" + body, " ok"),
        ("'", "github_pat_" + "a1_" * (length // 3), "'"),
        ("", "pypi-AgEIcHlwaS5vcmc" + body, "\n"),
        ("", "-----BEGIN PRIVATE KEY-----\n" + body + "\n-----END PRIVATE KEY-----", "\n"),
    ):
        prefix = ("word " * place)[:place] + " " + before
        text = prefix + secret + after
        spans = [(found.start, found.end) for found in detector("secrets").detect([text])[0]]
        assert spans == [(len(prefix), len(prefix) + len(secret))], (before, secret[:20])


HOSTILE = (
    ".", "a", "1", "@", " ", "-", "_", "x\n", "eyJ", "eyJ.", "eyJhbGciOiJIUzI1NiJ9.", "eyJhbGciOiJIUzI1NiJ9.eyJ",
    "sk-a1", "ghp_" + "a1" * 18, "://", "://a:", "//a/:_authToken=", "BEGIN RSA PRIVATE KEY ", "xoxb-1-", "key = ",
    "a@", "a.b@", "::", "1.", "AB12 ", "!?", "…;", ".\n", "\u200b", "a\u200bb", "falcon ", "night of ", "\u0301", "😀",
    "f:", "12 Aa ", "Rue de la ", "name is A", "Dear A\n",
)  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("name", ["secrets", "personal", "profanity", "blocklist"])
@pytest.mark.parametrize(
    ("unit", "length"),
    slow_after_first([("".join(HOSTILE), 200_000), *((unit, 50_000) for unit in HOSTILE)]),
    ids=["all units", *(f"unit {n}" for n in range(len(HOSTILE)))],
)
def test_a_text_of_the_greatest_length_comes_to_an_end(name: str, unit: str, length: int) -> None:
    """Also where it is made to cost as much as possible. A quadratic search takes minutes at the greatest length, and
    twenty seconds at a quarter of it, which is enough to notice.
    """
    text = (unit * length)[: length - 1]
    for hostile in (text + "x", text + "\n"):
        assert len(detector(name).detect([hostile])) == 1


@pytest.mark.integration
def test_the_longest_list_is_searched_to_an_end() -> None:
    terms = [f"{'aab ' * 20}{n}x" for n in range(5_000)]
    listed = BlocklistDetector(terms)
    assert listed.detect(["aab " * 50_000]) == [[]]
    assert all(len(listed.detect([term])[0]) == 1 for term in terms[::97])
