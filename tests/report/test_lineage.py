"""The lineage: hashes of evaluations and of manifests that match each other."""

import json

from report_helpers import content_hash

from apo_soup.pages.drawing import Words
from apo_soup.report.lineage import boxes_and_arrows, lineage_of_run, lineage_section
from apo_soup.report.run_files import read_run


def test_an_arrow_leads_from_each_parent_by_its_hash(demo_run):
    lineage = lineage_of_run(read_run(demo_run))
    assert list(lineage.hashes) == ["base", "mid", "sft", "apo/1", "apo/2", "apo/3", "soup", "merged"]
    assert all(found == content_hash(name) for name, found in lineage.hashes.items())
    assert lineage.others == []
    boxes, arrows = boxes_and_arrows(lineage, "merged")
    assert [box.level for box in boxes] == [0, 1, 2, 3, 3, 3, 4, 5]
    assert {(a.start, a.end, a.word) for a in arrows} >= {
        ("base", "mid", ""), ("sft", "apo/2", ""), ("apo/3", "soup", ""),
        ("soup", "merged", "0.85"), ("mid", "merged", "0.15"),
    }  # fmt: skip
    assert [box.name for box in boxes if box.style] == ["merged"]
    across = lineage_section(read_run(demo_run)).blocks[0].across
    assert content_hash("soup")[:10] in [mark.text for mark in across.marks if isinstance(mark, Words)]


def test_a_parent_that_is_no_longer_the_one_evaluated_is_told(demo_run):
    file = demo_run / "mid" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["inputs"]["model"] = "e" * 64
    manifest["ran_with"] = {"model_name_or_path": "/home/me/other"}
    file.write_text(json.dumps(manifest))
    lineage = lineage_of_run(read_run(demo_run))
    assert lineage.hashes["other"] == "e" * 64, (
        "a model that nobody evaluated has a box of its own, without its folders"
    )
    manifest["ran_with"] = {"model_name_or_path": "base"}
    file.write_text(json.dumps(manifest))
    (told,) = lineage_of_run(read_run(demo_run)).others
    assert told.startswith("mid was made from another base (model eeeeeeeeee) than the one evaluated here (model 00")


def test_members_by_the_dozen_share_a_box(demo_run):
    soup = json.loads((demo_run / "soup" / "manifest.json").read_text())
    for number in range(4, 13):
        (demo_run / "apo" / str(number)).mkdir()
        member = json.loads((demo_run / "apo" / "1" / "manifest.json").read_text()) | {"stage": f"apo/{number}"}
        (demo_run / "apo" / str(number) / "manifest.json").write_text(json.dumps(member))
        soup["inputs"][f"model {number} apo/{number}"] = f"{number:064}"
    (demo_run / "soup" / "manifest.json").write_text(json.dumps(soup))
    boxes, arrows = boxes_and_arrows(lineage_of_run(read_run(demo_run)), "merged")
    assert [box.name for box in boxes] == ["base", "mid", "sft", "apo, 12 models", "soup", "merged"]
    assert sum(arrow.end == "soup" for arrow in arrows) == 1
