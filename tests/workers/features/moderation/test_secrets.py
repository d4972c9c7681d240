import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_workers.features.moderation.secrets import SecretsDetector, _matches

# Assembled here, so that no scanner takes this file for a leak.
TOKENS = {
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "github": "ghp_" + "a1B2c3D4e5F6" * 3,
    "github_fine": "github_pat_" + "11ABCDEFG0" * 4,
    "gitlab": "glpat-" + "a1B2c3D4e5F6g7H8i9J0",
    "slack": "xoxb-" + "123456789012-abcdefABCDEF",
    "stripe": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "openai": "sk-proj-" + "abcdEFGH1234" * 4,
    "google": "AIza" + "SyA1234567890abcdefghijklmnopqrstuv",
    "jwt": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0"
    ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "sendgrid": "SG." + "a1B2c3D4e5F6g7H8i9J0kL" + "." + "a1B2c3D4e5F6g7H8i9J0" * 2 + "xyz",
    "twilio": "SK" + "0123456789abcdef" * 2,
}


def found(detector: SecretsDetector, text: str) -> list[str]:
    return [text[d.start : d.end] for d in detector.detect([text])[0]]


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
@pytest.mark.parametrize("frame", ["{}", "The key is {}, keep it.", 'token = "{}"', "😀 {}\nnext line", "({})"])
def test_finds_the_whole_token(secrets: SecretsDetector, token: str, frame: str) -> None:
    assert found(secrets, frame.format(token)) == [token]


def test_password_in_a_url(secrets: SecretsDetector) -> None:
    assert found(secrets, "see https://bob:hunter@db.example.com/x") == ["hunter"]


def test_assignment_names_only_the_value(secrets: SecretsDetector) -> None:
    value = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYEXAMPLEKEY"
    assert found(secrets, f"aws_secret_access_key = '{value}'") == [value]


@pytest.mark.parametrize("end", ["-----END RSA PRIVATE KEY-----", ""])
def test_private_key_is_found_with_its_body(secrets: SecretsDetector, end: str) -> None:
    key = f"-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\nxyz=\n{end}"
    assert found(secrets, "Here:\n" + key) == [key]


@pytest.mark.parametrize("end", ["Private-MAC: 0123456789abcdef", ""])
def test_a_key_of_putty_is_found_with_its_body(secrets: SecretsDetector, end: str) -> None:
    key = f"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\nAAAAIabc\n{end}"
    assert found(secrets, f"Here:\n{key}") == [key]
    if end:
        assert found(secrets, f"{key}\nand text after it") == [key]


@pytest.mark.parametrize(
    "text",
    [
        "The secret of good soup is patience. My password hint: the name of my first cat.",
        "Apartments in APPROXIMATELY ten towns; Asia is large. A task-oriented desk-lamp.",
        "commit 3f786850e387550fdab836ed7e6dc881de23001b fixed issue 42 on 2024-05-12",
        "See https://example.com/a/b?c=d#e:f and key = value; token: none",
        "id 123e4567-e89b-12d3-a456-426614174000, sha256 " + "ab" * 32,
        "sk-learn-pipelines-with-many-hyphenated-words-in-them, as in version-10203040",
        "The skeleton key opens risk-assessment-and-management-procedures-for-2024.",
    ],
)
def test_prose_and_hashes_are_no_secrets(secrets: SecretsDetector, text: str) -> None:
    assert found(secrets, text) == []


def encoded(value: str) -> str:
    return base64.urlsafe_b64encode(value.encode()).rstrip(b"=").decode()


CLAIMS = encoded('{"sub":"1"}')


@pytest.mark.parametrize(
    "token",
    [
        encoded('{"alg":"none"}') + "." + CLAIMS,
        encoded('{ "typ": "JWT", "alg": "HS256" }') + f".{CLAIMS}.sig_nature1",
        encoded('{\n"alg":"HS256"}') + f".{CLAIMS}.sig",
        encoded('{"alg":"dir","enc":"A256GCM"}') + "..iv12.cipher_text.tag",
        encoded('{"alg":"RSA-OAEP","enc":"A256GCM"}') + ".binary1.iv12.cipher_text.tag",
        encoded('{"kid":"1"}') + f".{CLAIMS}.sig",
    ],
    ids=["unsigned", "spaced", "lines", "encrypted directly", "encrypted", "without alg"],
)
@pytest.mark.parametrize("frame", ["{}", "It is {}.", "x={}&y", "Bearer {}\n", "eyJ{}"])
def test_every_kind_of_json_web_token(secrets: SecretsDetector, token: str, frame: str) -> None:
    assert found(secrets, frame.format(token)) == [token]


@pytest.mark.parametrize("frame", ["{}.", "{}. Next", "{}", "{}.txt"])
def test_encoded_json_alone_is_no_token(secrets: SecretsDetector, frame: str) -> None:
    assert found(secrets, frame.format(encoded('{"name": "value 1", "other": [1, 2]}'))) == []


def test_a_token_behind_many_beginnings_is_not_let_through(secrets: SecretsDetector) -> None:
    text = "eyJ" * 50 + TOKENS["jwt"]
    assert found(secrets, text) == [text]


PARTS = (
    "AKIA IOSFODNN7EXAMPLE ghp_ a1B2c3D4e5F6 xox b-1 -2-a3 eyJ . :// a:b @ key token password = : \" ' aws softlayer_ "
    "cl -us1 SG. ſl //r/:_authToken=npm_x 8123456789: T3BlbkFJ sk-"
)
PIECES = st.sampled_from([*TOKENS.values(), *PARTS.split(" "), " ", "\n", "ab12" * 16, "A" * 20, "1" * 20])


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(PIECES, min_size=1, max_size=12))
def test_gates_never_change_a_verdict(pieces: list[str]) -> None:
    text = "".join(pieces)
    everything = {span for rule in DETECTOR._rules for span in _matches(rule, text, 0, len(text))}
    found = [(d.start, d.end) for d in DETECTOR.detect([text])[0]]
    assert all(any(start <= a and b <= end for start, end in found) for a, b in everything)


DETECTOR = SecretsDetector()
