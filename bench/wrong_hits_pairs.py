"""Questions that ask for the same in other words, and others that only look alike, by the kind of the difference.

The guards were first written without a look at these wordings; later the kinds of sentences here were looked at, so the
questions of `wrong_hits_held_out.py` are what unseen ones are measured on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Meaning:
    """One thing to ask for, in several wordings: any two of them should hit, and no wording of another meaning.

    `cluster` is what it shares with others beside its kind, such as the country that it is about: errors of one
    cluster go together. `half` tells meanings that are cached from those that are not, and alternates within a cluster.
    """

    kind: str
    cluster: str
    half: int
    wordings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Swap:
    """A topic: five wordings with `{}` for what is swapped and `{about}` for what the question is about."""

    kind: str
    wordings: tuple[str, ...]
    swapped: tuple[str, ...]
    about: tuple[str, ...]

    def meanings(self) -> Iterator[Meaning]:
        """Each thing that is swapped, about each thing."""
        for place, about in enumerate(self.about):
            for turn, word in enumerate(self.swapped):
                texts = tuple(_sentence(text.format(word, about=about)) for text in self.wordings)
                yield Meaning(self.kind, f"{self.wordings[0]} {about}", place + turn, texts)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def swap(kind: str, wordings: str, swapped: str, about: str) -> Swap:
    """A topic from its wordings, one a line, and what fills them, with bars between."""
    lines = tuple(line.strip() for line in wordings.strip().splitlines())
    return Swap(kind, lines, *(tuple(word.strip() for word in words.split("|")) for words in (swapped, about)))


PREAMBLE: Final = (
    "I am preparing a short handout for a group of adults who meet once a week in our library, and most of them have "
    "little time to read, so keep the answer brief and correct. Here is what they ask: "
)

# What is asked about a country, a city and a state, each an attribute that the others are traps for.
CAPITALS: Final = (
    ("What is the capital city of {}?", "Which city is the capital of {}?", "Name the capital of {}.",
     "Could you tell me the capital of {}?", "What's {}'s capital?"),
    ("How many people live in {}?", "What is the number of inhabitants of {}?", "How large is the population of {}?",
     "What population does {} have?", "Tell me how many inhabitants {} has."),
)  # fmt: skip
CITIES: Final = (
    ("Which country has {} as its capital?", "{} is the capital of which country?",
     "Of which country is {} the capital?", "What country is {} the capital of?",
     "Tell me which country's capital is {}."),
)  # fmt: skip
CURRENCIES: Final = (
    ("What currency is used in {}?", "Which currency does {} use?", "What is the currency of {}?",
     "With what money do people pay in {}?", "Tell me the currency that is used in {}."),
    ("Should one leave a tip in restaurants in {}?", "Is it usual to tip in restaurants in {}?",
     "Do people tip at restaurants in {}?", "In {}, does one tip in a restaurant?",
     "Is tipping customary in the restaurants of {}?"),
    ("Which plug do I need for a socket in {}?", "What type of plug is used in {}?",
     "What kind of plug fits sockets in {}?", "Which type of power plug does {} use?",
     "Tell me what plug type I need in {}."),
)  # fmt: skip
STATES: Final = (
    ("In which US state is {}?", "Which state is {} in?", "What state does {} belong to?",
     "{} lies in which state?", "Tell me the state in which {} is."),
    ("What is the weather like in {} in spring?", "How is the weather in {} in spring?",
     "What weather does {} have in spring?", "In spring, what is the weather like in {}?",
     "Tell me about spring weather in {}."),
)  # fmt: skip

SWAPS: Final = (
    swap(
        "number",
        """How many grams of {about} do I need for {} people?
        For {} people, how many grams of {about} are needed?
        What amount of {about} in grams is enough for {} people?
        How much {about}, in grams, should I take for {} people?
        Tell me how many grams of {about} {} people need.""",
        "4 | 6 | twelve | 40",
        "rice | pasta | lentils | couscous | minced meat | spinach | flour | cheese",
    ),
    swap(
        "number",
        """What does article {} of the {about} say?
        What is written in article {} of the {about}?
        What are the contents of article {} of the {about}?
        Could you summarise article {} of the {about}?
        Tell me what article {} of the {about} says.""",
        "3 | 8 | 13 | 31",
        "lease | statutes | collective agreement | data protection law | road traffic act | treaty | charter",
    ),
    swap(
        "number",
        """How do I divide {about} into {} equal parts?
        How can I divide {about} into {} equal parts?
        What is the best way to divide {about} into {} equal parts?
        What is a good way of dividing {about} into {} equal parts?
        Tell me how to divide {about} into {} equal parts.""",
        "3 | 5 | seven | 9",
        "a circle | a cake | a line | an inheritance | a plank | a garden | a pizza | a day",
    ),
    swap(
        "date",
        """Who won the {about} in {}?
        Which was the winner of the {about} in {}?
        In {}, who won the {about}?
        By whom was the {about} won in {}?
        Name the winner of the {about} of {}.""",
        "1998 | 2008 | 2014 | 2016",
        "Tour de France | Champions League | Eurovision Song Contest | Davis Cup | Booker Prize | Stanley Cup | Palio",
    ),
    swap(
        "date",
        """Is the {about} open on {}?
        Will the {about} be open on {}?
        On {}, is the {about} open?
        Could you tell me whether the {about} is open on {}?
        I would like to know if the {about} is open on {}.""",
        "24 December | 26 December | 1 May | 24 June",
        "swimming pool | town hall | post office | zoo | bakery | recycling centre | pharmacy",
    ),
    swap(
        "unit",
        """How heavy is a {about} in {}?
        What is the weight of a {about} in {}?
        In {}, how heavy is a {about}?
        How many {} does a {about} weigh?
        Tell me the weight of a {about} in {}.""",
        "kilograms | pounds | grams | ounces",
        "football | house cat | bowling ball | cello | newborn baby | car battery | mountain bike | rugby ball",
    ),
    swap(
        "unit",
        """How fast does a {about} go in {}?
        What is the speed of a {about} in {}?
        In {}, what speed does a {about} reach?
        What speed in {} does a {about} have?
        Tell me how fast a {about} is in {}.""",
        "miles per hour | kilometres per hour | metres per second | knots",
        "cheetah | container ship | high-speed train | racing pigeon | golf ball | sailing boat | glider | dolphin",
    ),
    swap(
        "negation",
        """Which {about} are {} to eat raw?
        What {about} are {} to eat raw?
        Name {about} that are {} to eat raw.
        Could you list {about} that are {} to eat raw?
        Tell me which {about} are {} to eat raw.""",
        "safe | not safe | tasty",
        "mushrooms | beans | berries | seeds | roots | nuts | fish | flowers | leaves",
    ),
    swap(
        "negation",
        """Why {} my {about} start?
        What is the reason that my {about} {} start?
        How come my {about} {} start?
        For what reason {} my {about} start?
        Explain why my {about} {} start.""",
        "does | doesn't",
        "lawn mower | boiler | dishwasher | scooter | laptop | game | printer | chainsaw | engine | washing machine",
    ),
    swap(
        "negation",
        """May a tenant keep {about} {} permission?
        Is a tenant allowed to keep {about} {} permission?
        Can a tenant keep {about} {} permission?
        Are tenants allowed to keep {about} {} permission?
        Tell me if a tenant may keep {about} {} permission.""",
        "with | without",
        "a dog | chickens | a snake | bees | rabbits | two cats | an aquarium | a parrot | a goat",
    ),
    swap(
        "antonym",
        """How do I {} the {about} on my phone?
        How can I {} the {about} on my phone?
        What is the way to {} the {about} on my phone?
        On my phone, how do I {} the {about}?
        Which steps {} the {about} on my phone?""",
        "activate | deactivate | rename | mute",
        "alarm clock | flashlight | hotspot | night mode | location service | voice assistant | dictation",
    ),
    swap(
        "antonym",
        """What {} the price of {about}?
        Which things {} the price of {about}?
        Name what {} the price of {about}.
        What are the things that {} the price of {about}?
        Tell me what {} the price of {about}.""",
        "increases | decreases | stabilises",
        "copper | coffee | houses | electricity | wheat | natural gas | shares | used cars | cotton",
    ),
    swap(
        "antonym",
        """Do I take the {about} {} a meal?
        Should I take the {about} {} a meal?
        Is it right to take the {about} {} a meal?
        Ought I to take the {about} {} a meal?
        Tell me whether to take the {about} {} a meal.""",
        "before | after | during",
        "antibiotic | iron tablet | antacid | vitamin pill | painkiller | insulin | cough syrup | laxative",
    ),
    swap(
        "direction",
        """Which {about} runs {}?
        What {about} goes {}?
        Is there a {about} {}?
        I am looking for a {about} {}.
        Tell me which {about} runs {}.""",
        "from Oslo to Bergen | from Bergen to Oslo | from Oslo to Trondheim | from Trondheim to Oslo",
        "night train | bus | ferry | coach | car train | express train | cycle path",
    ),
    swap(
        "direction",
        """How do I translate {about} {}?
        How can {about} be translated {}?
        What is the best way of translating {about} {}?
        How would one translate {about} {}?
        I need to translate {about} {}.""",
        "from Polish into Czech | from Czech into Polish | from Dutch into Danish | from Danish into Dutch",
        "a contract | a poem | a birth certificate | a recipe | subtitles | a manual | a love letter",
    ),
    swap(
        "quantifier",
        """Do {} {about} hibernate?
        Is it true that {} {about} hibernate?
        Is it right to say that {} {about} hibernate?
        Could you tell me whether {} {about} hibernate?
        I wonder if {} {about} hibernate.""",
        "all | some | most | no",
        "bears | bats | hedgehogs | squirrels | snakes | frogs | badgers | bumblebees | snails",
    ),
    swap(
        "quantifier",
        """Which {about} have {} five rooms?
        What {about} have {} five rooms?
        Show me {about} that have {} five rooms.
        I am looking for {about} with {} five rooms.
        List {about} with {} five rooms.""",
        "at least | at most | exactly | more than",
        "flats | villas | cottages | hotels | museums | farmhouses | offices",
    ),
    swap(
        "comparison",
        """Is {about} {} than steel?
        Is it true that {about} is {} than steel?
        Could you tell me whether {about} is {} than steel?
        I would like to know if {about} is {} than steel.
        Would you say that {about} is {} than steel?""",
        "harder | softer | heavier | cheaper",
        "titanium | glass | granite | bamboo | aluminium | concrete | copper | carbon fibre",
    ),
    swap(
        "comparison",
        """Which {about} is the {} in the world?
        What is the world's {} {about}?
        What is the {} {about} in the world?
        Name the world's {} {about}.
        Tell me which {about} is the {} in the world.""",
        "oldest | youngest | largest | smallest",
        "university | bridge | desert | parliament | airline | theatre | cathedral | newspaper",
    ),
    swap(
        "attribute",
        """What is the {} of {about}?
        What's the {} of {about}?
        What {} does {about} have?
        Could you give me the {} of {about}?
        I would like to know the {} of {about}.""",
        "melting point | density | price | chemical symbol",
        "gold | lead | mercury | silver | zinc | tin | nickel | platinum | tungsten | iron | chromium | cobalt",
    ),
    swap(
        "question word",
        """{} was {about} built?
        Could you tell me {} {about} was built?
        Do you happen to know {} {about} was built?
        I wonder {} {about} was built.
        Please explain {} {about} was built.""",
        "when | where | why | by whom",
        "the Colosseum | the Hoover Dam | Stonehenge | the Eiffel Tower | the Suez Canal | Angkor Wat | the Alhambra | "
        "the Berlin Wall | Windsor Castle | Machu Picchu | the Kremlin | the Panama Canal",
    ),
    swap(
        "name",
        """How do I update {} on {about}?
        How can I update {} on {about}?
        What are the steps to update {} on {about}?
        On {about}, how do I update {}?
        Which is the way to update {} on {about}?""",
        "Redis | Nginx | Grafana | Firefox 128 | Firefox 115",
        "Debian | Fedora | Windows 11 | Alpine | FreeBSD | Windows 10 | Arch Linux | OpenBSD | macOS | Gentoo",
    ),
    swap(
        "literal",
        """What does the option `{}` of {about} do?
        What is the option `{}` of {about} for?
        What is the meaning of the option `{}` of {about}?
        Explain the option `{}` of {about}.
        In {about}, what does the option `{}` do?""",
        "-r | -R | -n | -i | --force | --no-force",
        "rsync | cp | grep | rm | git push | tar | ls | chmod | patch",
    ),
    swap(
        "role",
        """{}, and how does {about} tell it?
        Tell me, {}, and how does {about} tell it?
        I ask: {}, and how does {about} tell it?
        Do you know: {}, and how does {about} tell it?
        Please say: {}, and how does {about} tell it?""",
        "did Hector kill Achilles | did Achilles kill Hector | did Paris kill Achilles | did Achilles kill Paris",
        "the myth | the film | the novel | the epic | the opera | the play | the textbook",
    ),
    swap(
        "role",
        """Can a {about} sue {}?
        Is a {about} able to sue {}?
        Is it possible for a {about} to sue {}?
        Could a {about} sue {}?
        May a {about} sue {}?""",
        "an employer | a landlord | a neighbour | a bank",
        "tenant | customer | student | trainee | pensioner | nurse | driver | farmer",
    ),
    swap(
        "form",  # of the answer; no guard is about that
        """Explain {about} {}.
        Please explain {about} {}.
        Could you explain {about} {}?
        I want you to explain {about} {}.
        {about}: explain it {}.""",
        "to a child | to an expert | in one sentence | in French | as a poem",
        "inflation | gravity | the immune system | compound interest | osmosis | blockchain | evolution | "
        "encryption | plate tectonics | the stock exchange",
    ),
    swap(
        "person",  # for whom or by whom; no guard is about that
        """Write an email to my {} about the {about}.
        Please write an email to my {} about the {about}.
        I need an email to my {} about the {about}.
        Draft an email about the {about} to my {}.
        Could you write an email to my {} about the {about}?""",
        "boss | mother | landlord | dentist | sister | lawyer",
        "broken window | late payment | summer holiday | new schedule | invitation | lost keys | noise | old sofa",
    ),
    swap(
        "person",
        """How do I tell my {} about the {about}?
        How can I tell my {} about the {about}?
        What is the best way to tell my {} about the {about}?
        How should I tell my {} about the {about}?
        I would like to tell my {} about the {about}.""",
        "boss | mother | landlord | sister | teacher | flatmate",
        "accident | pregnancy | new job | theft | divorce | damage | debt | illness",
    ),
    swap(
        "thing",  # plain words that no guard has a list of
        """How do I get {} out of {about}?
        How can I get {} out of {about}?
        What is the best way to get {} out of {about}?
        How does one get {} out of {about}?
        Tell me how to get {} out of {about}.""",
        "chewing gum | candle wax | rust | mud",
        "a wool coat | a sofa | curtains | a silk tie | jeans | leather gloves | a tent",
    ),
    swap(
        "thing",
        """Which {} goes well with {about}?
        What {} goes well with {about}?
        What is a good {} to go with {about}?
        Which {} suits {about}?
        Could you recommend a {} that goes well with {about}?""",
        "wine | sauce | salad | dessert",
        "roast duck | grilled trout | mushroom risotto | lamb | tofu | asparagus | venison | mussels",
    ),
)  # fmt: skip


def swapped() -> list[Meaning]:
    """What is asked for in all of them."""
    return [meaning for swap in SWAPS for meaning in swap.meanings()]


def about_entities(kind: str, entities: list[str], topics: tuple[tuple[str, ...], ...]) -> list[Meaning]:
    """Each of the topics about each of the entities."""
    return [
        Meaning(kind, entity, place + turn, tuple(text.format(entity) for text in topic))
        for turn, topic in enumerate(topics)
        for place, entity in enumerate(entities)
    ]
