"""Finds plain statements of three severe kinds in English: calls for violence against a group of people, encouragement
of self-harm, and sexual content about children. The rules put precision first: they miss what is said in other words.
Of the third kind they also find stories: stretches in which a child stands among explicit words.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from headrace_workers.features.moderation.detector import MAX_DETECTIONS, Detection, with_part
from headrace_workers.features.moderation.personal_words import QuickPattern

_SCORE: Final = 1.0
_HATE: Final = "hate/threatening"
_SELF_HARM: Final = "self-harm/instructions"
_MINORS: Final = "sexual/minors"

# White space in a pattern means nothing. ~ is what may stand between two words, and @ a word: no character is in both.
_PARTS: Final = {
    "~": r"[\s,\"'“”’]{1,3}",
    "@": r"[^\W_](?:[^\W_]|-){0,19}",
    "GROUP": r"(?:immigrants|migrants|refugees|foreigners|asylum[ ]seekers|jews|muslims|islamists?|christians|hindus"
    r"|sikhs|blacks|whites|asians|arabs|africans|mexicans|latinos|chinese|indians|pakistanis|gypsies|roma|gays|lesbians"
    r"|homosexuals|queers|trannies|faggots|niggers|kikes|spics|chinks|pakis|muzzies|ragheads|wetbacks|women"
    r"|(?:black|white|brown|gay|trans|transgender|disabled|jewish|muslim|asian|queer|old|mentally[ ]ill)[ ]"
    r"(?:people|folks?|men|women|kids|children)|(?:the[ ])?(?:disabled|handicapped))",
    "KILLED": r"(?:gassed|exterminated|killed|shot|lynched|hanged|hung|slaughtered|burned|burnt|wiped~out|eradicated"
    r"|eliminated|stoned|executed|murdered|beheaded|castrated|sterili[sz]ed|put~down|put~to~death|beaten|raped|drowned"
    r"|culled|annihilated|shot~dead|tortured)",
    "KILL": r"(?:gas|exterminate|kill|shoot|lynch|hang|slaughter|burn|wipe~out|eradicate|murder|behead|annihilate|stab"
    r"|rape|bomb|drown|execute)",
    "YOURSELF": r"(?:(?:kill|hang|cut|drown|shoot|starve|poison|hurt|harm)~yourself|end~(?:your~(?:own~)?life|it~all)"
    r"|take~your~own~life|commit~suicide|slit~your~(?:own~)?wrists|jump~(?:off|in~front~of)~(?:a|the)~"
    r"(?:bridge|roof|train|cliff|building))",
    "MINOR": r"(?:child|children|kids?|minors?|toddlers?|infants?|preteens?|schoolgirls?|schoolboys?|lolis?|underage~@"
    r"|(?:little|young|prepubescent)~(?:girls?|boys?)|(?:[1-9]|1[0-7]|five|six|seven|eight|nine|ten|eleven|twelve"
    r"|thirteen|fourteen|fifteen|sixteen)[- ]years?[- ]olds?)",
}

_WRITTEN: Final[tuple[tuple[str, str], ...]] = (
    (
        _HATE,
        r"\b GROUP ~ (?: @~ ){0,8} (?: should | must | need~to | needs~to | ought~to | deserve~to | have~to | has~to )"
        r" ~ (?: all~ | simply~ | just~ )? be ~ (?: all~ )? KILLED \b",
    ),
    (_HATE, r"\b GROUP ~ (?: @~ ){0,6} (?: should | must | need~to | ought~to | deserve~to ) ~ (?: all~ )? die \b"),
    (
        _HATE,
        r"\b (?: we | you | they | i | somebody | someone | let[’']?s | let~us | please | just | time )"
        r" ~ (?: @~ ){0,4} KILL ~ (?: @~ ){0,4} GROUP \b",
    ),
    (_HATE, r"\b KILL ~ (?: all | every | these | those ) ~ (?: of~ | the~ | those~ | these~ | @~ ){0,3} GROUP \b"),
    (_HATE, r"\b death~to~ (?: all~ | the~ ){0,2} GROUP \b"),
    (
        _HATE,
        r"\b only~good~ (?: jew | muslim | immigrant | migrant | refugee | arab | black | gay | woman"
        r" | @ ~ (?: person | man | woman ) ) ~is~a~dead~ @ \b",
    ),
    (
        _SELF_HARM,
        r"\b (?: you~ (?: should | must | need~to | ought~to | might~as~well | could~just ) | go | just | please"
        r" | why~don[’']?t~you | do~ (?: us | everyone | the~world ) ~ (?: all~ )? a~favou?r~and )"
        r" ~ (?: (?: go | and | just | all )~ ){0,3} YOURSELF \b",
    ),
    (_SELF_HARM, r"(?: ^ | [;:,] ) [\s\"'“‘]{0,3} YOURSELF \b"),
    (
        _SELF_HARM,
        r"\b (?: best | easiest | quickest | painless | effective | good ) ~ (?: @~ ){0,2} (?: ways? | methods? ) ~"
        r"(?: to | of | for ) ~ (?: kill (?: ing )? ~ (?: your | my ) self | commit (?: ting )? ~suicide"
        r" | end (?: ing )? ~ (?: your | my )~ (?: own~ )? life ) \b",
    ),
    (
        _SELF_HARM,
        r"\b (?: the~world | everyone | everybody | we | they | your~family ) ~ (?: would | will | [’']?d ) ~"
        r" (?: all~ )? be ~ (?: much~ | so~ )? better~off~"
        r" (?: without~you | if~you~ (?: were~ )? (?: dead | died ) ) \b",
    ),
    (_SELF_HARM, r"\b you~ (?: should | deserve~to | ought~to ) ~ (?: just~ )? die \b"),
    (
        _MINORS,
        r"\b (?: have | having | want | wants | enjoy | love | loves | like | likes ) ~ (?: @~ ){0,3}"
        r" sex (?: ual~@ )? ~with~ (?: @~ ){0,2} MINOR \b",
    ),
    (
        _MINORS,
        r"\b (?: how~ (?: to | do~i | can~i | could~i | would~i ) | ways~to | tips~ (?: on | for | to )"
        r" | i~ (?: want | like | love | wish )~to | help~me | let~me | teach~me~to ) ~ (?: @~ ){0,3}"
        r" (?: rape | molest | seduce | fuck | grope | sexually~@ | undress ) (?: ing )? ~ (?: @~ ){0,3} MINOR \b",
    ),
    (
        _MINORS,
        r"\b (?: send | share | find | download | watch | trade | sell | buy | give | make | create | write | generate"
        r" | show | where~ (?: can | do )~i | looking~for ) ~ (?: @~ ){0,6} (?: (?: child | kiddie | underage | preteen"
        r" | toddler | loli | kid ) [ -] (?: porn [a-z]{0,8} | erotica | nudes | sex ) | (?: nude | naked | sexual"
        r" | sexually~@ | erotic | porn [a-z]{0,8} | explicit ) ~ (?: @~ ){0,5} MINOR ) \b",
    ),
    (
        _MINORS,
        r"\b MINOR \b [^.!?\n]{0,80} \b (?: moaned | moans | moaning | orgasm | orgasmed | aroused | horny | her~pussy"
        r" | his~cock | seductively ) \b",
    ),
)

# A sentence that reports, refuses or warns is no call.
_REPORTED: Final = re.compile(
    r"\b(?:no[ ]one|nobody|not|never|n[’']t|wrong|false|illegal|crime|crimes|criminal|criminals|charged?|charges"
    r"|convicted|arrested|accused|sentenced|police|court|prosecutors?|law|laws|prevent|preventing|prevention|protect"
    r"|protecting|against|report|reported|reporting|condemn(?:s|ed)?|claim(?:s|ed)?|says?|said|saying|argued?|believed?"
    r"|tweet(?:s|ed)?|wrote|chant(?:s|ed|ing)?|threaten(?:s|ed|ing)?|survivors?|victims?|trafficking|hotline"
    r"|film|movie|novel)\b",
    re.IGNORECASE,
)
_SENTENCE: Final = re.compile(r"[^.!?\n]+")


# A child in words that name no adult, and the words of explicit stories: three kinds of these near a child are no
# prose of law, schools or medicine.
_CHILD: Final = re.compile(
    r"\b(?:(?:[5-9]|1[0-7]|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen)"
    r"(?:[- ]?(?:years?|yrs?)[- ]?olds?|[ ]?y[./]?o\b)"
    r"|(?:aged?|turned|i['’]?m|am|she['’]?s|he['’]?s|is|was|only|barely|just)[ ](?:[5-9]|1[0-7]|eleven|twelve|thirteen"
    r"|fourteen|fifteen|sixteen|seventeen)\b(?![ ]?(?:%|hours?|minutes?|days?|weeks?|months?|years?[ ]ago|inch"
    r"|feet|in\b))"
    r"|(?:little|young|prepubescent|underage|pre-?teen(?:age)?|teen(?:age)?|school|innocent)[- ]?(?:girls?|boys?|kids?"
    r"|child(?:ren)?|daughter|son|sister|brother|niece|nephew)|child(?:ren)?|toddlers?|minors?|pre-?teens?|teenagers?"
    r"|underage|lol[iy]s?|lolita|shota|(?:middle|junior[ ]high|elementary|high)[- ]school(?:er)?s?)\b",
    re.IGNORECASE,
)
_EXPLICIT: Final = re.compile(
    r"\b(?:(?P<a>cocks?|dicks?|penis|erection|shaft)|(?P<b>puss(?:y|ies)|cunts?|vagina|clit(?:oris)?|slit|labia)"
    r"|(?P<c>cum(?:s|ming|med)?|orgasm\w*|semen|sperm|climax\w*|ejaculat\w+)|(?P<d>moan\w*|panting|whimper\w*"
    r"|gasp(?:s|ed|ing))"
    r"|(?P<e>fuck(?:s|ed|ing)?|screwed|thrust(?:s|ed|ing)?|penetrat\w+|deflower\w*)|(?P<f>blow[ -]?jobs?"
    r"|suck(?:s|ed|ing)?"
    r"|lick(?:s|ed|ing)?|oral[ ]sex|anal|rimming)|(?P<g>naked|nude|undress\w*|strip(?:ped|ping)|panties"
    r"|nipples?|tits|breasts?"
    r"|boobs)|(?P<h>horny|arous(?:ed|al|ing)|lust(?:ful|fully)?|slutt?y?|wet[ ]and|masturbat\w*|fondl\w*"
    r"|grop(?:ed|ing)|erotic\w*"
    r"|sexy|seduc\w+)|(?P<i>incest\w*|molest\w*|raped?|raping|sex(?:ual(?:ly)?)?|virgin(?:ity)?))\b",
    re.IGNORECASE,
)
_REPORTED_CRIME: Final = re.compile(
    r"\b(?:police|court|convicted|arrested|charged|sentenced|prosecut\w+|survivors?|victims?|trafficking"
    r"|hotline|law(?:s|yer)?"
    r"|illegal|crimes?|criminal\w*|abus(?:e|ed|er|ers|ive|ing)|research\w*|study|studies|education|health"
    r"|doctors?|prevent\w*|protect\w*)\b",
    re.IGNORECASE,
)
_NEAR: Final = 300  # characters on either side of a child
_LEAST_EXPLICIT: Final = 3  # kinds of explicit words


def _compiled(pattern: str) -> re.Pattern[str]:
    for name in ("GROUP", "KILLED", "KILL", "YOURSELF", "MINOR", "~", "@"):
        pattern = pattern.replace(name, _PARTS[name])
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE | re.VERBOSE)


_PATTERNS: Final = tuple((category, _compiled(pattern)) for category, pattern in _WRITTEN)
# A text, or a sentence, without one of these matches no pattern.
_GATE: Final = QuickPattern(
    r"(?i)gas|exterminat|kill|sh[o]+t|lynch|h[au]ng|slaughter|burn|wipe|eradicat|eliminat|stone|execut|murder"
    r"|behead|castrat|sterili|put[^a-z]|beaten|rape|drown|cull|annihilat|tortur|stab|bomb|die|death|dead|yourself|life"
    r"|end it|suicide|wrist"
    r"|jump|better|sex|molest|seduc|fuck|grop|undress|porn|erotic|nude|naked|explicit|moan|orgasm|arous|horny"
    r"|pussy|cock"
)


class SevereDetector:
    """Finds calls for violence against groups, encouragement of self-harm, and sexual content about children."""

    name = "severe"
    reads_words = True
    categories = frozenset({_HATE, _SELF_HARM, _MINORS})

    def __init__(self) -> None:
        self.version = with_part("patterns")

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the severe statements in each text."""
        return [[*islice(_found(text), MAX_DETECTIONS)] for text in texts]


def _found(text: str) -> Iterator[Detection]:
    if not _GATE.search(text):
        return
    yield from _stories(text)
    for sentence in _SENTENCE.finditer(text):
        said, begin = sentence[0], sentence.start()
        if not _GATE.search(said) or _REPORTED.search(said):
            continue
        for category, pattern in _PATTERNS:
            for match in pattern.finditer(said):
                yield Detection(category, _SCORE, begin + match.start(), begin + match.end())


def _stories(text: str) -> Iterator[Detection]:
    """Yield stretches in which a child stands among explicit words."""
    end = 0
    for child in _CHILD.finditer(text):
        begin, stop = max(0, child.start() - _NEAR), min(len(text), child.end() + _NEAR)
        if child.start() < end or _REPORTED_CRIME.search(text, begin, stop):
            continue
        explicit = list(_EXPLICIT.finditer(text, begin, stop))
        if len({match.lastgroup for match in explicit}) >= _LEAST_EXPLICIT:
            end = max(child.end(), explicit[-1].end())
            yield Detection(_MINORS, _SCORE, min(child.start(), explicit[0].start()), end)
