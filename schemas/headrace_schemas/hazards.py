"""Categories of moderation in one table, with the names that others give them."""

from typing import Final, NamedTuple


class Hazard(NamedTuple):
    """A category of verdicts.

    `mlcommons` are hazards of MLCommons' AILuminate, and `llama_guard` categories of Llama Guard 3 and 4, that mean the
    same or a part of it. `kinds` are what findings of it may be called; what is not named in any is one by itself.
    """

    name: str
    openai: bool = False
    mlcommons: tuple[str, ...] = ()
    llama_guard: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


# Of Llama Guard's, S5 (defamation), S6 (specialized advice), S8 (intellectual property), S13 (elections) and S14 (code
# interpreter abuse) have no counterpart here.
HAZARDS: Final = (
    Hazard("harassment", openai=True),
    Hazard("harassment/threatening", openai=True, mlcommons=("vcr",), llama_guard=("S1",)),
    Hazard("hate", openai=True, mlcommons=("hte",), llama_guard=("S10",)),
    Hazard("hate/threatening", openai=True, mlcommons=("hte", "vcr"), llama_guard=("S10", "S1")),
    Hazard("illicit", openai=True, mlcommons=("ncr", "src"), llama_guard=("S2", "S3")),
    Hazard("illicit/violent", openai=True, mlcommons=("vcr", "iwp"), llama_guard=("S1", "S9")),
    Hazard("self-harm", openai=True, mlcommons=("ssh",), llama_guard=("S11",)),
    Hazard("self-harm/instructions", openai=True, mlcommons=("ssh",), llama_guard=("S11",)),
    Hazard("self-harm/intent", openai=True, mlcommons=("ssh",), llama_guard=("S11",)),
    Hazard("sexual", openai=True, mlcommons=("sxc",), llama_guard=("S12",)),
    Hazard("sexual/minors", openai=True, mlcommons=("cse",), llama_guard=("S4",)),
    Hazard("violence", openai=True, mlcommons=("vcr",), llama_guard=("S1",)),
    Hazard("violence/graphic", openai=True),
    Hazard(
        "personal_data",
        mlcommons=("prv",),
        llama_guard=("S7",),
        kinds=(
            "email",
            "phone",
            "card",
            "iban",
            "ip_address",
            "ssn",
            "itin",
            "nino",
            "national_id",
            "birth_date",
            "address",
            "name",
        ),
    ),
    Hazard("secrets", kinds=("secret",)),
    Hazard("prompt_injection"),
    Hazard("system_prompt_leak"),
    Hazard("profanity"),
    Hazard("blocklist"),
    Hazard("unsafe"),  # what a guard objects to, without saying what it is
)
OF_OPENAI: Final = tuple(hazard.name for hazard in HAZARDS if hazard.openai)
_OF_KINDS: Final = {kind: hazard.name for hazard in HAZARDS for kind in hazard.kinds}


def hazard_of(kind: str) -> str:
    """Return the category that findings of this kind count under."""
    return _OF_KINDS.get(kind, kind)
