"""Pretrain the small base model of `recipes/tiny` from nothing, on generated text.

    python -m apo_soup.toy.pretrain --config recipes/tiny/base.yaml

Next-token prediction on rows filled with whole documents, loss on what a reader could foresee. The curriculum goes
from short rows to long ones; the learning rate warms up, stays, and decays linearly over the last share of steps. A
user's own base model comes from elsewhere: this program exists so that the shipped one can be made again.
"""

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, PreTrainedTokenizerBase, SmolLM3Config, SmolLM3ForCausalLM

from apo_soup.config.base_model import BaseModelFile, Phase
from apo_soup.config.command_line import arguments
from apo_soup.config.load import load
from apo_soup.errors import UserError, run_main, told_by_disk
from apo_soup.models.tokenizer import load_tokenizer
from apo_soup.progress import say
from apo_soup.runs.durable import sync_tree
from apo_soup.runs.lock import at_work
from apo_soup.runs.put_in_place import hidden_sibling, replace_folder, restore
from apo_soup.toy import prose


def learning_rate_at(config: BaseModelFile, step: int) -> float:
    """Warm-up, plateau, linear decay to a hundredth of the peak over the last `decay_share` of the steps."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    left = (config.steps - step) / max(1, int(config.decay_share * config.steps))
    return peak_at(config, step) * min(warm, max(0.01, min(1.0, left)))


def peak_at(config: BaseModelFile, step: int) -> float:
    """The peak of the phase that a step belongs to."""
    for phase in config.phases[config.first_phase - 1 :]:
        if step < phase.steps:
            return phase.learning_rate or config.learning_rate
        step -= phase.steps
    return config.learning_rate


def random_document(
    rng: random.Random, tokenizer: PreTrainedTokenizerBase, phase: Phase
) -> tuple[list[int], list[int]]:
    """Ids and labels of one document of at most about `phase.length` tokens, its end marked; -100 carries no loss."""
    kind = rng.random()
    length = phase.length
    size = length if rng.random() < 0.4 else int(48 * (length / 48) ** rng.random())
    if kind < phase.echo:
        pieces = prose.echo_document(rng, min(24, length // 6))
    elif kind < 1 - phase.other:
        pieces = prose.notes_document(rng, int(0.95 * size), phase.notes, phase.filler)
    elif kind < 1 - phase.other * 0.7:
        pieces = prose.filler_document(rng, rng.randint(2, 12))
    elif kind < 1 - phase.other * 0.4:
        pieces = prose.sums_document(rng, rng.randint(4, 16))
    else:
        messages = prose.chat_messages(rng, max(32, int(0.85 * size)), phase.kind, phase.turns)
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, enable_thinking=False))
        at = text.rindex("</think>\n") + len("</think>\n")
        pieces = [(text[:at], False), (text[at:], True)]
    ids: list[int] = []
    labels: list[int] = []
    for text, known in pieces:
        found = tokenizer(text).input_ids
        ids += found
        labels += found if known else [-100] * len(found)
    return [*ids, tokenizer.pad_token_id], [-100, *labels[1:], -100]


def batches(config: BaseModelFile, tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels `[B, S]`; every row begins with a document, and the last document of a row is cut to fit."""
    rng = random.Random(config.seed)
    for phase in config.phases[config.first_phase - 1 :]:
        for _ in range(phase.steps):
            rows, targets = [], []
            for _ in range(phase.rows):
                ids: list[int] = []
                labels: list[int] = []
                while len(ids) < phase.length:
                    more_ids, more_labels = random_document(rng, tokenizer, phase)
                    ids += more_ids
                    labels += more_labels
                rows.append(ids[: phase.length])
                targets.append(labels[: phase.length])
            yield torch.tensor(rows), torch.tensor(targets)


def model_config(config: BaseModelFile, tokenizer: PreTrainedTokenizerBase) -> SmolLM3Config:
    """The architecture: SmolLM3's, every fourth layer without rotary positions."""
    return SmolLM3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        max_position_embeddings=config.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
        no_rope_layer_interval=4,
        initializer_range=config.initializer_range,
        tie_word_embeddings=True,
        use_cache=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )


