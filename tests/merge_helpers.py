"""Small things that several tests of merging need."""

import json

from helpers import state_dict
from programs import program


def refused(*words):
    """What `python WORDS` says when it refuses to go on."""
    result = program(*words)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def averaged(run, members=(1, 2, 3), soup=0.9):
    """The float64 average of the members and mid, tensor by tensor."""
    folders = [state_dict(run / "apo" / str(k)) for k in members]
    mid = state_dict(run / "mid")
    return {
        name: soup * sum(m[name].double() for m in folders) / len(members) + (1 - soup) * mid[name].double()
        for name in mid
    }


def set_config(folder, **changes):
    """Change keys of a model folder's config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


PAIR = {
    "merge_method": "linear",
    "dtype": "float32",
    "models": [{"model": m, "parameters": {"weight": w}} for m, w in (("soup", 0.9), ("mid", 0.1))],
}
