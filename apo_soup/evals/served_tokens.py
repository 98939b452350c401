"""A served model where its tokens count: texts are cut here, by the tokenizer that the file names, and sent as ids."""

from functools import cached_property
from typing import Any

from transformers import AutoConfig, PreTrainedTokenizerBase

from apo_soup.config.eval import EvalEndpoint
from apo_soup.errors import UserError
from apo_soup.models.completion import Sampling
from apo_soup.models.endpoint.packages import require_endpoint_packages
from apo_soup.models.recipe_tokenizer import CONFIG_ERRORS
from apo_soup.models.tokenizer import encode

# What a server is asked to score before the first question, for its tokens to be compared with ours.
TOKEN_PROBE = "The 3 quick brown foxes jumped over 12 lazy dogs: why, and how far?"
# Tokens of the window behind those that score others: a text's last, and one that the server must generate.
BEHIND_TEXT = 2


class ServedTokens:
    """What a server, an endpoint's keys and a tokenizer make of texts in tokens.

    Raises:
        UserError: the packages of endpoints are not installed.
    """

    def __init__(self, keys: EvalEndpoint, where: str, tokenizer: PreTrainedTokenizerBase | None):
        """`where` is `FILE:LINE: KEY` of the endpoint, for messages."""
        self.keys, self.where, self.tokenizer = keys, where, tokenizer
        require_endpoint_packages(where)

    def client(self, sampling: Sampling) -> Any:
        """A client of chats and token prompts, for answers that are drawn so.

        Raises:
            UserError: the environment variable of the key holds what no key is.
        """
        from apo_soup.models.endpoint.token_prompts import TokenClient  # late: the packages of endpoints are an extra

        return TokenClient(self.keys, self.where, sampling, self.keys.send_template_kwargs)

    @cached_property
    def window(self) -> int | None:
        """The most tokens of a text and its answer: as the server says, else as the configuration beside the tokenizer
        does; None where neither is there.

        Raises:
            UserError: the environment variable of the key holds what no key is.
        """
        told: int | None = self.client(Sampling(1)).window()
        if told or self.keys.tokenizer is None:
            return told
        try:
            config = AutoConfig.from_pretrained(self.keys.tokenizer)
        except CONFIG_ERRORS:
            return None  # a folder or a repository with a tokenizer alone
        return getattr(config.get_text_config(), "max_position_embeddings", None)

    @cached_property
    def probe(self) -> list[int]:
        """The ids of `TOKEN_PROBE`."""
        assert self.tokenizer is not None  # who asks has looked
        return list(encode(self.tokenizer, [TOKEN_PROBE])[0].ids)

    def check_scores(self) -> None:
        """Ask whether the server scores texts, by the tokens of this tokenizer.

        Raises:
            UserError: it does not.
        """
        from apo_soup.models.endpoint.token_prompts import same_tokens

        written = self.client(Sampling(1)).score([self.probe])[0].written
        if not same_tokens(written, self.probe, TOKEN_PROBE):
            raise UserError(
                f"{self.where}.tokenizer: expected the tokenizer of the served model, got another one: the server "
                f"reads its ids of {TOKEN_PROBE!r} as {''.join(written)!r}; correct it"
            )
