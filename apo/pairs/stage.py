"""What a pairs file reads, and so whether its folder is up to date."""

from pathlib import Path

from apo.pairs.prompts import sources_of
from apo_soup.config.recipe import Recipe
from apo_soup.hashing import hash_file, hash_value
from apo_soup.runs.inputs import PROJECT, code_hash, model_hash, rows_hash, semantic, template_text, verifier_code
from apo_soup.runs.stage import Stage

# Files that decide what a model is asked and how it answers, and those that decide what is right.
ASKING = (
    "data/trained_spans.py",
    "data/template.py",
    "data/conversation.py",
    "models/generation.py",
    "models/tokenizer.py",
)
JUDGES = (
    "verify/answers.py",
    "verify/numbers.py",
    "data/clean.py",
    "models/completion.py",
    "data/formats.py",
    "data/rows.py",
)
SHARED = PROJECT / "apo_soup"


def rendering_code() -> str:
    """Hash of the code that asks a local model: its answers are of other prompts when that has changed."""
    return hash_value([hash_file(SHARED / name) for name in ASKING])


def stage_of(recipe: Recipe) -> Stage:
    """The pairs folder with its fingerprint; raises UserError for missing inputs."""
    recipe.need("mode")
    where = recipe.where("prompts")
    rows = [rows_hash(s["id"], where, s.get("revision")) for s in sources_of(recipe)]
    shared = [hash_file(SHARED / name) for name in JUDGES]
    inputs = {"prompts": hash_value(rows), "code": hash_value([code_hash("apo/pairs"), rendering_code(), shared])}
    for side in ("strong", "weak"):
        settings = recipe.need(side)
        template = template_text(settings.get("chat_template"), recipe.where(f"{side}.chat_template"))
        if template is not None:
            inputs[f"{side} template"] = hash_value(template)
        if "base_url" in settings:
            inputs[side] = f"{settings['model']} at {settings['base_url']}"  # nothing more can be known of it
        else:
            inputs[side] = model_hash(settings["model"], recipe.where(f"{side}.model"), settings.get("revision"))
    code = verifier_code(recipe.values.get("verifier") or "")
    if code:
        inputs["verifier"] = hash_file(Path(code))
    return Stage("pairs", Path(recipe.need("output_dir")), semantic(recipe.values), inputs)
