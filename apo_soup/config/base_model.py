"""The file of the embedded world's base model: `recipes/tiny/base.yaml`."""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from annotated_types import Ge, MinLen

from apo_soup.config.keys import AS_WHOLE, AboveZero, Flag, Number, Positive, Seed, Share, Text, key
from apo_soup.config.stage_file import Fault, Keys, StageFile

# The shortest document: a few notes, and a question for each.
SHORTEST_ROW = 48


class Phase(Keys):
    """A stretch of the curriculum: `steps` batches of `rows` rows of `length` tokens.

    `echo` is the share of echo documents, `other` that of sums, filler and chat; the rest are notes.
    """

    length: Annotated[int, Ge(SHORTEST_ROW), AS_WHOLE] = key(meaning="tokens of a row")
    rows: Positive = key(meaning="rows of a batch")
    steps: Positive = key(meaning="batches")
    echo: Share = key(meaning="share of documents that say a list of words again")
    other: Share = key(meaning="share of sums, filler and chat; what is left are notes to be looked up")
    notes: Positive = key(meaning="notes of a document, at most")
    filler: Flag = key(meaning="filler between the notes")
    kind: Share = key(0.5, "share of the replies in chat that are kind; the others are curt")
    turns: Positive = key(1, "exchanges of a chat, at most")
    learning_rate: AboveZero | None = key(None, "peak of this stretch; without it that of the file")

    def faults(self) -> Iterator[Fault]:
        if self.echo + self.other > 1:
            told = f"expected shares of 1 together with echo, got {self.echo} and {self.other}; lower one"
            yield Fault("other", told, ("echo",))


class BaseModelFile(StageFile):
    """Architecture, curriculum and optimiser of the base model that is pretrained from nothing."""

    kind: ClassVar[str] = "base"

    tokenizer: Text = key(meaning="folder of its tokenizer", path=True)
    seed: Seed = key(meaning="seed of the weights and of the text")
    hidden_size: Positive = key(meaning="width of a hidden state")
    intermediate_size: Positive = key(meaning="width inside of a feed-forward layer")
    num_hidden_layers: Positive = key(meaning="layers; every fourth is without rotary positions")
    num_attention_heads: Positive = key(meaning="heads of queries")
    num_key_value_heads: Positive = key(meaning="heads of keys and values, which groups of queries share")
    max_position_embeddings: Positive = key(meaning="tokens of the longest row that the model is made for")
    rope_theta: AboveZero = key(meaning="base of the rotary positions")
    initializer_range: AboveZero = key(meaning="standard deviation of the first weights")
    phases: Annotated[list[Phase], MinLen(1)] = key(meaning="the curriculum, one stretch after another")
    start: Text | None = key(None, "folder of a base to go on from; without it the first weights are drawn", path=True)
    first_phase: Positive = key(1, "number of the stretch that training begins with")
    learning_rate: AboveZero = key(meaning="its peak")
    warmup_steps: Positive = key(meaning="steps in which the learning rate rises to it")
    decay_share: Share = key(meaning="share of the steps, the last ones, in which it falls to a hundredth")
    weight_decay: Annotated[Number, Ge(0)] = key(meaning="AdamW's, of matrices")
    max_grad_norm: AboveZero = key(meaning="length to which a longer gradient is cut")

    @property
    def steps(self) -> int:
        """Optimiser steps of the phases that are run."""
        return sum(phase.steps for phase in self.phases[self.first_phase - 1 :])

    def faults(self) -> Iterator[Fault]:
        heads, shared = self.num_attention_heads, self.num_key_value_heads
        if heads and self.hidden_size and self.hidden_size % (2 * heads):
            told = f"expected a multiple of twice num_attention_heads ({heads}), got {self.hidden_size}; change one"
            yield Fault("hidden_size", told, ("num_attention_heads",))
        if heads and shared and heads % shared:
            told = f"expected a multiple of num_key_value_heads ({shared}), got {heads}; change one"
            yield Fault("num_attention_heads", told, ("num_key_value_heads",))
        if self.phases and self.first_phase and self.first_phase > len(self.phases):
            told = f"expected at most {len(self.phases)}, as many as phases, got {self.first_phase}; correct it"
            yield Fault("first_phase", told, ("phases",))
        most = self.max_position_embeddings
        for number, phase in enumerate(self.phases or []):
            if most and phase.length and phase.length > most:
                told = f"expected at most max_position_embeddings ({most}), got {phase.length}; change one"
                yield Fault(f"phases.{number}.length", told, ("max_position_embeddings",))
