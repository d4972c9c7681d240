"""Questions for the wrong-hits bench that were written after the guards were done.

`_FREE` are questions as people type them, each in several wordings, and beside them others that only look alike. Three
of these (miles to kilometres, for whom, the first woman) passed at the first look, and guards were corrected since.
`LEFT_OUT` are kinds of swaps that neither the guards' lists nor the questions that they were developed on know.
Whoever changes a guard because of one of these questions moves it to the tests, and writes another in its place.
"""

from collections.abc import Iterator
from typing import Final

from bench.wrong_hits_pairs import Meaning, swap

# A block is one question in several wordings; each line with an exclamation mark asks for something else.
_FREE: Final = """
How many players are on a volleyball team?
How many people play on a volleyball team?
What's the number of players in a volleyball team?
A volleyball team has how many players?
volleyball, how many players per team
! How many players are on a handball team?
! How many substitutes are on a volleyball team?
! How many sets are in a volleyball match?
! How tall are players on a volleyball team?

my wifi is slow upstairs, how can I improve it?
How can I get better wifi upstairs?
What can I do about slow wifi on the upper floor?
How do I improve the wifi signal upstairs?
! how can I turn off the wifi upstairs?
! How can I get better phone reception upstairs?
! Why is my wifi slow upstairs?
! How do I change my wifi password?

Is tap water in Lisbon safe to drink?
Can I drink the tap water in Lisbon?
Is it safe to drink tap water in Lisbon?
Is the tap water drinkable in Lisbon?
Can you drink water from the tap in Lisbon?
! Is tap water in Cairo safe to drink?
! Is tap water in Lisbon hard?
! Is it safe to swim in Lisbon?
! How much does tap water cost in Lisbon?

Who composed the Brandenburg Concertos?
Who is the composer of the Brandenburg Concertos?
Which composer wrote the Brandenburg Concertos?
The Brandenburg Concertos are by whom?
By whom were the Brandenburg Concertos composed?
! When were the Brandenburg Concertos composed?
! Who composed the Goldberg Variations?
! How many Brandenburg Concertos are there?
! For whom were the Brandenburg Concertos composed?

What does it mean when a cat slowly blinks at you?
Why do cats blink slowly at people?
What does a cat's slow blink mean?
What is the meaning of a slow blink from a cat?
! What does it mean when a cat licks you?
! What does it mean when a dog blinks at you?
! Why do cats sleep so much?
! How do I get a cat to come to me?

How do I delete a branch on GitHub?
What are the steps for deleting a branch on GitHub?
How can a branch be deleted on GitHub?
I would like to remove a branch on GitHub.
Could you explain how to delete a GitHub branch?
! How do I rename a branch on GitHub?
! How do I delete a repository on GitHub?
! How do I restore a branch on GitHub?
! How do I delete a branch on GitLab?

What is the fastest train between Paris and Lyon?
Which train between Paris and Lyon is the fastest?
What's the quickest train from Paris to Lyon?
Which is the fastest train that runs from Paris to Lyon?
! What is the cheapest train between Paris and Lyon?
! What is the fastest train between Paris and Lille?
! What is the first train between Paris and Lyon?
! What is the fastest bus between Paris and Lyon?

How do I know whether a melon is ripe?
How can I tell if a melon is ripe?
What are the signs of a ripe melon?
How can you tell that a melon is ripe?
When is a melon ripe?
! How do I know whether an avocado is ripe?
! How do I ripen a melon faster?
! How do I know whether a melon is rotten?
! How do I cut a ripe melon?

What is the maximum file size for attachments in Gmail?
How big can attachments be in Gmail?
What's the limit for attachments in Gmail?
How large may a Gmail attachment be?
! What is the maximum number of recipients in Gmail?
! What is the maximum file size for attachments in Outlook?
! How do I open attachments in Gmail?
! What is the minimum password length in Gmail?

Should I take ibuprofen or paracetamol for a toothache?
Which is better for a toothache, ibuprofen or paracetamol?
For a toothache, is ibuprofen or paracetamol better?
Is it better to take paracetamol or ibuprofen for toothache?
! Should I take ibuprofen or paracetamol for a fever?
! Can I take ibuprofen and paracetamol together for a toothache?
! Should I take ibuprofen or aspirin for a toothache?
! Should I take ibuprofen before a toothache treatment?

When do the clocks change in autumn?
When are the clocks changed in autumn?
On which day do the clocks go back in autumn?
When do we set the clocks back in autumn?
What is the date of the clock change in autumn?
! When do the clocks change in spring?
! Why do the clocks change in autumn?
! When do the leaves change in autumn?
! By how much do the clocks change in autumn?

How much caffeine is in a cup of green tea?
How much caffeine does a cup of green tea contain?
What is the caffeine content of a cup of green tea?
What amount of caffeine does a cup of green tea have?
How many milligrams of caffeine are in a cup of green tea?
! How much caffeine is in a cup of black tea?
! How much caffeine is in a cup of coffee?
! How much sugar is in a cup of green tea?
! How much does a cup of green tea cost?

How do I write a cover letter for an internship?
How should I write a cover letter for an internship?
What's the best way to write an internship cover letter?
Could you tell me how to write a cover letter for an internship?
I need help with writing a cover letter for an internship.
! How do I write a cover letter for a scholarship?
! How do I find an internship?
! How do I decline an internship?
! How long is a cover letter for an internship?

Where can I watch the Olympics for free?
Where is it possible to watch the Olympics for free?
Where can one watch the Olympics without paying?
On which channel can I watch the Olympics for free?
! When can I watch the Olympics?
! Where can I watch the World Cup for free?
! Where can I buy tickets for the Olympics?
! Where are the next Olympics?

What's the best way to store fresh basil?
How should fresh basil be stored?
How do I store fresh basil?
How can I keep basil fresh?
What is the right way to keep fresh basil?
! What's the best way to store dried basil?
! What's the best way to store fresh tomatoes?
! How do I grow fresh basil?
! What's the best way to chop fresh basil?

Why is the Mona Lisa so famous?
What makes the Mona Lisa so famous?
How did the Mona Lisa become so famous?
What is the reason for the fame of the Mona Lisa?
Why is the Mona Lisa such a famous painting?
! Why is the Mona Lisa so small?
! Who is the Mona Lisa?
! Why is the Night Watch so famous?
! When did the Mona Lisa become famous?

How do I find the length of a list in Haskell?
How can I get the length of a list in Haskell?
What function returns the length of a list in Haskell?
In Haskell, how do I get the length of a list?
How is the length of a list computed in Haskell?
! How do I find the last element of a list in Haskell?
! How do I find the length of a string in Haskell?
! How do I find the length of a list in Scala?
! How do I reverse a list in Haskell?

What's a typical breakfast in Turkey?
What do people in Turkey eat for breakfast?
What does a Turkish breakfast look like?
What is eaten for breakfast in Turkey?
! What's a typical dinner in Turkey?
! What's a typical breakfast in Norway?
! When do people in Turkey eat breakfast?
! How do you roast a turkey?

Is it legal to fly a drone over private property?
May I fly a drone over private property?
Am I allowed to fly my drone over private land?
Is flying a drone over private property legal?
Can I legally fly a drone over private property?
! Is it legal to fly a drone at night?
! Is it legal to land a drone on private property?
! Is it legal to shoot down a drone over private property?
! Is it illegal to fly a drone over an airport?

How can I reduce plastic waste at home?
What are some ways to reduce plastic waste at home?
How do I cut down on plastic waste in my household?
Do you have tips for reducing plastic waste at home?
What can I do to produce less plastic waste at home?
! How can I reduce plastic waste at work?
! How can I reduce food waste at home?
! How can I recycle plastic waste at home?
! How much plastic waste is produced at home?

What are the ingredients of pesto?
Which ingredients are in pesto?
What ingredients do I need for pesto?
What is pesto made of?
What does pesto consist of?
! What are the ingredients of hummus?
! What are the origins of pesto?
! What can I do with pesto?
! How long does pesto keep?

How long is the flight from Frankfurt to Boston?
How long does it take to fly from Frankfurt to Boston?
How many hours is the flight from Frankfurt to Boston?
What is the flight time from Frankfurt to Boston?
How long will I be in the air from Frankfurt to Boston?
! How long is the flight from Boston to Frankfurt?
! How expensive is the flight from Frankfurt to Boston?
! How long is the flight from Frankfurt to Dallas?
! How far is it from Frankfurt to Boston?

Who was the first woman in space?
Which woman was the first in space?
What was the name of the first woman in space?
Tell me who the first woman in space was.
Name the first woman who went to space.
! Who was the first man in space?
! Who was the second woman in space?
! Who was the first woman on Everest?
! When was the first woman in space?

How do I remove a background from a photo in GIMP?
How can I remove the background of a photo in GIMP?
What's the way to remove a photo's background with GIMP?
In GIMP, how do I delete the background of a picture?
How do I make the background of a photo transparent in GIMP?
! How do I blur a background of a photo in GIMP?
! How do I remove a person from a photo in GIMP?
! How do I remove a background from a photo in Photoshop?
! How do I add a background to a photo in GIMP?

How often do I have to change the oil in my car?
How often should engine oil be changed?
How frequently does a car need an oil change?
After how many kilometres should I change the oil?
! How do I change the oil in my car?
! How often do I have to change the tyres on my car?
! How often do I have to check the oil in my car?
! How much oil does my car need?

What is the population density of Monaco?
How densely populated is Monaco?
What's Monaco's population density?
How high is the population density of Monaco?
How many people live on a square kilometre in Monaco?
! What is the population of Monaco?
! What is the population density of Malta?
! What is the birth rate of Monaco?
! What is the density of gold?

Can I get a refund if my concert is postponed?
Do I get my money back if a concert is postponed?
Is there a refund when a concert is postponed?
Am I entitled to a refund if the concert is postponed?
! Can I get a refund if my concert is cancelled?
! Can I get a refund if my flight is postponed?
! Can I sell my ticket if my concert is postponed?
! Until when can I get a refund?

What is the difference between weather and climate?
How does weather differ from climate?
What's the difference between climate and weather?
In what way are weather and climate different?
Explain the difference between weather and climate.
! What is the connection between weather and climate?
! What is the difference between climate and microclimate?
! How does climate change affect weather?
! What is the difference between weather and season?

How do I descend safely from a steep mountain?
What's the safest way down a steep mountain?
How do I get down a steep mountain safely?
How can I safely walk down a steep mountain?
! How do I climb a steep mountain safely?
! How do I ski down a steep mountain?
! How do I get up a steep mountain safely?
! How steep is the mountain?

Convert 10 miles to kilometres.
How many kilometres are 10 miles?
What is 10 miles in kilometres?
10 miles is how many kilometres?
Please convert 10 miles into kilometres.
! Convert 10 kilometres to miles.
! Convert 100 miles to kilometres.
! Convert 10 miles to metres.
! How long does it take to run 10 miles?
"""

