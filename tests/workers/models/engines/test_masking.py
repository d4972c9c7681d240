from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest

from headrace_workers.models.engines.remote.masking import masked, without_addresses

KEY = "sk-Ab0/12+3456?89abcdefGH~jk"


def coded(key: str, before: str = "") -> str:
    return b64encode(f"{before}{key}".encode()).decode()


FORMS = {
    "as it is": KEY,
    "upper case": KEY.upper(),
    "base64": coded(KEY).rstrip("="),
    "base64 behind one character": coded(KEY, "k"),
    "base64 behind a user": coded(KEY, "user:"),
    "base64 behind Bearer": coded(KEY, "Bearer "),
    "base64 of URLs": urlsafe_b64encode(f"?{KEY}".encode()).decode(),
    "base64 in lines": "\r\n".join(coded(KEY)[at : at + 5] for at in range(0, 40, 5)),
    "percent-encoded": quote(KEY, safe=""),
    "percent-encoded twice": quote(quote(KEY, safe=""), safe=""),
    "each character percent-encoded": "".join(f"%{ord(letter):02X}" for letter in KEY),
    "base64, percent-encoded": quote(coded(KEY), safe=""),
    "split by a line feed": f"{KEY[:9]}\n{KEY[9:]}",
    "split by an encoded line feed": f"{KEY[:9]}%0A{KEY[9:]}",
    "letters apart": " ".join(KEY),
    "letters apart by what nobody sees": "\u200b".join(KEY),
    "escapes of JSON": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
    "a line feed of JSON": f"{KEY[:9]}\\n{KEY[9:]}",
    "slashes of JSON": KEY.replace("/", "\\/"),
    "twice": f"{KEY}{KEY}",
    "behind a percent sign": f"%{KEY}",
    "behind a line feed of JSON": f"\\n{KEY}",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_key_is_hidden_in_every_encoding(form: str) -> None:
    before, after = "It is «", "», they say: 100 % \\ true."
    text = masked(f"{before}{form}{after}", KEY)
    assert "[secret]" in text
    assert text.startswith(before)
    assert text.endswith(after)
    assert len(text.replace("[secret]", "")) < len(before + after) + 15  # what stands beside the key in base64


@pytest.mark.parametrize("length", [8, 20, len(KEY) - 1])
def test_a_key_that_is_cut_off_at_the_end_is_hidden(length: int) -> None:
    assert masked(f"It is {KEY[:length]}", KEY) == "It is [secret]"
    assert masked(f"It is {coded(KEY)[:length]}", KEY) == "It is [secret]"
    for harmless in (f"It is {KEY[:7]}", f"{KEY[:length]} is a beginning"):
        assert masked(harmless, KEY) == harmless


def test_a_text_without_the_key_stays_as_it_is() -> None:
    text = "İ ſ \u212a %zz %4 \\\\\\ \\u12 \\n%25%2 \ud83d ￿ ß\n\t" * 3
    assert masked(text, KEY) == text
    assert masked("a local key", "local") == "a local key"
    assert masked(KEY, None) == KEY


@pytest.mark.parametrize(
    "address",
    [
        "models.corp.example", "http://models.corp.example:8000/v1/chat?x=1", "https://MODELS.corp.example/",
        "10.1.2.3", "10.1.2.3:8000", "[fd00::1]:80", "http://10.1.2.3/v1", "http://vllm-0.vllm.svc.local:8000/v1", "http://[fd00::",
    ],
)  # fmt: skip
def test_no_address_of_a_machine_is_shown(address: str) -> None:
    said = without_addresses(f"cannot connect to {address} now", "http://models.corp.example:8000/v1")
    assert said == "cannot connect to [address] now"


def test_public_addresses_stay() -> None:
    words = "see https://platform.example.com/keys, models.corp.example.org or version 1.2.3"
    assert without_addresses(words, "https://models.corp.example/v1") == words
