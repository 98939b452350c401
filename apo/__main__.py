"""`python -m apo --config FILE [--member K]`: see apo/train.py."""

from pipeline.errors import UserError, run_main
from pipeline.program import STATE_FLAG, quiet_libraries, report_state, training_stage
from pipeline.recipe import arguments, load

MEMBER_FLAG = ("--member", {"type": int, "metavar": "K", "help": "train only this soup member, counted from 1"})


def main() -> int:
    options, overrides = arguments(
        "apo", "Train the members of a soup, one model folder each.", STATE_FLAG, MEMBER_FLAG
    )
    recipe = load(options.config, "apo", overrides)
    from pipeline.members import kept_checkpoints, member_recipes

    members = member_recipes(recipe)
    if options.member is not None and not 1 <= options.member <= len(members):
        raise UserError(f"--member {options.member}: {recipe.path} has members 1 to {len(members)}")
    chosen = members if options.member is None else [members[options.member - 1]]
    planned, again = [], {}
    for member in chosen:
        stage = training_stage(member)
        kept = kept_checkpoints(member, stage)
        planned.append((member, stage, kept))
        missing = [str(k.at) for k in kept if k.stage.stale()]
        if missing:
            again[stage.name] = f"its checkpoint {', '.join(missing)} is not there or not current"
    stages = [each for _, stage, kept in planned for each in (*(k.stage for k in kept), stage)]
    todo, code = report_state(stages, options.state, again)
    if todo and not options.state:
        quiet_libraries()
        from apo.train import train
        from pipeline.training import leave, say

        for note in recipe.notes:
            say(note)
        for member, stage, kept in planned:
            if stage in todo:
                train(member, stage, kept)
        leave()
    return code


run_main(main)
