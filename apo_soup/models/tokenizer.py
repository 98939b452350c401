"""Load a tokenizer with the recipe's chat template on it."""

from collections.abc import Callable
from pathlib import Path

from tokenizers import Encoding, Tokenizer
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, first_line
from apo_soup.models.embeddings import check_fits, embedding_rows
from apo_soup.models.new_tokens import add_new_tokens
from apo_soup.models.training_template import training_template
from apo_soup.progress import say
from apo_soup.runs.chat_template import TRL_TEMPLATE, template_text
from apo_soup.runs.sources import model_folder


def load_tokenizer(
    model: str,
    where: str,
    chat_template: str | None = None,
    eos_token: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    recipe_folder: Path | None = None,
    key_place: Callable[[str], str] | None = None,
    recipe: TrainingFile | None = None,
) -> PreTrainedTokenizerBase:
    """The model's tokenizer, with `chat_template` (ours, TRL's, inline, or a file) in place of its own when given.

    Args:
        where: `FILE:LINE: KEY` of the model, for messages.
        recipe_folder: where the recipe looked first, for the sentence about a path that is not there.
        key_place: says the same of `chat_template` and `eos_token`, where a file gives them.
        recipe: the file whose new tokens are added.

    Raises:
        UserError: the tokenizer cannot be loaded, is not a fast one, cannot take a new token, or has neither template
            nor end-of-turn token.
    """
    model_folder(model, where, recipe_folder)
    folder = Path(model).expanduser()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder) if folder.exists() else model, revision=revision, trust_remote_code=trust_remote_code
        )
    except Exception as error:
        raise UserError(
            f"{where}: expected a model with a tokenizer, got {model}, whose tokenizer cannot be loaded: "
            f"{first_line(error)}; name another one"
        ) from error
    if not tokenizer.is_fast:
        raise UserError(
            f"{where}: expected a fast tokenizer, got {model} without tokenizer.json; the loss mask needs its "
            "character offsets, so convert it"
        )
    template_where = key_place("chat_template") if key_place else where
    if chat_template == TRL_TEMPLATE:
        tokenizer.chat_template = _template_of_trl(tokenizer, model, template_where)
    elif chat_template is not None:
        tokenizer.chat_template = template_text(chat_template, template_where, recipe_folder)
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
    if recipe is not None:
        add_new_tokens(tokenizer, recipe)
    if eos_token is not None:
        if eos_token not in tokenizer.get_vocab():
            raise UserError(
                f"{key_place('eos_token') if key_place else where}: expected a token of {model}, got {eos_token}; name "
                "one of its vocabulary"
            )
        tokenizer.eos_token = eos_token
    if tokenizer.eos_token is None:
        raise UserError(
            f"{where}: expected a model with an end-of-turn token, got {model} without one; give eos_token, such as "
            "<|im_end|>"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


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


def recipe_tokenizer(recipe: TrainingFile) -> PreTrainedTokenizerBase:
    """The tokenizer that a training file asks for, with the tokens that it adds.

    Raises:
        UserError: as `load_tokenizer` does, or the model has no embeddings for all of its tokens.
    """
    tokenizer = load_tokenizer(
        recipe.model_name_or_path,
        recipe.place("model_name_or_path"),
        recipe.chat_template,
        recipe.end_of_turn,
        recipe.model_revision,
        recipe.trust_remote_code,
        recipe.path.parent,
        recipe.place,
        recipe,
    )
    check_fits(recipe, token_ids(tokenizer), model_rows(recipe))
    return tokenizer


def token_ids(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many ids a tokenizer needs rows for: its highest one, holes below it included, and 1."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def new_token_ids(recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids, ascending, of tokens that the recipe's model does not know: its own tokenizer lacks them, or its
    embeddings have no row for them.
    """
    own = AutoTokenizer.from_pretrained(
        recipe.model_name_or_path, revision=recipe.model_revision, trust_remote_code=recipe.trust_remote_code
    ).get_vocab()
    rows = model_rows(recipe)
    vocabulary = tokenizer.get_vocab().items()
    return sorted(i for text, i in vocabulary if own.get(text) != i or (rows is not None and i >= rows))


def model_rows(recipe: TrainingFile) -> int | None:
    """The rows of the embeddings of a training file's model by its configuration; None where that does not say, or
    cannot be loaded: what loads the weights will tell.
    """
    try:
        config = AutoConfig.from_pretrained(
            recipe.model_name_or_path, revision=recipe.model_revision, trust_remote_code=recipe.trust_remote_code
        )
    except Exception:
        return None
    return embedding_rows(config.to_dict())


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
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return backend
