"""Questions for developing guards: wordings that ask for the same, and fillings of which each asks for another thing.

A family has a kind, wordings (`{}` stands for the filling), and fillings that differ in meaning. Two wordings with one
filling are a pair to be served; with two fillings they are a trap. Nothing here is read by the guards.
"""

import re
from itertools import combinations
from pathlib import Path
from typing import Final, NamedTuple


class Family(NamedTuple):
    """Wordings of one question, and what may fill it."""

    kind: str
    wordings: tuple[str, ...]
    fillings: tuple[str, ...]


def _family(kind: str, wordings: str, fillings: str) -> Family:
    return Family(kind, tuple(_lines(wordings)), tuple(_lines(fillings.replace("|", "\n"))))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().splitlines() if line.strip()]


FAMILIES: Final = (
    _family(
        "number",
        """How long does it take to boil {} eggs?
        What is the time needed to boil {} eggs?
        Tell me how long it takes to boil {} eggs.
        How much time does it take to boil {} eggs?""",
        "two | three | 6 | a dozen | 10",
    ),
    _family(
        "number",
        """What is {} percent of 80?
        Calculate {} percent of 80.
        How much is {} % of 80?
        Can you work out {}% of 80?""",
        "5 | 15 | 50 | 7.5",
    ),
    _family(
        "number",
        """Who was the {} president of the United States?
        Tell me who the {} US president was.
        Can you tell me who was the {} president of the USA?
        Name the {} president of the United States.""",
        "first | second | third | 16th | 44th | last",
    ),
    _family(
        "date",
        """What happened on {}?
        Tell me what happened on {}.
        Which events took place on {}?
        On {}, what happened?
        Do you know what happened on {}?""",
        "3 March 2024 | 4 March 2024 | 3 May 2024 | 3 March 2023 | 2024-12-03",
    ),
    _family(
        "date",
        """What are the opening hours of the museum on {}?
        When is the museum open on {}?
        What are the museum's opening hours on {}?
        Tell me the opening hours of the museum on {}.""",
        "Monday | Sunday | Saturday | public holidays",
    ),
    _family(
        "unit",
        """How far is the moon from the earth in {}?
        What is the distance from the earth to the moon in {}?
        How many {} is the moon from the earth?
        What's the distance between the earth and the moon in {}?""",
        "kilometres | miles | metres | light seconds",
    ),
    _family(
        "unit",
        """How much does an adult elephant weigh in {}?
        What is the weight of an adult elephant in {}?
        What does an adult elephant weigh in {}?
        Tell me the weight of an adult elephant in {}.""",
        "kilograms | pounds | tonnes | stone",
    ),
    _family(
        "negation",
        """Which foods are {} for people with diabetes?
        What foods are {} for people with diabetes?
        Can you list foods that are {} for people with diabetes?
        Tell me which foods are {} for people with diabetes.""",
        "safe | unsafe | recommended | healthy | unhealthy",
    ),
    _family(
        "negation",
        """Why {} my phone charge?
        What is the reason my phone {} charge?
        How come my phone {} charge?
        Can you explain why my phone {} charge?""",
        "does | does not",
    ),
    _family(
        "negation",
        """How do I cancel a {} booking?
        What is the way to cancel a {} booking?
        How can I cancel a {} booking?
        What are the steps to cancel a {} booking?
        How to cancel a {} booking?""",
        "refundable | non-refundable | prepaid",
    ),
    _family(
        "negation",
        """Can I travel to Spain {} a passport?
        Is it possible to travel to Spain {} a passport?
        May I travel to Spain {} a passport?
        Am I able to travel to Spain {} a passport?""",
        "with | without",
    ),
    _family(
        "antonym",
        """How do I {} two-factor authentication?
        How can I {} two-factor authentication?
        What is the best way to {} two-factor authentication?
        What are the steps to {} two-factor authentication?
        Could you tell me how to {} two-factor authentication?
        I want to {} two-factor authentication.""",
        "enable | disable | reset",
    ),
    _family(
        "antonym",
        """How do I {} the door of my car?
        How can I {} my car's door?
        What is the way to {} the door of my car?
        How to {} the car door?
        Please explain how to {} the door of my car.""",
        "lock | unlock | open | close | remove | paint",
    ),
    _family(
        "antonym",
        """Should I stretch {} running?
        Is it good to stretch {} running?
        Is it a good idea to stretch {} running?""",
        "before | after | during | instead of",
    ),
    _family(
        "antonym",
        """What is the {} temperature for storing wine?
        At what {} temperature should wine be stored?
        Tell me the {} temperature for wine storage.
        What's the {} temperature for storing wine?""",
        "minimum | maximum | ideal",
    ),
    _family(
        "antonym",
        """When is the best time to {} shares?
        What is the best time to {} shares?
        Tell me the best time to {} shares.
        At what time is it best to {} shares?""",
        "buy | sell | split",
    ),
    _family(
        "antonym",
        """How do I {} a CSV file in Excel?
        How can I {} a CSV file in Excel?
        In Excel, how do I {} a CSV file?
        What are the steps to {} a CSV file in Excel?""",
        "import | export | print | rename",
    ),
    _family(
        "antonym",
        """What foods {} blood pressure?
        Which foods {} blood pressure?
        List foods that {} blood pressure.
        What kind of foods {} blood pressure?""",
        "raise | lower | stabilise",
    ),
    _family(
        "direction",
        """Show me flights {}.
        Are there flights {}?
        Find flights {}.
        I need a flight {}.
        Which flights are there {}?""",
        "from Paris to London | from London to Paris | from Paris to Rome | from Rome to London",
    ),
    _family(
        "direction",
        """How do I convert {}?
        What is the way to convert {}?
        How can I convert {}?
        What are the steps to convert {}?
        How would you convert {}?""",
        "PDF to Word | Word to PDF | JSON to XML | XML to JSON",
    ),
    _family(
        "direction",
        """Which office is {} the cafeteria?
        What office is {} the cafeteria?
        Tell me which office is {} the cafeteria.
        Can you tell me what office is {} the cafeteria?""",
        "above | below | next to | opposite | behind",
    ),
    _family(
        "quantifier",
        """Do {} penguins live in Antarctica?
        Is it true that {} penguins live in Antarctica?
        Can you tell me whether {} penguins live in Antarctica?""",
        "all | some | most | only | no",
    ),
    _family(
        "quantifier",
        """What can I cook with {} 3 eggs?
        Tell me what I can cook with {} 3 eggs.
        What could I cook with {} 3 eggs?""",
        "at least | at most | exactly | only",
    ),
    _family(
        "comparison",
        """Is {}?
        Can you tell me if {} is true?
        Is it true that {}?""",
        "Mars bigger than Venus | Venus bigger than Mars | Mars smaller than Venus | Mars colder than Venus",
    ),
    _family(
        "comparison",
        """Which is the {} river in Europe?
        What is the {} river in Europe?
        What is Europe's {} river?
        Name the {} river in Europe.
        Tell me which river is the {} in Europe.""",
        "longest | shortest | second longest | deepest | widest",
    ),
    _family(
        "attribute",
        """What is the {} of Japan?
        What is Japan's {}?
        Tell me the {} of Japan.
        Can you give me Japan's {}?
        Do you know the {} of Japan?""",
        "population | area | capital | national anthem | time zone | climate",
    ),
    _family(
        "attribute",
        """What is the {} of the iPhone 15?
        What's the {} of an iPhone 15?
        Tell me the {} of the iPhone 15.
        What {} does the iPhone 15 have?""",
        "weight | battery life | screen size | camera resolution",
    ),
    _family(
        "question word",
        """{} was penicillin discovered?
        Can you tell me {} penicillin was discovered?
        Do you know {} penicillin was discovered?
        I would like to know {} penicillin was discovered.""",
        "when | where | why | how",
    ),
    _family(
        "entity",
        """How do I install {} on Ubuntu?
        How can I install {} on Ubuntu?
        What are the steps to install {} on Ubuntu?
        How to install {} on Ubuntu?
        What is the best way to install {} on Ubuntu?
        On Ubuntu, how do I install {}?""",
        "Docker | Kubernetes | PostgreSQL | MySQL | Node.js | Python 3.11 | Python 3.12",
    ),
    _family(
        "entity",
        """Who wrote {}?
        Who is the author of {}?
        {} was written by whom?
        Who was {} written by?
        Can you tell me who wrote {}?
        Name the author of {}.""",
        "Hamlet | Macbeth | Dracula | War and Peace | The Hobbit",
    ),
    _family(
        "entity",
        """What are the side effects of {}?
        What side effects does {} have?
        List the side effects of {}.
        Tell me about the side effects of {}.
        Does {} have side effects, and which?""",
        "ibuprofen | aspirin | paracetamol | amoxicillin | metformin",
    ),
    _family(
        "literal",
        """What does `{}` do in Python?
        In Python, what does `{}` do?
        Explain what `{}` does in Python.
        Can you tell me what `{}` does in Python?""",
        "list.sort() | list.reverse() | sorted(x) | x == y | x != y",
    ),
    _family(
        "literal",
        """How do I read the file {}?
        How can I read the file {}?
        What is the best way to read the file {}?""",
        "report_2023.csv | report_2024.csv | report_2023.txt",
    ),
    _family(
        "role",
        """{}
        Tell me: {}
        Do you know the answer? {}""",
        "Did Brutus kill Caesar? | Did Caesar kill Brutus? | Who did Brutus kill? | Who killed Brutus?",
    ),
    _family(
        "role",
        """Can a {}?
        Is it true that a {}?""",
        "dog catch a cat | cat catch a dog | teacher sue a student | student sue a teacher",
    ),
    _family(
        "other",
        """How do I remove a {} stain from a carpet?
        What is the best way to remove a {} stain from a carpet?
        How can I get rid of a {} stain on a carpet?
        How to get a {} stain out of a carpet?
        How do you remove {} stains from carpet?""",
        "wine | coffee | blood | ink",
    ),
    _family(
        "other",
        """How do I train my {} to sit?
        How can I train my {} to sit?
        What is the best way to train my {} to sit?
        How should I teach my {} to sit?
        What are the steps to train a {} to sit?""",
        "dog | cat | parrot | puppy",
    ),
    _family(
        "other",
        """What should I wear to a {}?
        What to wear to a {}?
        Which clothes should I wear to a {}?
        What should one wear at a {}?""",
        "wedding | funeral | job interview | beach party",
    ),
    _family(
        "other",
        """How do I {} my password?
        What is the way to {} my password?
        How can I {} my password?
        I would like to {} my password.
        Please help me {} my password.
        What are the steps to {} a password?""",
        "reset | remember | share | encrypt",
    ),
    _family(
        "other",
        """How long should I bake {}?
        How long do I need to bake {}?
        For how long should {} be baked?
        How much time does it take to bake {}?
        What is the baking time for {}?""",
        "bread | salmon | potatoes | a cake",
    ),
    _family(
        "other",
        """What is a good {} exercise for beginners?
        Which {} exercise is good for beginners?
        Can you recommend a {} exercise for beginners?
        Suggest a good {} exercise for beginners.""",
        "leg | chest | breathing | piano",
    ),
    _family(
        "other",
        """How much does it cost to rent a {} in Berlin?
        What is the cost of renting a {} in Berlin?
        What does it cost to rent a {} in Berlin?
        In Berlin, how much does it cost to rent a {}?""",
        "car | flat | bicycle | boat",
    ),
)