@torch.no_grad()
def mimetic_init(model: SmolLM3ForCausalLM, strength: float = 0.7) -> None:
    """Begin with heads that look for tokens like their own and copy them (Trockman and Kolter 2023, arXiv 2305.09828).

    Each head's query projection leans on its key projection and its output projection on its value projection
    transposed. From a plain random start retrieval did not appear within 2 500 short steps; from this one it did
    within 1 600.
    """
    for layer in model.model.layers:
        heads = layer.self_attn
        size, group = heads.head_dim, heads.num_key_value_groups
        for head in range(model.config.num_attention_heads):
            own = slice(head * size, (head + 1) * size)
            shared = slice(head // group * size, (head // group + 1) * size)
            query, output = heads.q_proj.weight, heads.o_proj.weight
            query[own] = strength * heads.k_proj.weight[shared] + (1 - strength) * query[own]
            output[:, own] = strength * heads.v_proj.weight[shared].T + (1 - strength) * output[:, own]


def first_weights(config: BaseModelFile, tokenizer: PreTrainedTokenizerBase) -> SmolLM3ForCausalLM:
    """The model before the first step: drawn, or that of the folder `start`, in float32.

    Raises:
        UserError: `start` is not there, or holds another architecture.
    """
    drawn = SmolLM3ForCausalLM(model_config(config, tokenizer))
    if not config.start:
        mimetic_init(drawn)
        return drawn
    file = Path(config.start) / "model.safetensors"
    shapes = {name: tuple(weight.shape) for name, weight in drawn.state_dict().items()}
    found = load_file(file) if file.is_file() else {}
    if any(tuple(weight.shape) != shapes.get(name) for name, weight in found.items()) or not found:
        raise UserError(
            f"{config.place('start')}: expected a folder with a base of this file's architecture, got {config.start}; "
            "correct the path, or leave start out"
        )
    drawn.load_state_dict({name: weight.float() for name, weight in found.items()}, strict=False)
    drawn.tie_weights()
    return drawn


def save_base(model: SmolLM3ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the model in bfloat16 with tokenizer and generation settings; the folder gets its name when it is whole.

    Raises:
        UserError: the disk refuses it.
    """
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.6,
        top_p=0.95,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    copy = SmolLM3ForCausalLM(model.config).bfloat16()
    copy.load_state_dict({k: v.to(torch.bfloat16) for k, v in model.state_dict().items()})
    copy.generation_config = model.generation_config
    copy.config.use_cache = True
    partial = hidden_sibling(folder, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    with told_by_disk("pretrain", partial):
        if folder.is_dir():  # what else lies there, such as a page about the model, stays
            shutil.copytree(folder, partial)
        copy.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        sync_tree(partial)
        replace_folder(partial, folder)


def pretrain(config: BaseModelFile) -> None:
    """Train from nothing, or from another base, and write the model to `output_dir`, every 1 000 steps and at the end.

    Raises:
        UserError: the tokenizer is not there or cannot be loaded, another process is at work on the output folder, the
            disk refuses it, or the loss is no number.
    """
    if not Path(config.tokenizer).is_dir():
        raise UserError(
            f"{config.place('tokenizer')}: expected the folder of a tokenizer, got {config.tokenizer}, which is not "
            "there; correct the path, or make it with python -m apo_soup.toy.tokenizer FOLDER"
        )
    with at_work(Path(config.output_dir)):
        restore(Path(config.output_dir))
        _pretrain(config)


def _pretrain(config: BaseModelFile) -> None:
    torch.manual_seed(config.seed)
    tokenizer = load_tokenizer(config.tokenizer, config.place("tokenizer"), files=config.tokenizer)
    model = first_weights(config, tokenizer)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=config.learning_rate,
        betas=(0.9, 0.99),
    )
    started, tokens = time.monotonic(), 0
    for step, (batch, labels) in enumerate(batches(config, tokenizer)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(config, step)
        loss = model(input_ids=batch, labels=labels).loss
        if not torch.isfinite(loss):
            raise UserError(
                f"pretrain: expected a finite loss, got {loss.item()} at step {step}; lower learning_rate in the recipe"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += batch.numel()
        if step % 100 == 0 or step + 1 == config.steps:
            seconds = time.monotonic() - started
            say(
                f"step {step}/{config.steps}  loss {loss.item():.3f}  lr {learning_rate_at(config, step):.1e}  "
                f"{tokens:,} tokens  {tokens / seconds:,.0f} tokens/s  {seconds / 60:.1f} min"
            )
        if step % 1000 == 999:
            save_base(model, tokenizer, Path(config.output_dir))
    save_base(model, tokenizer, Path(config.output_dir))


def _main() -> None:
    options, overrides, names = arguments("apo_soup.toy.pretrain", (__doc__ or "").split("\n")[0])
    pretrain(load(options.config, "base", overrides, names))


if __name__ == "__main__":
    run_main(_main)
