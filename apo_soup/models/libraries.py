"""Notes and progress bars of the libraries, kept out of the terminal; their objects, kept from the collector."""

import gc
import os
import warnings

# Where the notes come from; one that blames a line of ours is shown.
NOTES_OF = r"(accelerate|datasets|huggingface_hub|mergekit|peft|torch|transformers|trl)\b"


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
    from transformers.utils import logging

    logging.disable_progress_bar()


def spare_collector() -> None:
    """Let the collector pass by what lives now; called by a program when its libraries are imported.

    They are half a million objects that live as long as the program. Every full collection would walk them, the one at
    Python's end too: two seconds of a stage's processor time on a model of a few layers.
    """
    gc.freeze()