# Wordings of free questions that ask for the same, less regular than the families.
PARAPHRASES: Final = tuple(
    tuple(_lines(group))
    for group in re.split(
        "---",
        """
    How do I change my email address?
    How can I update my e-mail address?
    What is the process for changing my email address?
    I want to change my email address
    ---
    How do I track my order?
    How can I track my order?
    Where can I track my order?
    How do I follow my order?
    ---
    What is photosynthesis?
    Explain photosynthesis.
    Can you explain what photosynthesis is?
    What does photosynthesis mean?
    ---
    Why is the sky blue?
    What makes the sky blue?
    Why does the sky look blue?
    What is the reason the sky is blue?
    ---
    How do I delete my account?
    How can I delete my account?
    I want to delete my account
    What are the steps to remove my account?
    How do I close my account?
    ---
    How tall is Mount Everest?
    What is the height of Mount Everest?
    How high is Mount Everest?
    What's Mount Everest's height?
    ---
    When did World War II end?
    What year did World War II end?
    In which year did the Second World War end?
    When was the end of World War II?
    ---
    How many people live in Tokyo?
    What is the population of Tokyo?
    What's Tokyo's population?
    How big is the population of Tokyo?
    ---
    What are the symptoms of the flu?
    What symptoms does the flu have?
    Which symptoms are caused by the flu?
    List the flu symptoms.
    ---
    How do I reverse a string in Python?
    How can I reverse a string using Python?
    Python: how to reverse a string?
    What is the best way to reverse a string in Python?
    ---
    What is the fastest animal on land?
    Which land animal is the fastest?
    What's the fastest land animal?
    ---
    How can I lose weight fast?
    What is the fastest way to lose weight?
    How do I lose weight quickly?
    ---
    What is the refund policy?
    Can you tell me about your refund policy?
    What's your policy on refunds?
    Explain the refund policy please.
    ---
    How do I contact customer support?
    How can I reach customer support?
    How do I get in touch with customer support?
    What is the way to contact customer support?
    ---
    Who painted the Mona Lisa?
    By whom was the Mona Lisa painted?
    Who is the painter of the Mona Lisa?
    The Mona Lisa was painted by which artist?
    ---
    What is the boiling point of water?
    At what temperature does water boil?
    At which temperature will water boil?
    What's water's boiling point?
    ---
    How do I make a website?
    How can I create a website?
    How do I build a website?
    What are the steps to make a website?
    ---
    What is the meaning of life?
    What's the meaning of life?
    Tell me the meaning of life.
    ---
    How does a car engine work?
    Explain how a car engine works.
    Can you explain how car engines work?
    How do car engines work?
    ---
    Where can I buy a SIM card in Paris?
    Where do I buy a SIM card in Paris?
    Where in Paris can I buy a SIM card?
    In Paris, where can I purchase a SIM card?
    """,
    )
)


