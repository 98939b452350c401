"""Any OpenAI-compatible endpoint: many requests at once, back-off, rate limits honoured.

The key is read from the environment variable that `api_key_env` names (OPENAI_API_KEY unless given) and stands in no
file. A request that fails for a reason that may pass (429, 5xx, no connection, no answer in time, an unreadable one) is
tried again, after a wait that doubles, or after as long as the server's Retry-After says where that is longer. A limit
that is told with its end (429) uses up no try. When the tries are used up the run stops; what was answered until then
is kept.

tenacity counts the tries and the doubling wait. The client's own retries are off: they keep back the one request that
was told to wait and not all, obey no wait above two minutes, and count a told limit as a try.
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import openai
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_exponential

from apo_soup.config.endpoint import ALWAYS_SENT, EndpointKeys, endpoint_address
from apo_soup.errors import UserError, first_line
from apo_soup.models.completion import Completion, Sampling
from apo_soup.models.endpoint.pace import LONGEST_HOLD, RequestPace, retry_after_seconds
from apo_soup.models.endpoint.reply import (
    PASSING_CODES,
    error_in_reply,
    may_pass,
    openai_turn,
    reply_completion,
    reply_fault,
    reply_tokens,
    server_build,
)
from apo_soup.models.endpoint.server_words import ServerWords

# 0.5 s, 1 s, 2 s ... after the first, second, third failure of a request.
BACKOFF = wait_exponential(multiplier=0.5, max=60.0)
# Seconds from a request's first try for which told limits use up no try of it.
LIMIT_PATIENCE = 1800.0
# Client errors that may pass by themselves, as every 5xx may.
PASSING_STATUSES = PASSING_CODES
# Statuses that refuse one prompt: malformed for this server, moderated, too long, or against the law.
PROMPT_STATUSES = (400, 403, 413, 422, 451)
# Servers on one's own machine ask for no key, and the client insists on one.
NO_KEY = "none"
RESUME = "the answers until now are kept, run the same command again"


Asked = TypeVar("Asked")


class PassingFailure(Exception):
    """A request that failed for a reason that may pass.

    `retry_after` is the wait that the server asked for in seconds (None where it did not), `limited` whether it is a
    rate limit (429).
    """

    def __init__(self, reason: str, retry_after: float | None = None, limited: bool = False):
        super().__init__(reason)
        self.retry_after = retry_after
        self.limited = limited


class PromptRefused(Exception):
    """A prompt that the server refuses as such; the message is the server's."""


@dataclass(frozen=True)
class ChatRequest:
    """A conversation that a server is to answer, once for each of `seeds`; `arguments` are those of its template."""

    key: str
    messages: list[dict[str, Any]]
    arguments: Mapping[str, Any]
    seeds: tuple[int, ...]
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class ChatReply:
    """The completions of a request, or the reason (`problem`) why there are none; the prompt's tokens and what the
    server says of itself, where it tells them.
    """

    key: str
    completions: list[Completion]
    asked_tokens: int | None = None
    server: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Route:
    """A kind of request: what sends it, and what says why a reply cannot be read."""

    send: Callable[[openai.AsyncOpenAI], Callable[..., Awaitable[Any]]]
    fault: Callable[[Any], str | None]


CHAT = Route(lambda client: client.chat.completions.create, reply_fault)


