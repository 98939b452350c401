"""The mask check: the last one before a GPU is paid for, that what is trained is what should be trained.

The text of every row is held to what its messages say (`row_faults.py`, and `pair_check.py` for pairs). Of the first
rows of every source the tokens are decoded again too, so that a tokenizer that changes what was written is seen, and of
every row with a token that belongs to an answer and to what stands beside it. A fault in one of the first stops the
launch and shows the row; a row behind them is rejected with it.
"""

import unicodedata

from apo_soup.data.checks.row_faults import TrainedTurns
from apo_soup.data.checks.said import same_words
from apo_soup.data.conversations.reasoning import spoken_content
from apo_soup.errors import UserError

# It looks at so many rows of a source, and at no more than so much text, so that it stays within seconds.
ROWS_PER_SOURCE = 200
CHARACTERS_PER_SOURCE = 600_000
SHOWN_CHARACTERS = 1200
OTHER_TOKENIZER = "choose another tokenizer or chat_template"


def decoded_fault(row: TrainedTurns, trained_texts: list[str]) -> str | None:
    """What is wrong with the trained tokens of a row whose text is right, or None.

    Args:
        trained_texts: the text of the tokens that carry loss, a turn each.
    """
    for turn, (start, end), trained in zip(row.turns, row.spans, trained_texts, strict=True):
        trained = _normal_form(trained)
        if not same_words(_normal_form(spoken_content(turn)), trained):
            return (
                "expected tokens that say what an answer says, got others, or one that joins its beginning to what is "
                f"before it; {OTHER_TOKENIZER}"
            )
        written = row.text[start:end]
        last = next((token for token in row.ends if written.endswith(token)), "")
        if not trained.endswith(last):
            return (
                f"expected {last} among what is trained, as it ends an answer, got tokens without it, so a model would "
                f"never learn to stop; {OTHER_TOKENIZER}"
            )
        if not same_words(trained, _normal_form(written)):
            return f"expected the tokens of an answer alone to be trained, got others as well; {OTHER_TOKENIZER}"
    return None


def mask_check_error(place: str, fault: str, texts: dict[str, str]) -> UserError:
    """The error of a row that fails the check, with its texts below their titles."""
    below = "".join(f"\n--- {title} ---\n{_shortened(text)}" for title, text in texts.items())
    return UserError(f"{place}: mask check: {fault}{below}")


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " ..."


def _normal_form(text: str) -> str:
    """Text in the normal form that some tokenizers (Qwen's) bring it to."""
    return unicodedata.normalize("NFC", text)
