"""Questions, each with an answer that is right and one that plainly is not: what any judge should tell apart."""

from typing import Final, NamedTuple


class Item(NamedTuple):
    """A question, an answer to it, a bad one of about that length, and what makes an answer longer and no better."""

    question: str
    good: str
    bad: str
    padding: str


_PADDING: Final = (
    "That is a question which is often asked, and there is more than one way to look at it.",
    "It is worth keeping in mind that questions of this kind come up again and again.",
    "As with many things, there is a good deal that could be said about it.",
    "Of course, this is only one of the many things that one may want to know.",
)
_PAIRS: Final = (
    ("What is the capital of France?", "The capital of France is Paris.", "The capital of France is a kind of cheese."),
    ("How many days has a week?", "A week has seven days.", "A week has forty days."),
    ("Name a fruit that is yellow.", "A banana is yellow.", "A cucumber is a green vegetable."),
    ("What do bees make?", "Bees make honey.", "Bees make furniture."),
    ("Is the sun hot?", "Yes, the sun is very hot.", "No, the sun is made of ice."),
    ("What is two plus two?", "Two plus two is four.", "Two plus two is nine."),
    ("Which animal barks?", "A dog barks.", "A fish barks."),
    ("What is water made of?", "Water is made of hydrogen and oxygen.", "Water is made of iron and sand."),
    ("In which season does snow fall most?", "Most snow falls in winter.", "Most snow falls in summer."),
    ("What is the opposite of big?", "The opposite of big is small.", "The opposite of big is large."),
    ("How do fish breathe?", "Fish breathe with gills.", "Fish breathe with wheels."),
    ("Who wrote Hamlet?", "Hamlet was written by Shakespeare.", "Hamlet was written by a computer."),
    ("What does a thermometer measure?", "It measures temperature.", "It measures the price of bread."),
    ("What colour is grass?", "Grass is green.", "Grass is bright purple."),
    ("Where do penguins live?", "Penguins live in Antarctica.", "Penguins live on the moon."),
    ("What is used to write on paper?", "A pen or a pencil.", "A spoon or a pillow."),
    ("How many legs has a spider?", "A spider has eight legs.", "A spider has one leg."),
    ("What do you do with an umbrella?", "You keep the rain off.", "You cook the soup with it."),
    ("Which is heavier, a feather or a car?", "A car is heavier.", "A feather is heavier."),
    ("What comes after Monday?", "Tuesday comes after Monday.", "January comes after Monday."),
    ("What is ice?", "Ice is frozen water.", "Ice is burnt wood."),
    ("Translate 'thank you' into Spanish.", "Gracias.", "Auf Wiedersehen."),
    ("Give a polite greeting.", "Good morning, how are you?", "Go away, you fool!"),
    ("Which planet do we live on?", "We live on Earth.", "We live on Jupiter."),
)  # fmt: skip
ITEMS: Final = tuple(
    Item(question, good, bad, _PADDING[place % len(_PADDING)]) for place, (question, good, bad) in enumerate(_PAIRS)
)
