"""Make one folder, `soup` or `merged`, of what a plan says.

    python -m merge --config recipes/tiny/merge.yaml

The soup averages every APO member with equal weights (Wortsman et al. 2022, arXiv 2203.05482); the merge mixes soup and
mid-training checkpoint as the file says (SmolLM3: linear, 0.9 and 0.1). mergekit defines what a merge file means and
runs every method; plain linear averages of local models take the short way of `merge/linear.py`, which gives the same
bits. Inputs are checked before anything is written, and the folder is completed with tokenizer, template, generation
settings and a card.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from apo_soup.config.merge import MergeFile
from apo_soup.config.mergekit import MergekitKeys, MergekitOptions
from apo_soup.errors import told_by_disk
from apo_soup.progress import say
from apo_soup.runs.card import write_card
from apo_soup.runs.lineage import model_label
from apo_soup.runs.put_in_place import hidden_sibling
from apo_soup.stored_json import read_json
from merge.adapter_checks import trained_on
from merge.adapters import with_whole_models
from merge.alike import merge_notes
from merge.average import LinearAverage, plain_linear
from merge.checks import base_folder, check_adapters, check_merge
from merge.complete import complete_folder, copy_tokenizer, write_config, yarn_config
from merge.given_weights import check_weights
from merge.hub import with_snapshots
from merge.layers import layer_changes, output_layers
from merge.linear import same_as_mergekit, write_average
from merge.load_process import LoadProcess
from merge.loading import check_loads
from merge.mergekit_names import is_adapted, named_models, with_models
from merge.mergekit_run import run_mergekit
from merge.mergekit_schema import check_options, parsed_configuration
from merge.own_heads import with_own_heads
from merge.parameter_notes import parameter_notes
from merge.plan import MergePlan, same_models
from merge.tensors import stored_tensors
from merge.token_checks import template_note


def run_merge_stage(plan: MergePlan, recipe: MergeFile, loads: LoadProcess) -> None:
    """Run one merge and put its folder into place.

    Args:
        loads: what tries to load the folder, in another process where that was started.

    Raises:
        UserError: the configuration or the models make no sense, or mergekit refuses them.
    """
    stage, where, run = plan.stage, plan.where, plan.stage.folder.parent
    options = recipe.options or MergekitOptions()
    long_context = recipe.long_context if stage.name == "merged" else None
    check_options(options, recipe.place("options"))
    if plan.linear is None and (options.concerns_mergekit or plain_linear(plan.config) is None):
        parsed_configuration(plan.config, options, where)
    with _whole_models(plan.config, stage.folder, where, options.trust_remote_code) as config:
        folders = list(plan.linear.folders) if plan.linear else [Path(m) for m in named_models(config)]
        models = [str(f) for f in folders] if plan.linear else list(named_models(plan.config))
        plan, config, folders = _own_heads(plan, config, folders)
        check_merge(config, folders, run, where)
        for line in parameter_notes(plan.config, folders, where):
            say(f"note: {where}.{line}")
        first = plan.linear.folders[0] if plan.linear else base_folder(config, folders)
        for line in (*same_models(stage.inputs), *merge_notes(first, folders, where)):
            say(f"note: {where}: {line}")
        if long_context:
            yarn_config(read_json(first / "config.json", where), long_context, recipe.place("long_context"))
        linear = _linear(plan, config, options)
        layers = output_layers(config, where)
        changes = layer_changes(layers, first, where) if layers else {}
        stage.begin()
        final = stage.result_folder()
        hashes: dict[str, str] = {}
        with told_by_disk(where, final):
            if linear:
                hashes = write_average(linear, final, where, stage.name)
                write_config(final, first)
                copy_tokenizer(first, final)
            else:
                run_mergekit(config, options, first, final, where, changes)
            complete_folder(final, first, long_context, recipe.place("long_context"))
        note = template_note(final, folders, where)
        if note:
            say(f"note: {where}: {note}")
        check_loads(final, folders, where, bool(layers), loads.faults)
        write_card(final, stage.name, plan.config, models, run)
    facts = {"method": plan.config.merge_method, "models": [model_label(m, run) for m in models]}
    facts["by"] = "merge/linear.py" if linear else "mergekit"
    stage.finish(final, facts | {"tensors": len(stored_tensors(final, where))}, hashes=hashes)


def _own_heads(
    plan: MergePlan, config: MergekitKeys, folders: list[Path]
) -> tuple[MergePlan, MergekitKeys, list[Path]]:
    """The same merge of models that all have a head of their own, where some tie it and others do not."""
    made = with_own_heads(folders, _scratch(plan.stage.folder), plan.where)
    if not made:
        return plan, config, folders
    for folder in made:
        say(
            f"note: {plan.where}: {folder} ties its head to the embeddings and another model does not; the result "
            "has a head of its own"
        )
    texts = {str(folder): str(view) for folder, view in made.items()}
    average = plan.linear and replace(plan.linear, folders=tuple(made.get(f, f) for f in plan.linear.folders))
    config = with_models(config, lambda model: texts.get(model, model))
    return replace(plan, linear=average), config, [made.get(folder, folder) for folder in folders]


def _scratch(output: Path) -> Path:
    """The hidden folder of models that last as long as a merge."""
    return hidden_sibling(output, "adapters")


def _linear(plan: MergePlan, config: MergekitKeys, options: MergekitOptions) -> LinearAverage | None:
    """The merge as a linear average where the short way gives mergekit's bits, else None."""
    linear = plan.linear or (None if options.concerns_mergekit else plain_linear(config))
    return linear if linear and same_as_mergekit(linear, plan.where) else None


@contextmanager
def _whole_models(config: MergekitKeys, output: Path, where: str, trusted: bool) -> Iterator[MergekitKeys]:
    """A configuration whose models are all local folders of whole models: those of the Hub are fetched, and adapters
    are merged into their bases, in a hidden folder that lasts as long as this context. The bases' own code runs only if
    it is `trusted`.
    """
    adapters = _scratch(output)
    shutil.rmtree(adapters, ignore_errors=True)  # what a killed merge left may be of other weights
    try:
        config = with_snapshots(config, where)
        adapted = [model.partition("+") for model in named_models(config) if is_adapted(model)]
        if adapted:
            check_weights(config, where)
            pairs = [(Path(base), Path(adapter)) for base, _, adapter in adapted]
            check_adapters(pairs, output.parent, where)
            for base, adapter in pairs:
                named = trained_on(adapter, where)
                if named and named.resolve() != base.resolve():
                    say(f"note: {where}: {adapter} was trained on {named}, and is merged into {base}")
        yield with_whole_models(config, adapters, where, trusted)
    finally:
        shutil.rmtree(adapters, ignore_errors=True)
