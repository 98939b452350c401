"""`apo-soup export MODEL --gguf [TYPE] [--ollama]`: a model folder as a file for llama.cpp, and what it was held to.

The file lies beside the model, in `gguf/NAME-TYPE` of the same folder: `runs/mine/gguf/merged-q8_0`. It is made in a
hidden sibling and put into place when llama.cpp has loaded it and its tokens and log-probabilities were compared.
"""

import shutil
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.export.packages import require_export_packages
from apo_soup.export.request import GGUF_TYPES, ExportRequest
from apo_soup.models.libraries import quiet_libraries
from apo_soup.progress import say, tell
from apo_soup.runs.chat_template import template_text
from apo_soup.runs.lock import at_work
from apo_soup.runs.model_files import hash_model
from apo_soup.runs.outputs import require_own_folder
from apo_soup.runs.put_in_place import restore
from apo_soup.runs.sources import model_folder
from apo_soup.runs.stage import Stage

_STAGE = "gguf"


def export_model(request: ExportRequest) -> None:
    """Write a model as a GGUF file, and say what it costs; nothing is made where that is there already.

    Raises:
        UserError: a package is missing; the model is none that llama.cpp takes; the file's tokens are others, or its
            log-probabilities are not those of the model; or something else lies in its place.
    """
    if request.kind not in GGUF_TYPES:
        raise UserError(f"--gguf: expected one of {', '.join(GGUF_TYPES)}, got {request.kind}; correct it")
    require_export_packages()
    model = model_folder(request.model, "MODEL")
    if model is None:
        raise UserError(
            f"MODEL: expected a folder or a recipe for --gguf, got {request.model} of the Hub; download it first "
            f"(hf download {request.model} --local-dir DIR), and name its folder"
        )
    # A name that is none, such as `.`, becomes one.
    model = model if model.name not in ("", "..") else model.resolve()
    folder = model.parent / _STAGE / f"{model.name}-{request.kind}"
    require_own_folder(_STAGE, folder, "export")
    with at_work(folder):
        restore(folder)
        stage = export_stage(request, model, folder)
        reason = stage.stale()
        if reason is None:
            tell(f"{_STAGE}: {folder} is up to date")
            return
        say(f"{_STAGE}: {reason}")
        quiet_libraries()
        from apo_soup.export.make import make_export

        try:
            make_export(request, model, stage)
        except UserError:
            # Nothing goes on with it: what was refused would be refused again.
            shutil.rmtree(stage.partial, ignore_errors=True)
            raise


def export_stage(request: ExportRequest, model: Path, folder: Path) -> Stage:
    """The folder of an export as a stage, which is up to date while model, type and template are the same.

    Raises:
        UserError: the template is not there, or a manifest of the model's is none.
    """
    config: dict[str, Any] = {"type": request.kind, "ollama": request.ollama}
    if request.template is not None:
        config["chat_template"] = template_text(request.template, "chat_template")
    return Stage(_STAGE, folder, config, {"model": hash_model(model)})
