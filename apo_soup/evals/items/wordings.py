"""What the generated problems say, in SmolLM3's six languages."""

from dataclasses import dataclass


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