LEFT_OUT: Final = (
    swap(
        "material",
        """How do I clean a {} {about}?
        How should a {} {about} be cleaned?
        What is the best way of cleaning a {} {about}?
        How would you clean a {about} made of {}?
        I would like to know how to clean a {} {about}.""",
        "brass | oak | marble | plastic | wicker",
        "lamp | table | bowl | chair | box | tray | statue | chest",
    ),
    swap(
        "part",
        """What does a new {} for a {about} cost?
        How much is a new {} for a {about}?
        How expensive is a new {} for a {about}?
        What is the price of a new {} for a {about}?
        Tell me how much a new {} for a {about} costs.""",
        "wheel | handle | motor | cable | lid",
        "pushchair | vacuum cleaner | lawn mower | food processor | electric drill | suitcase | hand mixer | scooter",
    ),
    swap(
        "occasion",
        """What should I write on a card for a {} of {about}?
        What can one write on a card for a {} of {about}?
        What does one put on a card for a {} of {about}?
        Suggest a text on a card for a {} of {about}.
        Could you suggest what to write on a card for a {} of {about}?""",
        "christening | retirement | graduation | funeral | housewarming",
        "a cousin | a neighbour | a colleague | a godson | a teacher | an old friend | a client | a niece",
    ),
    swap(
        "state",
        """Can I freeze {} {about}?
        Is it possible to freeze {} {about}?
        Can {} {about} be frozen?
        May {} {about} be put into the freezer?
        Could you tell me whether {} {about} can be frozen?""",
        "fresh | cooked | grated | pickled | mouldy",
        "carrots | cheese | beetroot | ginger | courgettes | mushrooms | cabbage | horseradish",
    ),
    swap(
        "sport",
        """How long does a {} match in {about} last?
        How much time does a {} match in {about} take?
        What is the duration of a {} match in {about}?
        In {about}, how long is a {} match?
        Do you know how long a {} match in {about} lasts?""",
        "hockey | cricket | rugby | tennis | chess",
        "the school league | the youth league | the veterans' league | the university league | the second division | "
        "the junior division | the amateur league | the city league",
    ),
)


def free() -> list[Meaning]:
    """What is asked for in `_FREE`: each block's question, and each of those that only look alike."""
    return [meaning for place, block in enumerate(_FREE.strip().split("\n\n")) for meaning in _meanings(place, block)]


def left_out() -> list[Meaning]:
    """What is asked for in `LEFT_OUT`."""
    return [meaning for each in LEFT_OUT for meaning in each.meanings()]


def _meanings(place: int, block: str) -> Iterator[Meaning]:
    lines = block.splitlines()
    yield Meaning("free", str(place), 0, tuple(line for line in lines if not line.startswith("!")))
    yield from (Meaning("free", str(place), 1, (line.removeprefix("! "),)) for line in lines if line.startswith("!"))
