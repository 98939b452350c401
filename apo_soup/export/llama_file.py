"""A GGUF file in llama.cpp: quantised by its library, its tokens, and its log-probabilities. The library runs in
processes of its own, for on some machines it crashes.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from apo_soup.errors import UserError
from apo_soup.export.own_process import OwnProcess, ProcessDied
from apo_soup.progress import say

# llama.cpp's numbers for what a file may hold.
TYPES = {"f16": "LLAMA_FTYPE_MOSTLY_F16", "q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0", "q4_k_m": "LLAMA_FTYPE_MOSTLY_Q4_K_M"}
_SILENT = logging.CRITICAL + 1


def quantise(source: Path, file: Path, kind: str) -> None:
    """Write a file of 16 bits as one of another type of `TYPES`, by llama.cpp's library.

    Raises:
        UserError: the library refuses it, or crashes.
    """
    try:
        OwnProcess(_quantise, str(source), str(file), kind).close()
    except ProcessDied as end:
        raise UserError(
            f"--gguf {kind}: expected llama.cpp to quantise the model, got its end by {end}; choose f16"
        ) from end


class LlamaFile:
    """A file that llama.cpp has loaded, on the processor, as it is by default. Where it crashes so, it is loaded again
    with weights as they lie in the file, not put in another order for the processor: by the library's plain code.

    Raises:
        UserError: llama.cpp does not take it, or crashes either way.
    """

    def __init__(self, file: Path, context: int):
        self._file, self._context, self._plain = file, context, False
        self._process: OwnProcess | None = None
        self.adds_begin = bool(self._ask("adds_begin"))

    def tokens(self, text: str) -> list[int]:
        """The ids of a prompt, as llama.cpp's server makes them: control tokens are read as such, and the beginning of
        text is added where the file says so, and the prompt has none.

        Raises:
            UserError: llama.cpp crashes.
        """
        return list(self._ask("tokens", text))

    def logprobs(self, ids: list[int]) -> list[float]:
        """The log-probability of each token of a text but the first, given those before it.

        Raises:
            UserError: llama.cpp crashes.
        """
        return list(self._ask("logprobs", ids))

    def answer(self, prompt: list[int], ends: set[int], longest: int) -> list[int]:
        """The likeliest tokens behind a prompt, up to an end of turn, which is among them, or `longest`.

        Raises:
            UserError: llama.cpp crashes.
        """
        return list(self._ask("answer", prompt, ends, longest))

    def _ask(self, name: str, *arguments: Any) -> Any:
        try:
            if self._process is None:
                self._process = OwnProcess(_LoadedFile, str(self._file), self._context, self._plain)
            return self._process.call(name, *arguments)
        except ProcessDied as end:
            self._process = None
            if self._plain:
                raise UserError(
                    f"{self._file.name}: expected llama.cpp to run the model, got its end by {end}; choose f16, or "
                    "serve this model with transformers or vLLM"
                ) from end
            self._plain = True
            say(
                f"{self._file.name}: llama.cpp crashes here ({end}) with weights in its processor's own order; "
                "compared without: give llama-server --no-repack, or see docs/serve.md"
            )
            return self._ask(name, *arguments)

    def __enter__(self) -> "LlamaFile":
        return self

    def __exit__(self, *_: object) -> None:
        """Free what llama.cpp holds of it."""
        if self._process is not None:
            self._process.close()


def _quantise(source: str, file: str, kind: str) -> None:
    import ctypes  # which a Python without it needs for nothing else

    llama = _library()
    settings = llama.llama_model_quantize_default_params()
    settings.ftype = getattr(llama, TYPES[kind])
    code = llama.llama_model_quantize(source.encode(), file.encode(), ctypes.byref(settings))
    if code:
        raise UserError(
            f"--gguf {kind}: expected llama.cpp to quantise the model, got its refusal (code {code}); free the disk if "
            "it is full, or choose f16"
        )


class _LoadedFile:
    """As `LlamaFile`, in the process that this is in."""

    def __init__(self, file: str, context: int, plain: bool):
        llama = _library()
        if plain:
            _without_own_order(llama.llama_cpp)
        try:
            self._loaded: Any = llama.Llama(
                file, n_ctx=context, n_batch=context, n_ubatch=context, logits_all=True, verbose=False
            )
        except (ValueError, RuntimeError) as error:
            raise UserError(
                f"{Path(file).name}: expected a file that llama.cpp loads, got its refusal: {error}; serve this model "
                "with transformers or vLLM"
            ) from error

    def tokens(self, text: str) -> list[int]:
        ids = list(self._loaded.tokenize(text.encode(), add_bos=True, special=True))
        begin = self._loaded.token_bos()
        return ids[1:] if ids[:2] == [begin, begin] else ids

    def adds_begin(self) -> bool:
        """Whether llama.cpp puts a beginning of text before what it is given."""
        return bool(self._loaded.tokenize(b"", add_bos=True, special=True))

    def logprobs(self, ids: list[int]) -> list[float]:
        self._loaded.reset()
        self._loaded.eval(ids)
        logits = self._loaded.scores[: len(ids) - 1].astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        normal = np.log(np.exp(shifted).sum(axis=1))
        picked = shifted[np.arange(len(ids) - 1), ids[1:]]
        return [float(value) for value in picked - normal]

    def answer(self, prompt: list[int], ends: set[int], longest: int) -> list[int]:
        self._loaded.reset()
        found: list[int] = []
        for token in self._loaded.generate(prompt, top_k=1, temp=0.0):
            found.append(int(token))
            if len(found) == longest or token in ends:
                break
        return found


def _without_own_order(bindings: Any) -> None:
    """Have every model loaded with weights in the order of the file: `Llama` has no word for it, so what it begins with
    is another.
    """
    begin = bindings.llama_model_default_params

    def plain() -> Any:
        settings = begin()
        settings.use_extra_bufts = False
        return settings

    bindings.llama_model_default_params = plain


def _library() -> Any:
    """llama.cpp's bindings, which print nothing."""
    import llama_cpp

    logging.getLogger("llama-cpp-python").setLevel(_SILENT)
    return llama_cpp
