"""Tokens that a training file adds to its model's tokenizer, and those that its template writes in vain."""

import re

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase

from apo_soup.config.training import NewToken, TrainingFile
from apo_soup.errors import UserError

# How families write their control tokens; DeepSeek's bars are wide ones.
CONTROL_WORD = re.compile(r"<[|｜][^\s|｜<>'\"{}]+[|｜]>")


def add_new_tokens(tokenizer: PreTrainedTokenizerBase, recipe: TrainingFile) -> None:
    """Add the tokens that a file asks for, each with the next free id.

    A text that the tokenizer keeps whole already stays the token that it is, and a special one stays special: adding it
    again would change how other texts are cut, or what decoding leaves out.

    Raises:
        UserError: a token that would hide the end of turn, that does not stay whole, or whose id another token has.
    """
    if not recipe.new_tokens:
        return
    taken = {token_id: text for text, token_id in tokenizer.get_vocab().items()}
    end = recipe.end_of_turn or tokenizer.eos_token
    for token in recipe.new_tokens:
        where = recipe.place(token.key)
        if end and end in token.text and end != token.text:
            raise UserError(
                f"{where}: expected a token without the end-of-turn token {end}, got {token.text!r}, behind which no "
                "answer would end; leave it out"
            )
        if _must_be_added(tokenizer, token):
            added = AddedToken(token.text, normalized=False, special=token.special)
            tokenizer.add_tokens([added], special_tokens=token.special)
        token_id = tokenizer.backend_tokenizer.token_to_id(token.text)
        ids = _ids(tokenizer, token.text)
        if ids != [token_id]:
            raise UserError(
                f"{where}: expected a text that becomes one token, got {token.text!r}, which becomes {len(ids)}; "
                "choose another"
            )
        if taken.get(token_id, token.text) != token.text:
            raise UserError(
                f"{where}: expected a free id for {token.text!r}, got {token_id}, which {taken[token_id]!r} has; "
                "number the tokenizer's tokens without gaps"
            )


def _must_be_added(tokenizer: PreTrainedTokenizerBase, token: NewToken) -> bool:
    """Whether the tokenizer must learn a token: it is none yet, not a whole one, or not a special one."""
    token_id = tokenizer.backend_tokenizer.token_to_id(token.text)
    known = None if token_id is None else tokenizer.added_tokens_decoder.get(token_id)
    if known is not None:
        return token.special and not known.special
    return token_id is None or token.special or _ids(tokenizer, token.text) != [token_id]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The ids of a text by itself."""
    ids: list[int] = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def unknown_control_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The control words, such as `<|im_start|>`, that the chat template writes and the tokenizer cuts into pieces."""
    words = dict.fromkeys(CONTROL_WORD.findall(tokenizer.get_chat_template()))
    return [word for word in words if len(_ids(tokenizer, word)) > 1]