def without_left_out(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a request without the fields that its further fields say null of: some servers refuse a field
    whatever its value, as OpenAI's reasoning models refuse max_tokens. A request without a model is none.

    >>> without_left_out({"model": "m", "max_tokens": 9, "extra_body": {"max_tokens": None, "min_tokens": 2}})
    {'model': 'm', 'extra_body': {'min_tokens': 2}}
    >>> without_left_out({"model": "m", "extra_body": {"model": None}})
    {'model': 'm', 'extra_body': {}}
    """
    said = {name: value for name, value in arguments["extra_body"].items() if value is not None}
    out = arguments["extra_body"].keys() - said.keys() - set(ALWAYS_SENT)
    return {name: value for name, value in arguments.items() if name not in out} | {"extra_body": said}


class EndpointClient:
    """Chat completions of one server. `concurrency` requests are under way at a time.

    Args:
        where: `FILE:LINE: KEY` of the endpoint, for messages.
        send_arguments: whether a template's arguments are sent, which hold the mode.

    Raises:
        UserError: the environment variable of the key holds what no key is.
    """

    def __init__(
        self,
        keys: EndpointKeys,
        where: str,
        sampling: Sampling,
        send_arguments: bool = True,
    ):
        self.keys, self.where, self.sampling, self.send_arguments = keys, where, sampling, send_arguments
        self._key = (os.environ.get(keys.api_key_env) or NO_KEY).strip()
        if not self._key.isascii():
            raise UserError(
                f"{where}.api_key_env: expected a key in ASCII in the environment variable {keys.api_key_env}, "
                "got another character in it; set the variable anew"
            )
        self._words = ServerWords(keys, self._key if self._key != NO_KEY else "")
        self._address = endpoint_address(keys)
        self.pace = RequestPace(keys.requests_per_minute)

    def ask(self, requests: Iterable[ChatRequest], keep: Callable[[ChatReply], None]) -> None:
        """Ask all requests; `keep` is called with each reply as it comes.

        Raises:
            UserError: the server refuses the key, the model or the address, or keeps failing.
        """

        async def answer(client: openai.AsyncOpenAI, request: ChatRequest) -> None:
            keep(await self._candidates(client, request))

        asyncio.run(self.each(iter(requests), answer))

    def replies(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """The replies to requests of different keys, in their order.

        Raises:
            UserError: as `ask` does.
        """
        found: dict[str, ChatReply] = {}

        def keep(reply: ChatReply) -> None:
            found[reply.key] = reply

        self.ask(requests, keep)
        return [found[request.key] for request in requests]

    async def each(
        self, waiting: Iterable[Asked], answer: Callable[[openai.AsyncOpenAI, Asked], Awaitable[None]]
    ) -> None:
        """`answer` on all requests, by `concurrency` workers that take one after another."""

        async def work(client: openai.AsyncOpenAI) -> None:
            for request in waiting:
                await answer(client, request)

        async with self.connection() as client:
            workers = [asyncio.create_task(work(client)) for _ in range(self.keys.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    def connection(self) -> openai.AsyncOpenAI:
        """A client of the server."""
        return openai.AsyncOpenAI(
            base_url=self._address.url,
            default_query=self._address.query,
            api_key=self._key,
            max_retries=0,
            timeout=self.keys.timeout,
        )

    async def _candidates(self, client: openai.AsyncOpenAI, request: ChatRequest) -> ChatReply:
        """All candidates of one request; one that the server refuses as such is a reply with a problem."""
        completions, prompt_tokens, server = [], None, None
        try:
            for seed in request.seeds:
                reply = await self.reply(client, CHAT, self._arguments(request, seed))
                completions.append(self.without_secrets(reply_completion(reply)))
                prompt_tokens = reply_tokens(reply, "prompt_tokens")
                server = server_build(reply)
                server = self._words.clean(server) if server else None
        except PromptRefused as refusal:
            return ChatReply(request.key, [], problem=f"refused by the server: {refusal}")
        return ChatReply(request.key, completions, prompt_tokens, server)

    def without_secrets(self, completion: Completion) -> Completion:
        """An answer that stands on disk; one that repeats a secret is no answer."""
        if not self._words.are_in(completion.written):
            return completion
        text = self._words.cleaned_answer(completion.written)
        return replace(completion, text=text, calls=(), problem="a secret of the file in the answer")

    async def reply(self, client: openai.AsyncOpenAI, route: Route, arguments: dict[str, Any]) -> Any:
        """The reply to one request, tried again while the failure may pass.

        Raises:
            UserError: the tries are used up, or the server refuses the key, the model or the address.
            PromptRefused: the server refuses this prompt.
        """
        attempts = self.keys.retries + 1

        def hold_all(state: RetryCallState) -> None:
            failure = state.outcome.exception() if state.outcome else None
            if isinstance(failure, PassingFailure) and failure.retry_after:
                self.pace.hold(failure.retry_after)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(PassingFailure),
            stop=stop_after_attempt(attempts),
            # Spread out, so that requests which failed together do not come back together.
            wait=lambda state: BACKOFF(state) * random.uniform(0.5, 1.0),
            before_sleep=hold_all,
            reraise=True,
        )
        try:
            patient_until = time.monotonic() + LIMIT_PATIENCE
            return await retrying(self._reply_past_limits, client, route, arguments, patient_until)
        except PassingFailure as failure:
            count = "a failure" if attempts == 1 else f"{attempts} failures in a row"
            advice = f"see whether the server still runs; {RESUME} to go on"
            raise self.error("base_url", f"{count} on one request ({failure})", advice) from failure

    async def _reply_past_limits(
        self, client: openai.AsyncOpenAI, route: Route, arguments: dict[str, Any], patient_until: float
    ) -> Any:
        """One try that waits out, together with all other requests, the rate limits whose end the server tells."""
        while True:
            try:
                return await self._reply_at_once(client, route, arguments)
            except PassingFailure as failure:
                if not failure.limited or not failure.retry_after or time.monotonic() > patient_until:
                    raise
                self.pace.hold(failure.retry_after)

    async def _reply_at_once(self, client: openai.AsyncOpenAI, route: Route, arguments: dict[str, Any]) -> Any:
        """One request, when its turn has come.

        Raises:
            PassingFailure, PromptRefused, UserError: by what may be done about the failure.
        """
        await self.pace.wait_for_turn()
        try:
            # The client's own limit is one of silence; a server that drips would never meet it.
            reply = await asyncio.wait_for(route.send(client)(**without_left_out(arguments)), self.keys.timeout)
        except (openai.APIError, TimeoutError, ValueError) as error:
            # Without its cause, which --debug shows: there the server's own words may repeat the key.
            raise self.failure(error) from None
        told = error_in_reply(reply)
        if told:
            words = self._words.clean(" ".join(str(told).split()))[:200]
            raise PassingFailure(words) if may_pass(told) else PromptRefused(words)
        fault = route.fault(reply)
        if fault:
            raise PassingFailure(f"{fault}: {self._words.clean(str(reply))[:80]!r}")
        self.pace.request_succeeded()
        return reply

    def reason(self, error: Exception) -> str:
        """What a client's exception says, without secrets."""
        return self._words.clean(first_line(error))[:200]

    def failure(self, error: Exception) -> PassingFailure | PromptRefused | UserError:
        """A client's exception by what may be done about it."""
        status, reason = getattr(error, "status_code", None), self.reason(error)
        if status == 401:
            told = f"a refusal of the key in {self.keys.api_key_env} ({status})"
            return self.error("api_key_env", told, "set that variable to a key of the server")
        if status == 404:
            told = f"status 404 for the model {self.keys.model} ({reason})"
            return self.error("model", told, "correct model or base_url")
        if status in PROMPT_STATUSES:
            return PromptRefused(reason)
        if status is not None and status < 500 and status not in PASSING_STATUSES:
            return self.error("base_url", f"status {status} ({reason})", "correct what it names")
        wait = retry_after_seconds(getattr(error, "response", None))
        if wait is not None and wait > LONGEST_HOLD:
            return self.error("base_url", f"a request to come back in {wait:,.0f} s ({reason})", f"{RESUME} then")
        return PassingFailure(reason, wait, limited=status == 429)

    def error(self, key: str, got: str, advice: str) -> UserError:
        """A sentence about what the server did, at the key that it concerns."""
        expected = f"expected an answer of the server at {self._address.url}"
        return UserError(f"{self.where}.{key}: {expected}, got {got}; {advice}")

    def _arguments(self, request: ChatRequest, seed: int) -> dict[str, Any]:
        """The arguments of `chat.completions.create` for one candidate of a request."""
        sampling = self.sampling
        return {
            "model": self.keys.model,
            "messages": [openai_turn(m) for m in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": seed,
            **({"stop": list(request.stop)} if request.stop else {}),
            "extra_body": self._extra_body(request),
        }

    def _extra_body(self, request: ChatRequest) -> dict[str, Any]:
        """What is beyond OpenAI's own schema: the template's arguments, which hold the mode, and the recipe's own."""
        body: dict[str, Any] = {}
        if self.send_arguments:
            body["chat_template_kwargs"] = dict(request.arguments)
        if self.sampling.top_k:
            body["top_k"] = self.sampling.top_k
        if self.sampling.min_p:
            body["min_p"] = self.sampling.min_p
        tools = request.arguments.get("tools")
        if tools:
            body["tools"] = [t if "function" in t else {"type": "function", "function": t} for t in tools]
        return {**body, **(self.keys.extra_body or {})}
