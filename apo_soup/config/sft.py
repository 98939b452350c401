"""The file of mid-training and supervised fine-tuning: `mid.yaml`, `sft.yaml`."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from apo_soup.config.keys import AboveZero, Flag, Positive, Text, Texts, key
from apo_soup.config.library_keys import with_library_keys
from apo_soup.config.stage_file import Fault, Remark
from apo_soup.config.training import AskedWindow, NewToken, TrainingFile

TrainOn = Literal["all_turns", "last_turn", "unroll"]


@with_library_keys("SFTConfig", "ModelConfig")
class SftFile(TrainingFile):
    """A supervised stage: how rows become sequences, and which of their tokens are trained."""

    kind: ClassVar[str] = "sft"

    packing: Flag = key(False, "put several documents into one sequence", rows=True, main=True)
    packing_strategy: Literal["bfd", "bfd_split", "wrapped"] = key(
        "bfd",
        "best-fit decreasing, the same with long documents split, or one stream cut into sequences",
        rows=True,
        main=True,
    )
    assistant_only_loss: Flag = key(False, "loss on the assistant's own words and end of turn alone", rows=True)
    completion_only_loss: Flag | None = key(
        None, "loss on the completion alone; by default where rows have one", rows=True
    )
    train_on: TrainOn = key(
        "all_turns",
        "assistant turns that are trained: all, the last one, or each at the end of a sample of its own (`unroll`), "
        "rendered as it will be asked",
        rows=True,
    )
    learning_rate: AboveZero = key(2e-5, "peak learning rate", main=True)
    eos_token: Text | None = key(None, "end-of-turn token, where it is not the tokenizer's", rows=True)

    add_tokens: Texts = key([], "texts that become one token each, such as `<think>`; the tokenizer is saved with them")
    add_special_tokens: Texts = key([], "the same for control tokens, such as `<|im_end|>`, which decoding leaves out")
    resize_embeddings: Flag = key(False, "give the model a row for every token; new rows are the mean of the old ones")
    resize_embeddings_multiple_of: Positive = key(1, "what the number of rows of resized embeddings is a multiple of")

    rope_theta: AboveZero | None = key(
        None, "base of the rotary positions, in place of the model's own; higher for rows longer than it was trained on"
    )
    max_position_embeddings: Positive | None = key(
        None, "longest row that the model is made for, in place of its own: what config.json says of it from here on"
    )

    @property
    def asked_window(self) -> AskedWindow:
        return AskedWindow(self.rope_theta, self.max_position_embeddings)

    @property
    def packs(self) -> bool:
        return self.packing

    @property
    def end_of_turn(self) -> str | None:
        return self.eos_token

    @property
    def new_tokens(self) -> list[NewToken]:
        ordinary = [NewToken(text, False, f"add_tokens.{n}") for n, text in enumerate(self.add_tokens or [])]
        special = [
            NewToken(text, True, f"add_special_tokens.{n}") for n, text in enumerate(self.add_special_tokens or [])
        ]
        return ordinary + special

    @property
    def embedding_multiple(self) -> int | None:
        return self.resize_embeddings_multiple_of if self.resize_embeddings else None

    def remarks(self) -> Iterator[Remark]:
        yield from super().remarks()
        if self.padding_free:
            told = "packing: true leaves little to pad, and batches for FlashAttention have no padding anyway"
            yield Remark("padding_free", f"padding_free is not read: {told}")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        seen: dict[str, str] = {}
        for token in self.new_tokens:
            if not token.text:
                yield Fault(token.key, "expected the text of a token, got none; leave it out")
            elif token.text in seen:
                told = f"expected each token once, got {token.text!r} here and in {seen[token.text]}; keep one"
                yield Fault(token.key, told)
            seen.setdefault(token.text, token.key)
        if self.gives("resize_embeddings_multiple_of") and not self.resize_embeddings:
            told = "expected resize_embeddings: true beside it, got none; leave the key out"
            yield Fault("resize_embeddings_multiple_of", told, ("resize_embeddings",))
        strategy = self.packing_strategy if self.packing else None
        if self.overflow and strategy == "wrapped":
            told = "expected no such key with packing_strategy: wrapped, which cuts the stream of all documents, got "
            yield Fault("overflow", f"{told}{self.overflow}; leave the key out", ("packing", "packing_strategy"))
        elif self.overflow not in (None, "split") and strategy == "bfd_split":
            told = f"expected split with packing_strategy: bfd_split, got {self.overflow}; keep one of the two"
            yield Fault("overflow", told, ("packing", "packing_strategy"))
        if self.rope_theta is not None and "rope_parameters" in self.loading_arguments:
            told = (
                "expected no such key beside rope_parameters in model_init_kwargs, which has a rope_theta of its own, "
            )
            yield Fault("rope_theta", f"{told}got {self.rope_theta:g}; keep one of the two", ("model_init_kwargs",))
        most = self.max_position_embeddings
        if most is not None and self.max_length > most:
            told = f"expected at least max_length ({self.max_length}), got {most}; change one of the two"
            yield Fault("max_position_embeddings", told, ("max_length",))
        if self.train_on != "all_turns" and not self.assistant_only_loss and self.completion_only_loss is False:
            told = "expected assistant_only_loss: true beside it, got completion_only_loss: false alone, so all of a "
            told += "row is trained; write it, or leave the key out"
            yield Fault("train_on", told, ("assistant_only_loss", "completion_only_loss"))