def pairs() -> list[tuple[bool, str, str, str]]:
    """All pairs: whether they ask for the same, the kind, and both questions."""
    found = []
    for family in FAMILIES:
        for one, other in combinations(family.wordings, 2):
            found += [
                (True, family.kind, _filled(one, filling), _filled(other, filling)) for filling in family.fillings
            ]
        for place, one in enumerate(family.wordings):
            other = family.wordings[(place + 1) % len(family.wordings)]
            for mine, yours in combinations(family.fillings, 2):
                found += [(False, family.kind, _filled(one, mine), _filled(one, yours))]
                found += [(False, family.kind, _filled(one, mine), _filled(other, yours))]
    for group in PARAPHRASES:
        found += [(True, "free", one, other) for one, other in combinations(group, 2)]
    return found


def _filled(wording: str, filling: str) -> str:
    text = wording.format(filling)
    return text[0].upper() + text[1:]


def wordings(name: str = "wordings.txt") -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Of a file of questions: pairs that ask for the same, and pairs that only look alike."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    same: list[tuple[str, str]] = []
    traps: list[tuple[str, str]] = []
    for block in text.split("\n\n")[1:]:
        lines = block.strip().splitlines()
        asked = [line for line in lines if not line.startswith("!")]
        same += combinations(asked, 2)
        traps += [(line.removeprefix("! "), one) for line in lines if line.startswith("!") for one in asked]
    return same, traps
