"""Load a tokenizer with the recipe's chat template on it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, first_line
from apo_soup.models.adapter_base import base_of_adapter
from apo_soup.models.new_tokens import add_new_tokens
from apo_soup.models.training_template import training_template
from apo_soup.progress import say
from apo_soup.runs.chat_template import TRL_TEMPLATE, template_text
from apo_soup.runs.sources import model_folder


@dataclass(frozen=True)
class TokenizerKeys:
    """What a file lays over the tokenizer of a model.

    `recipe` is the file whose new tokens are added, `folder` where it lies. `place` says `FILE:LINE: KEY` of
    `chat_template` and `eos_token`; without it they stand where the model does.
    """

    chat_template: str | None = None
    eos_token: str | None = None
    recipe: TrainingFile | None = None
    folder: Path | None = None
    place: Callable[[str], str] | None = None


def load_tokenizer(
    model: str,
    where: str,
    keys: TokenizerKeys | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    files: str | None = None,
) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with the chat template that a file gives (ours, TRL's, inline, or a file) in place of its
    own, its end-of-turn token and its new tokens.

    Args:
        where: `FILE:LINE: KEY` of the model, for messages.
        files: a folder or Hub id with the tokenizer of a model that is not there yet.

    Raises:
        UserError: the tokenizer cannot be loaded, is not a fast one, cannot take a new token, or has neither template
            nor end-of-turn token.
    """
    keys = keys or TokenizerKeys()
    if files is None:
        model_folder(model, where, keys.folder)
    try:
        tokenizer = _own_or_of_base(files or model, where, revision, trust_remote_code)
    except Exception as error:
        if "custom code" in str(error):
            raise UserError(
                f"{where}: expected a tokenizer of transformers' own classes, got {model}, which comes with code of "
                "its own; read that code, and write trust_remote_code: true into the file if it may run"
            ) from error
        raise UserError(
            f"{where}: expected a model with a tokenizer, got {model}, whose tokenizer cannot be loaded: "
            f"{first_line(error)}; name another one"
        ) from error
    if not tokenizer.is_fast:
        raise UserError(
            f"{where}: expected a fast tokenizer, got {model} without tokenizer.json; the loss mask needs its "
            "character offsets, so convert it"
        )
    lay_template(tokenizer, model, where, keys)
    if keys.recipe is not None:
        add_new_tokens(tokenizer, keys.recipe)
    _settle_ends(tokenizer, model, where, keys)
    return tokenizer


def _own_or_of_base(files: str, where: str, revision: str | None, trusted: bool) -> PreTrainedTokenizerBase:
    """A model's tokenizer, or that of its base where it is an adapter that was saved without one, as peft saves it."""
    folder = Path(files).expanduser()
    try:
        return AutoTokenizer.from_pretrained(
            str(folder) if folder.exists() else files, revision=revision, trust_remote_code=trusted
        )
    except (OSError, ValueError):
        base = base_of_adapter(files, where, revision)
        if base is None:
            raise
    return AutoTokenizer.from_pretrained(base, trust_remote_code=trusted)


def lay_template(tokenizer: PreTrainedTokenizerBase, model: str, where: str, keys: TokenizerKeys) -> None:
    """Put the template that a file gives on a tokenizer.

    Args:
        where: as for `load_tokenizer`.

    Raises:
        UserError: there is none of that name, or it has none of its own.
    """
    place = keys.place("chat_template") if keys.place else where
    if keys.chat_template == TRL_TEMPLATE:
        tokenizer.chat_template = _template_of_trl(tokenizer, model, place)
    elif keys.chat_template is not None:
        tokenizer.chat_template = template_text(keys.chat_template, place, keys.folder)
    if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
        raise UserError(
            f"{where}: expected a model with one chat template, got {model} with several "
            f"({', '.join(tokenizer.chat_template)}) and none called default; give chat_template the text of one"
        )
    if tokenizer.chat_template is None:
        raise UserError(
            f"{where}: expected a model with a chat template, got {model} without one; give chat_template: apo-soup, a "
            ".jinja file or Jinja text"
        )


def _settle_ends(tokenizer: PreTrainedTokenizerBase, model: str, where: str, keys: TokenizerKeys) -> None:
    """Give a tokenizer the end-of-turn token that a file names, and a padding token; raises UserError where there is no
    such token.
    """
    eos_token = keys.eos_token
    if eos_token is not None:
        if eos_token not in tokenizer.get_vocab():
            place = keys.place("eos_token") if keys.place else where
            raise UserError(
                f"{place}: expected a token of {model}, got {eos_token}; name one of its vocabulary, or add it with "
                "add_special_tokens"
            )
        tokenizer.eos_token = eos_token
    if tokenizer.eos_token is None:
        raise UserError(
            f"{where}: expected a model with an end-of-turn token, got {model} without one; give eos_token, such as "
            "<|im_end|>"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token


def _template_of_trl(tokenizer: PreTrainedTokenizerBase, model: str, where: str) -> str:
    """TRL's training template for the tokenizer's own template, with a line that names it.

    Raises:
        UserError: TRL has none.
    """
    own = tokenizer.chat_template
    found = training_template(own.get("default", "") if isinstance(own, dict) else own or "")
    if found is None:
        raise UserError(
            f"{where}: expected a chat template that TRL has a training template for, got {model}, "
            "whose own is none of them; leave the key out, or give it a .jinja file"
        )
    say(f"chat template: TRL's training template {found[0]}, in place of that of {model}")
    return found[1]


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[Encoding]:
    """Ids and character offsets of texts that hold their own special tokens.

    Goes straight to the Rust tokenizer.
    """
    return plain_backend(tokenizer).encode_batch(texts, add_special_tokens=False)


def encode_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[Encoding]:
    """As `encode`, without offsets, in two thirds of the time."""
    return plain_backend(tokenizer).encode_batch_fast(texts, add_special_tokens=False)


def tokenizer_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """All that decides a tokenizer's ids, as text to hash."""
    return plain_backend(tokenizer).to_str() + str(tokenizer.special_tokens_map)


def plain_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The Rust tokenizer without the padding and truncation that an earlier call may have left switched on."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return backend
