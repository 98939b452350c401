"""Whether an answer keeps its question's language, by py3langid (langid.py's naive Bayes, Lui and Baldwin 2012)."""

import importlib.util
import re
from functools import cache
from typing import Any

from apo_soup.config.asking import AskingFile, FilterKeys
from apo_soup.errors import UserError, told_by_library
from apo_soup.verify.modes import answer_part

# Digits, punctuation and white space, which belong to no language.
NON_LETTERS = re.compile(r"[\d\W_]+")
# Letters that a text must have before its language is told, and the least probability of the one that is.
MIN_LETTERS, MIN_PROBABILITY = 40, 0.95


def require_languages(languages: tuple[str, ...] | None, where: str) -> None:
    """Check, before anything is asked, that languages can be told apart.

    Raises:
        UserError: py3langid is not installed, or does not know one of the `languages` (ISO 639-1).
    """
    if importlib.util.find_spec("py3langid") is None:
        raise UserError(
            f"{where}.language: expected an installed py3langid, got none; pip install 'apo-soup[language]'"
        )
    if languages:
        with told_by_library(
            f"{where}.languages", (ValueError,), expected="languages that py3langid knows", way="correct them"
        ):
            _identifier(languages)


def answer_languages(recipe: AskingFile) -> tuple[str, ...] | None:
    """The languages that a file's answers are told apart by; None for all that are known.

    Raises:
        UserError: they cannot be told apart as asked for.
    """
    keys = recipe.filters or FilterKeys()
    languages = tuple(keys.languages) if keys.languages else None
    if keys.language:
        require_languages(languages, recipe.place("filters"))
    return languages


def same_language(question: str, answer: str, languages: tuple[str, ...] | None) -> bool:
    """Whether an answer, its reasoning aside, keeps the language of its question; short or doubtful texts pass."""
    one, two = (detected_language(text, languages) for text in (question, answer_part(answer)))
    return one is None or two is None or one == two


def detected_language(text: str, languages: tuple[str, ...] | None) -> str | None:
    """ISO 639-1 code of a text's language, or None where there is too little of it to be sure.

    Args:
        languages: the codes to choose from; None is all that py3langid knows.
    """
    words = NON_LETTERS.sub(" ", text)
    if sum(map(str.isalpha, words)) < MIN_LETTERS:
        return None
    code, probability = _identifier(languages).classify(words)
    return str(code) if probability >= MIN_PROBABILITY else None


@cache
def _identifier(languages: tuple[str, ...] | None) -> Any:
    """The library's identifier of these languages; ValueError for a code that it does not know."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(languages) if languages else None)
    return identifier
