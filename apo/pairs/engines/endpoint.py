"""Any OpenAI-compatible endpoint."""

from collections.abc import Collection

from apo.pairs.engines.engine import KeepAnswers
from apo.pairs.journal import Answer
from apo.pairs.prompts import Prompt
from apo.pairs.side import AskedSide
from apo_soup.config.endpoint import EndpointKeys
from apo_soup.config.sides import OpenaiSide
from apo_soup.data.rendering.argument_form import as_served
from apo_soup.models.endpoint.client import ChatReply, ChatRequest, EndpointClient


class EndpointEngine:
    """Chat completions of one server. Every candidate of a prompt has a seed of its own.

    Raises:
        UserError: the environment variable of the key holds what no key is.
    """

    def __init__(self, side: AskedSide, keys: EndpointKeys):
        self.side = side
        send_arguments = keys.send_template_kwargs if isinstance(keys, OpenaiSide) else False
        self.client = EndpointClient(keys, side.where, side.sampling, send_arguments)

    def answer(self, prompts: list[Prompt], done: Collection[str], keep: KeepAnswers) -> None:
        """See `Engine.answer`.

        Raises:
            UserError: the server refuses the key, the model or the address, or keeps failing.
        """

        def keep_reply(reply: ChatReply) -> None:
            keep([Answer(reply.key, reply.completions, reply.asked_tokens, reply.problem, reply.server)])

        self.client.ask((self._request(p) for p in prompts if p.id not in done), keep_reply)

    def close(self) -> None:
        """See `Engine.close`. Nothing is held: the client is closed when its requests are done."""

    def _request(self, prompt: Prompt) -> ChatRequest:
        seeds = tuple(self.side.request_seed(prompt.id, number) for number in range(self.side.candidates))
        asked = as_served(prompt.messages, prompt.kwargs, self.client.send_arguments)
        return ChatRequest(prompt.id, *asked, seeds)
