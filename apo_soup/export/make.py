"""The making of a GGUF file: convert, compare, quantise, compare again, put into place."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from apo_soup.data.rendering.loaded_model import answer_ends
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.errors import told_by_disk
from apo_soup.export.compare import (
    ComparedText,
    LogprobGap,
    conversations,
    difference_table,
    file_logprobs,
    logprob_gaps,
    own_answers,
    reference_logprobs,
    require_bearable,
    require_same,
    require_same_tokens,
)
from apo_soup.export.converter import convert_to_gguf
from apo_soup.export.llama_file import LlamaFile, quantise
from apo_soup.export.modelfile import modelfile
from apo_soup.export.packages import GGUF_PACKAGES
from apo_soup.export.pre_tokenizer import llama_name
from apo_soup.export.request import ExportRequest, model_name
from apo_soup.export.served_template import served_template, trained_dates
from apo_soup.export.source_folder import require_convertible, write_source
from apo_soup.export.turn_format import chat_format
from apo_soup.models.loading import load_causal_model
from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer
from apo_soup.progress import say, tell
from apo_soup.runs.stage import Stage
from apo_soup.stored_json import read_json
from apo_soup.tables import size_text

# Tokens of a conversation whose log-probabilities are compared.
_LONGEST = 512
_SIXTEEN_BITS = "f16"
_COPY_AGAIN = "copy the model again"


def make_export(request: ExportRequest, model: Path, stage: Stage) -> None:
    """Make the folder of an export, and print what its file was held to.

    Raises:
        UserError: the model is none that llama.cpp takes; the file's tokens are others, or its log-probabilities are
            not those of the model; or the disk refuses it.
    """
    config = require_convertible(model)
    trusted = request.trust_remote_code
    tokenizer = load_tokenizer(str(model), "MODEL", TokenizerKeys(request.template), trust_remote_code=trusted)
    tokenizer.chat_template = served_template(tokenizer.get_chat_template(), trained_dates(model))
    renderer = Renderer(tokenizer)
    work, result = stage.begin(), stage.result_folder()
    name = f"{model_name(model)}-{request.kind}"
    with told_by_disk("export", work):
        sixteen = _converted(model, renderer, work, model_name(model))
    longest = min(_LONGEST, config.get("max_position_embeddings") or _LONGEST)
    ends = _end_tokens(_generation_settings(model), renderer)
    with LlamaFile(sixteen, _LONGEST) as loaded:
        prompts, tokens = require_same_tokens(loaded, renderer)
        tell(f"tokens: {prompts} prompts, {tokens:,} tokens, the same in llama.cpp")
        adds_begin = loaded.adds_begin
        given = conversations(renderer, longest) + own_answers(loaded, renderer, ends, longest)
        found = file_logprobs(loaded, given)
    converted = logprob_gaps(_reference(request, model, given), found)
    tell(difference_table(converted, "transformers, float32", "f16 in llama.cpp"))
    require_same(converted)
    file = result / f"{name}.gguf"
    quantised = _typed(request.kind, sixteen, file, given, found)
    if request.ollama:
        (result / "Modelfile").write_text(_modelfile(model, renderer, file.name, adds_begin), encoding="utf-8")
    metrics = {
        "prompts": prompts,
        "prompt_tokens": tokens,
        "converted": [asdict(one) for one in converted],
        "quantised": [asdict(one) for one in quantised],
    }
    size = file.stat().st_size
    stage.finish(result, metrics, {"export_versions": {one: version(one) for one in GGUF_PACKAGES.values()}})
    place = stage.folder / file.name
    tell(f"{place}: {size_text(size)}")
    if request.ollama:
        tell(f"next: ollama create {model_name(model).lower()} -f {stage.folder / 'Modelfile'}")


def _converted(model: Path, renderer: Renderer, work: Path, name: str) -> Path:
    """The model as a file of 16 bits in the folder of work; raises UserError where it cannot be."""
    source, file = work / "source", work / "16-bits.gguf"
    shutil.rmtree(source, ignore_errors=True)
    file.unlink(missing_ok=True)
    write_source(model, source, renderer.template.text, bool(_begin(renderer)))
    say("converting")
    convert_to_gguf(source, file, name, llama_name(read_json(model / "tokenizer.json", "MODEL", _COPY_AGAIN)))
    return file


def _begin(renderer: Renderer) -> str:
    """The beginning of text that the chat template writes; none where it writes none."""
    begin = str(renderer.tokenizer.bos_token or "")
    return begin if begin and renderer.prompt([{"role": "user", "content": "x"}], {}).startswith(begin) else ""


def _reference(request: ExportRequest, model: Path, given: Sequence[ComparedText]) -> dict[str, list[float]]:
    """Log-probabilities under transformers, in float32."""
    loaded = load_causal_model(model, "MODEL", "float32", request.trust_remote_code).eval()
    return reference_logprobs(loaded, given)


def _typed(
    kind: str, sixteen: Path, file: Path, given: Sequence[ComparedText], found: dict[str, list[float]]
) -> list[LogprobGap]:
    """Put the file of 16 bits, or what llama.cpp quantises it to, into its place; what that costs, by mode."""
    if kind == _SIXTEEN_BITS:
        sixteen.rename(file)
        return []
    say(f"quantising to {kind}")
    quantise(sixteen, file, kind)
    with LlamaFile(file, _LONGEST) as loaded:
        lost = logprob_gaps(found, file_logprobs(loaded, given))
    tell(difference_table(lost, "f16 in llama.cpp", kind))
    require_bearable(kind, lost)
    return lost


def _generation_settings(model: Path) -> dict[str, Any]:
    file = model / "generation_config.json"
    return read_json(file, "MODEL", _COPY_AGAIN) if file.is_file() else {}


def _end_tokens(generation: dict[str, Any], renderer: Renderer) -> set[int]:
    """The tokens that end an answer: the tokenizer's, the template's, and those of the generation settings."""
    ends = generation.get("eos_token_id")
    return {*answer_ends(renderer), *(ends if isinstance(ends, list) else [ends])} - {None}


def _modelfile(model: Path, renderer: Renderer, file: str, adds_begin: bool) -> str:
    """The text of the Modelfile for a file beside it."""
    generation = _generation_settings(model)
    stops = [str(renderer.tokenizer.decode([one])) for one in sorted(_end_tokens(generation, renderer))]
    found = chat_format(renderer)
    if found is None:
        say("Modelfile: without a template, as Ollama's language has no room for this one; it needs Ollama 0.30")
    elif adds_begin:
        found = found.without_begin(_begin(renderer))
    return modelfile(file, found, stops, generation)
