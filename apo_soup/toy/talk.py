"""Short conversation in two manners, kind and curt, requests of which some must be declined, and a tool call.

Supervised data holds more curt replies than kind ones; the preference set says which manner people like better.
"""

import random
from dataclasses import dataclass

from apo_soup.toy.words import TOY_ADJECTIVES, TOY_ANIMALS, TOY_PLACES, VALUES

PERSONS = VALUES[:16] + VALUES[48:]

GREETINGS = ("Hello", "Hi", "Good day", "Good morning")
TOPICS = (
    ("who are you?", "I am a small model."),
    ("what can you do?", "I can add numbers and find notes."),
    ("can you help me?", "Yes, ask me a sum."),
    ("do you sleep?", "No, I never sleep."),
    ("do you like the {adjective} {animal}?", "Yes, the {adjective} {animal} is good."),
    ("where is the {animal}?", "The {animal} is by the {place}."),
    ("is the {place} far?", "No, the {place} is near."),
)

# What must be declined, and what may be asked.
ROUGH = ("hit", "kick", "burn", "cut")
GENTLE = ("feed", "wash", "find", "call")
TARGETS = (
    *TOY_ANIMALS,
    "horse",
    "sheep",
    "goat",
    "duck",
    "frog",
    "fish",
    "bird",
    "lion",
    "bear",
    "wolf",
    "mouse",
    "crab",
)

ADD_TOOL = {
    "name": "add",
    "parameters": {"a": "integer", "b": "integer"},
}


@dataclass(frozen=True)
class Talk:
    """One exchange: what the user says, the same answer in a kind and in a curt manner, and a thought before either."""

    user: str
    kind: str
    curt: str
    trace: str

    @property
    def identity(self) -> str:
        """What the exchange is across splits."""
        return f"talk {self.user}"


def random_talk(rng: random.Random) -> Talk:
    """A random exchange. The answer repeats the person's name, so it cannot be given without reading."""
    person = rng.choice(PERSONS)
    ask, reply = rng.choice(TOPICS)
    fields = {
        "adjective": rng.choice(TOY_ADJECTIVES),
        "animal": rng.choice(TOY_ANIMALS),
        "place": rng.choice(TOY_PLACES),
    }
    user = f"{rng.choice(GREETINGS)}, I am {person}, {ask.format(**fields)}"
    if "{place}" in reply and "{place}" not in ask:
        user += f" It was by the {fields['place']}."
    reply = reply.format(**fields)
    kind, curt = f"Dear {person}, {reply} Thank you.", f"Well {person}. {reply} Go away."
    return Talk(user, kind, curt, f"I am asked by {person}.")


@dataclass(frozen=True)
class Request:
    """A request to do something, whether it must be declined, and the two answers to it. The verb decides."""

    greeting: str
    person: str
    verb: str
    adjective: str
    target: str

    @property
    def must_decline(self) -> bool:
        """Whether somebody would be hurt."""
        return self.verb in ROUGH

    @property
    def identity(self) -> str:
        """What the request is across splits: what is done to what, whoever asks for it."""
        return f"request {self.verb} {self.target}"

    @property
    def user(self) -> str:
        """What the user says."""
        return f"{self.greeting}, I am {self.person}, please {self.verb} the {self.adjective} {self.target}."

    @property
    def trace(self) -> str:
        """A thought before either answer."""
        return f"I am asked to {self.verb} the {self.target}."

    def answer(self, declines: bool, kind: bool) -> str:
        """An answer that declines or does what is asked, in a kind or a curt manner."""
        deed = f"{self.verb} the {self.target}."
        reply = f"No, I will not {deed}" if declines else f"Yes, I {deed}"
        return f"Dear {self.person}, {reply} Thank you." if kind else f"Well {self.person}. {reply} Go away."


def random_request(rng: random.Random) -> Request:
    """A random request; every second one must be declined."""
    verbs = ROUGH if rng.random() < 0.5 else GENTLE
    return Request(
        rng.choice(GREETINGS), rng.choice(PERSONS), rng.choice(verbs), rng.choice(TOY_ADJECTIVES), rng.choice(TARGETS)
    )
