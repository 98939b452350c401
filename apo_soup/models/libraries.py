"""Notes and progress bars of the libraries, kept out of the terminal; their objects, kept from the collector; memory
that they free, kept for what comes next.
"""

import contextlib
import ctypes
import gc
import importlib.util
import logging
import os
import sys
import warnings
from typing import Any

# Where the notes come from; one that blames a line of ours is shown.
NOTES_OF = r"(accelerate|datasets|huggingface_hub|mergekit|peft|torch|transformers|trl)\b"

# mallopt(3): blocks from this size on get pages of their own, and free memory from this size on goes to the system.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
LARGEST_KEPT = 2**30


def quiet_libraries() -> None:
    """Leave the terminal to the stage: no library progress bars, and no notes on what their next release renames."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore", category=FutureWarning, module=NOTES_OF)
    # PEFT keeps embeddings that were resized in the adapter's file, as it should, and says so at every checkpoint.
    warnings.filterwarnings("ignore", message="Setting `save_embedding_layers`", category=UserWarning)
    # Merging unties such layers itself (`apo_soup/models/adapted.py`).
    warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`", category=UserWarning)
    # On processors with AVX512-BF16 it looks for a kernel of the Hub while it is imported, and warns that it has none.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def spare_collector() -> None:
    """Let the collector pass by what lives now; called by a program when its libraries are imported.

    They are half a million objects that live as long as the program. Every full collection would walk them, the one at
    Python's end too: two seconds of a stage's processor time on a model of a few layers.
    """
    gc.freeze()


def spare_compiler() -> None:
    """Import bitsandbytes, where it is installed, without torch's compiler, which it prepares for functions of its own
    and does without where it cannot: a sixth of the seconds that a stage's imports take. PEFT imports it in any case;
    this is for a training that computes nothing with it, called before PEFT is imported.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    import torch

    compiler = torch.compile
    torch.compile = _no_compiler  # type: ignore[assignment]  # until it is imported
    try:
        with contextlib.suppress(ImportError):
            import bitsandbytes  # noqa: F401
    finally:
        torch.compile = compiler


def _no_compiler(*_: Any, **__: Any) -> None:
    raise RuntimeError("expected nothing to be compiled while libraries are imported")


def keep_freed_memory() -> None:
    """Let a process that trains on a CPU keep what a step frees for the next one, where glibc allocates and nobody has
    set how; called before a training.

    A fresh page costs several times what it costs to fill it. A block of a tile, or the gradient of the embeddings, is
    otherwise given back to the system whenever it is freed: a tenth of a training's seconds.
    """
    import torch

    told = os.environ.keys() & {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}
    if sys.platform != "linux" or told or torch.accelerator.is_available():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        for setting, size in ((_M_MMAP_THRESHOLD, LARGEST_KEPT), (_M_TRIM_THRESHOLD, 2**31 - 1)):
            mallopt(setting, size)
