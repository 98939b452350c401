"""Models of which one has tokens that another lacks. No torch: a sweep asks before it starts."""

import itertools
from pathlib import Path

from apo_soup.errors import UserError
from apo_soup.models.stored_tokenizer import file_in, stored_tokenizer
from apo_soup.stored_json import read_json


def check_new_tokens(folders: list[Path], where: str) -> None:
    """Refuse models of which one has all tokens of another, and more behind them.

    Raises:
        UserError: naming both folders, the tokens, and what to do.
    """
    known = [(folder, tokens) for folder in folders if (tokens := _token_ids(folder, where)) is not None]
    for (a, tokens_of_a), (b, tokens_of_b) in itertools.pairwise(known):
        has, lacks = (a, b) if len(tokens_of_a) > len(tokens_of_b) else (b, a)
        more, fewer = (tokens_of_a, tokens_of_b) if has == a else (tokens_of_b, tokens_of_a)
        new = sorted(more.items() - fewer.items(), key=lambda token: token[1])
        beside = {token_id for _, token_id in new}.isdisjoint(fewer.values())
        if new and beside and fewer.items() <= more.items():
            first = ", ".join(repr(text) for text, _ in new[:3])
            raise UserError(
                f"{where}: {lacks}: expected the tokens of {has}, got {len(new):,} fewer ({first}"
                f"{', ...' if new[3:] else ''}); give add_tokens and resize_embeddings in the file that makes {lacks} "
                "too, or say which tokens the result has with mergekit's key tokenizer_source"
            )


def _token_ids(folder: Path, where: str) -> dict[str, int] | None:
    """The ids of all tokens by their texts; None where `tokenizer.json` is not there, or holds no tokenizer.

    Raises:
        UserError: it is no JSON.
    """
    tokenizer = stored_tokenizer(file_in(folder), where)
    if tokenizer is None:
        file = file_in(folder)("tokenizer.json")
        if file:
            read_json(file, where)
        return None
    return dict(tokenizer.get_vocab(with_added_tokens=True))
