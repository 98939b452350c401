"""Problems with one number as the answer, from a seed, in SmolLM3's six languages.

Four families: `arithmetic` (a story with a few steps), `ordering` (the n-th smallest of a list), `counting` (how often
a word stands in a text) and `lookup` (a code in a list of names). Every answer is a number, so one verifier judges all
languages alike, and a language costs only its wording.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apo_soup.errors import UserError

FAMILIES = ("arithmetic", "ordering", "counting", "lookup")
NAMES = ("Anna", "Bruno", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas", "Laura", "Marco")


@dataclass(frozen=True)
class Wording:
    """What the families say in one language; braces are filled in."""

    have: str
    gain: str
    lose: str
    boxes: str
    total: str
    smallest: str
    list_of: str
    count: str
    words: tuple[str, ...]
    code: str
    ask_code: str
    close: str


WORDINGS = {
    "en": Wording(
        "{name} has {n} apples.",
        "Then {name} buys {n} more.",
        "Then {name} gives {n} away.",
        "Then {name} gets {n} bags with {m} apples each.",
        "How many apples does {name} have now?",
        "Which number stands at place {n} when these numbers are sorted from smallest to largest?",
        "Numbers: {items}",
        'How many times does the word "{word}" occur in this text?',
        ("river", "house", "garden", "light", "stone", "bread"),
        "The code of {name} is {n}.",
        "What is the code of {name}?",
        "End your answer with the number.",
    ),
    "fr": Wording(
        "{name} a {n} pommes.",
        "Puis {name} en achète {n} de plus.",
        "Puis {name} en donne {n}.",
        "Puis {name} reçoit {n} sacs de {m} pommes chacun.",
        "Combien de pommes {name} a-t-il ou a-t-elle maintenant ?",
        "Quel nombre se trouve à la place {n} quand on trie ces nombres du plus petit au plus grand ?",
        "Nombres : {items}",
        "Combien de fois le mot « {word} » apparaît-il dans ce texte ?",
        ("rivière", "maison", "jardin", "lumière", "pierre", "pain"),
        "Le code de {name} est {n}.",
        "Quel est le code de {name} ?",
        "Termine ta réponse par le nombre.",
    ),
    "es": Wording(
        "{name} tiene {n} manzanas.",
        "Después {name} compra {n} más.",
        "Después {name} regala {n}.",
        "Después {name} recibe {n} bolsas con {m} manzanas cada una.",
        "¿Cuántas manzanas tiene {name} ahora?",
        "¿Qué número ocupa el lugar {n} cuando se ordenan estos números de menor a mayor?",
        "Números: {items}",
        "¿Cuántas veces aparece la palabra «{word}» en este texto?",
        ("río", "casa", "jardín", "luz", "piedra", "pan"),
        "El código de {name} es {n}.",
        "¿Cuál es el código de {name}?",
        "Termina tu respuesta con el número.",
    ),
    "de": Wording(
        "{name} hat {n} Äpfel.",
        "Dann kauft {name} {n} weitere.",
        "Dann verschenkt {name} {n} davon.",
        "Dann bekommt {name} {n} Tüten mit je {m} Äpfeln.",
        "Wie viele Äpfel hat {name} jetzt?",
        "Welche Zahl steht an Stelle {n}, wenn diese Zahlen von der kleinsten zur größten geordnet werden?",
        "Zahlen: {items}",
        "Wie oft kommt das Wort „{word}“ in diesem Text vor?",
        ("Fluss", "Haus", "Garten", "Licht", "Stein", "Brot"),
        "Der Code von {name} ist {n}.",
        "Wie lautet der Code von {name}?",
        "Beende deine Antwort mit der Zahl.",
    ),
    "it": Wording(
        "{name} ha {n} mele.",
        "Poi {name} ne compra altre {n}.",
        "Poi {name} ne regala {n}.",
        "Poi {name} riceve {n} sacchetti con {m} mele ciascuno.",
        "Quante mele ha {name} adesso?",
        "Quale numero occupa il posto {n} quando questi numeri sono ordinati dal più piccolo al più grande?",
        "Numeri: {items}",
        "Quante volte compare la parola «{word}» in questo testo?",
        ("fiume", "casa", "giardino", "luce", "pietra", "pane"),
        "Il codice di {name} è {n}.",
        "Qual è il codice di {name}?",
        "Termina la risposta con il numero.",
    ),
    "pt": Wording(
        "{name} tem {n} maçãs.",
        "Depois {name} compra mais {n}.",
        "Depois {name} dá {n}.",
        "Depois {name} recebe {n} sacos com {m} maçãs cada um.",
        "Quantas maçãs tem {name} agora?",
        "Que número fica na posição {n} quando estes números são ordenados do menor para o maior?",
        "Números: {items}",
        "Quantas vezes aparece a palavra «{word}» neste texto?",
        ("rio", "casa", "jardim", "luz", "pedra", "pão"),
        "O código de {name} é {n}.",
        "Qual é o código de {name}?",
        "Termina a resposta com o número.",
    ),
}
LANGUAGES = tuple(WORDINGS)
# Question and answer, from a wording and a source of chance.
Maker = Callable[[random.Random, Wording], tuple[str, int]]


def arithmetic(rng: random.Random, say: Wording) -> tuple[str, int]:
    """A story of three changes to a number of apples, which never falls below zero."""
    name, total = rng.choice(NAMES), rng.randint(12, 60)
    told = [say.have.format(name=name, n=total)]
    for _ in range(3):
        kind = rng.choice(("gain", "lose", "boxes"))
        if kind == "gain":
            n = rng.randint(5, 45)
            total += n
            told.append(say.gain.format(name=name, n=n))
        elif kind == "lose":
            n = rng.randint(2, max(2, total // 2))
            total -= n
            told.append(say.lose.format(name=name, n=n))
        else:
            n, m = rng.randint(2, 6), rng.randint(3, 9)
            total += n * m
            told.append(say.boxes.format(name=name, n=n, m=m))
    return " ".join([*told, say.total.format(name=name)]), total


def ordering(rng: random.Random, say: Wording) -> tuple[str, int]:
    """The n-th smallest of six different numbers."""
    numbers, place = rng.sample(range(10, 1000), 6), rng.randint(2, 5)
    items = ", ".join(map(str, numbers))
    return f"{say.smallest.format(n=place)}\n{say.list_of.format(items=items)}", sorted(numbers)[place - 1]


def counting(rng: random.Random, say: Wording) -> tuple[str, int]:
    """How often one of a few words stands in a shuffled text of them."""
    word, times = rng.choice(say.words), rng.randint(2, 7)
    others = [w for w in say.words if w != word]
    text = [word] * times + rng.choices(others, k=rng.randint(6, 12))
    rng.shuffle(text)
    return f"{say.count.format(word=word)}\n{' '.join(text)}", times


def lookup(rng: random.Random, say: Wording) -> tuple[str, int]:
    """One of eight codes."""
    names = rng.sample(NAMES, 8)
    codes = dict(zip(names, rng.sample(range(1000, 10000), 8), strict=True))
    asked = rng.choice(names)
    told = " ".join(say.code.format(name=name, n=code) for name, code in codes.items())
    return f"{told}\n{say.ask_code.format(name=asked)}", codes[asked]


MAKERS: dict[str, Maker] = {"arithmetic": arithmetic, "ordering": ordering, "counting": counting, "lookup": lookup}


def problem_rows(
    where: str,
    seed: int,
    count: int = 240,
    families: list[str] = FAMILIES,
    languages: list[str] = LANGUAGES,
) -> list[dict[str, Any]]:
    """`count` different problems, families and languages taking turns; the same for the same arguments.

    Raises:
        UserError: a family or language is unknown.
    """
    for given, known, what in ((families, FAMILIES, "family"), (languages, LANGUAGES, "language")):
        unknown = [g for g in given if g not in known]
        if unknown or not given:
            raise UserError(f"{where}: no {what} is called {', '.join(unknown)}; known: {', '.join(known)}")
    rng, rows, seen = random.Random(f"problems {seed}"), [], set()
    while len(rows) < count:
        family = families[len(rows) % len(families)]
        language = languages[len(rows) // len(families) % len(languages)]
        say = WORDINGS[language]
        question, answer = MAKERS[family](rng, say)
        if question in seen:
            continue
        seen.add(question)
        asked = [{"role": "user", "content": f"{question}\n{say.close}"}]
        rows.append({"messages": asked, "answer": str(answer), "group": f"{family}-{language}"})
    return rows
