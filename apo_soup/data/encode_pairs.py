"""Preference pairs to ids: the prompt's, and those of the chosen and the rejected answer behind it."""

from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from apo_soup.data.checks.pair_check import ANSWER_SIDES, CheckedPair, check_pair, pair_fault, prompt_fault
from apo_soup.data.conversations.blank_text import is_blank
from apo_soup.data.conversations.conversation import PreferencePair
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.documents import PAIR_COLUMNS, Array, Document, Refused, RowToEncode, longer_than
from apo_soup.data.encoder import Encoder, reasoning_tokens
from apo_soup.data.pending_row import PendingRow
from apo_soup.data.rendering.template import Span
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import Fields, RowError
from apo_soup.models.tokenizer import encode_ids

# An answer of more tokens is not looked at for words: blank ones of that length are refused as text.
FEW = 32


class PairEncoder(Encoder[PreferencePair]):
    """Rows of preference optimisation."""

    def parsed(self, fields: Fields, arguments: dict[str, Any]) -> PreferencePair:
        """A pair.

        Raises:
            RowError: naming the field, what was expected and what is there.
        """
        return parse_pair(fields, arguments)

    def rendered(self, item: PreferencePair) -> tuple[list[str], list[Span]]:
        """The three texts of a pair; its answers are trained as a whole, so it has no spans.

        Raises:
            RowError: the template refuses the row, or writes the prompt otherwise once an answer follows.
        """
        return pair_texts(item, self.renderer), []

    def shared_characters(self, texts: list[str]) -> int:
        """The prompt up to behind its last control token: so much of it is tokenised once for both answers."""
        prompt, *wholes = texts
        return self.text_cuts.last(prompt) if all(whole.startswith(prompt) for whole in wholes) else 0

    def document(self, row: RowToEncode, pending: PendingRow[PreferencePair], ids: list[Array]) -> Document | Refused:
        """Ids `[S]` of prompt, chosen and rejected; what is beyond `max_length` is cut off the answers alone.

        Raises:
            RowError: an answer has no words, or the tokens are not those that its mode asks for.
            UserError: the latter, of a row that is checked for its source.
        """
        prompt, chosen, rejected = pair_ids(ids, self.tokenizer)
        for name, answer in zip(ANSWER_SIDES, (chosen, rejected), strict=True):
            if says_nothing(answer, self.tokenizer):
                raise RowError(f"field {name}: expected words, got control tokens alone; leave the pair out")
        pair = CheckedPair(row.row.place, pending.item, pending.texts, self.renderer.knows_modes)
        if row.checked:
            check_pair(pair, (prompt, chosen, rejected), self.tokenizer)
        else:
            fault = pair_fault(pair, (prompt, chosen, rejected), self.tokenizer)
            if fault:
                raise RowError(fault)
        limit = self.options.max_length
        room = limit - len(prompt)
        lost = max(0, len(chosen) - room) + max(0, len(rejected) - room)
        count = len(prompt) + len(chosen) + len(rejected)
        if lost and self.options.overflow == "drop":
            return Refused("long", longer_than(limit, len(prompt) + max(len(chosen), len(rejected))), count)
        if room <= 0:
            return Refused(
                "long",
                f"expected a prompt shorter than max_length {limit}, got {len(prompt)} tokens, which leave no room for "
                "an answer, and overflow cuts answers alone; raise max_length",
                count,
            )
        chosen, rejected = chosen[:room], rejected[:room]
        if np.array_equal(chosen, rejected):
            return Refused(
                "long",
                f"expected answers that differ before max_length {limit}, got the same "
                f"{len(prompt) + len(chosen)} tokens up to the cut of overflow: truncate; raise max_length",
                count,
            )
        trained = len(chosen) + len(rejected)
        reasoning = 0
        if pending.item.mode == "think":
            for ends, answer in zip(pending.thought_ends[1:], (chosen, rejected), strict=True):
                end = len(prompt) + len(answer)
                reasoning += reasoning_tokens(ends, [(len(prompt), end)], [(0, end)])
        return Document(
            pending.item.mode, [(prompt, chosen, rejected)], len(prompt) + trained, trained, reasoning, lost
        )


def pair_texts(item: PreferencePair, renderer: Renderer) -> list[str]:
    """Three texts: the prompt with its generation prompt, and the prompt with each answer.

    Raises:
        RowError: the template refuses the row, or writes the prompt otherwise once an answer follows.
    """
    prompt = renderer.prompt(item.prompt, item.kwargs)
    texts = [renderer.render(item.prompt + side, item.kwargs)[0] for side in (item.chosen, item.rejected)]
    for name, text in zip(ANSWER_SIDES, texts, strict=True):
        fault = prompt_fault(item, name, prompt, text)
        if fault:
            raise RowError(fault)
    return [prompt, *texts]


def pair_ids(ids: list[Array], tokenizer: PreTrainedTokenizerBase) -> tuple[Array, Array, Array]:
    """Prompt, chosen and rejected tokens of the three tokenised texts, arrays `[S]`; answers end with their end-of-turn
    token.

    Raises:
        RowError: the prompt has no tokens or is not a prefix of prompt + answer, an answer has no tokens, or both are
            equal.
    """
    prompt, answers = ids[0], []
    if not len(prompt):
        raise RowError(
            "field prompt: expected tokens, got none, so nothing predicts the first token of an answer; give a "
            "question, or a chat_template that writes a turn's header"
        )
    for name, whole in (("chosen", ids[1]), ("rejected", ids[2])):
        if not np.array_equal(whole[: len(prompt)], prompt):
            raise RowError(
                f"field {name}: expected the prompt's tokens before the answer's, got others, for the tokenizer "
                "joins the prompt's end and the answer's beginning; take a chat_template that ends a prompt in a "
                "special token or a new line"
            )
        answer = whole[len(prompt) :]
        answer = answer[: _end_of(answer, tokenizer)]
        if not len(answer):
            raise RowError(f"field {name}: expected an answer, got no tokens; write one, or leave the pair out")
        answers.append(answer)
    if np.array_equal(answers[0], answers[1]):
        raise RowError("fields chosen, rejected: expected different answers, got the same tokens; leave the pair out")
    return prompt, answers[0], answers[1]


def _end_of(answer: Array, tokenizer: PreTrainedTokenizerBase) -> int:
    """How many tokens `[S]` of an answer are its own, its end of turn among them: all, where it has none. A template
    may write another end behind the last turn (Phi-3's), and parts of an answer may end with one (gpt-oss's).
    """
    ends = np.flatnonzero(answer == tokenizer.eos_token_id)
    if not len(ends):
        return len(answer)
    behind = (end for end in ends[:-1] if says_nothing(answer[end + 1 : ends[-1] + 1], tokenizer))
    return int(next(behind, ends[-1])) + 1


def says_nothing(answer: Array, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokens `[S]` of an answer are control tokens and what nobody sees, and nothing else."""
    control = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
    rest = answer[~np.isin(answer, control)]
    return not len(rest) or (len(rest) <= FEW and is_blank(str(tokenizer.decode(rest.tolist()))))


def encode_pair(item: PreferencePair, renderer: Renderer, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """Token ids of one pair by `PAIR_COLUMNS`, for an evaluation or a preview.

    Raises:
        RowError: as `pair_ids` does.
    """
    ids = [np.array(e.ids, dtype=np.int32) for e in encode_ids(tokenizer, pair_texts(item, renderer))]
    parts = pair_ids(ids, tokenizer)
    return {name: part.tolist() for name, part in zip(PAIR_COLUMNS, parts, strict=True)}
