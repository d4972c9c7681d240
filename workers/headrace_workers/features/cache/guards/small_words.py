"""Words that carry the sentence and not the subject: English, by class."""

from typing import Final

from headrace_workers.features.cache.guards.word_lists import words_of

ARTICLES: Final = words_of("a an the")
DETERMINERS: Final = ARTICLES | words_of("my your our this that their")
BE: Final = words_of("am is are was were be been being")
AUXILIARIES: Final = BE | words_of(
    "do does did doing done has have had having can could will would shall should may might must ought"
)
QUESTION_WORDS: Final = words_of("what which who whom whose when where why how whether")
# After `how`, what is asked for.
MEASURES: Final = words_of("many much long often far old big tall fast deep high soon large wide heavy hot late")
CONJUNCTIONS: Final = words_of("and or nor but vs versus")
PREPOSITIONS: Final = words_of(
    """of in on at for by with without from to into onto than before after above below over under until till
    since during against toward towards off up down out about inside outside through across between among
    via per beyond within near behind beside upon as like unlike except despite around along"""
)
PRONOUNS: Final = words_of(
    """i me my mine myself you your yours yourself we us our ours he him his she her hers it its they them
    their theirs this that these those there here one someone somebody anyone anybody something anything
    everyone everything"""
)
# Said or left out, a question asks the same.
EMPTY: Final = words_of(
    """please kindly thanks hello hi hey dear ok okay just actually really simply basically exact exactly
    so then also too very quite much such own let currently now nowadays
    presently if while because although though etc ever precisely specifically
    generally typically usually normally tell"""
)
EMPTY_OR_SMALL: Final = (
    ARTICLES
    | AUXILIARIES
    | QUESTION_WORDS
    | CONJUNCTIONS
    | PREPOSITIONS
    | PRONOUNS
    | EMPTY
    | words_of("'s not be have")
)
