"""`apo-soup export`: what is refused, and the whole way where llama.cpp is installed."""

import json
import shutil
from importlib.util import find_spec

import pytest
from helpers import ROOT
from programs import run_ok

from apo_soup.errors import UserError
from apo_soup.export import program
from apo_soup.export.compare import LogprobGap, require_bearable, require_same
from apo_soup.export.packages import GGUF_PACKAGES
from apo_soup.export.program import export_model, export_stage
from apo_soup.export.request import ExportRequest

MISSING = [name for module, name in GGUF_PACKAGES.items() if find_spec(module) is None]
needs_llama = pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not installed")


@pytest.fixture
def installed(monkeypatch):
    """As where the extra is installed; what is refused here is refused before it is used."""
    monkeypatch.setattr(program, "require_export_packages", lambda: None)


@pytest.fixture
def merged(tiny_model, tmp_path):
    """A model in a run's folder."""
    return shutil.copytree(tiny_model, tmp_path / "mine" / "merged")


@pytest.mark.skipif(not MISSING, reason="the extra gguf is installed")
def test_a_missing_extra_is_one_sentence_with_the_line_that_installs_it(merged):
    with pytest.raises(UserError, match=r"expected the packages .*, got none of .*; pip install 'apo-soup\[gguf\]'"):
        export_model(ExportRequest(str(merged), "q8_0"))
    assert [file.name for file in merged.parent.iterdir()] == ["merged"]


def test_words_that_ask_for_nothing_are_refused(installed, merged, tmp_path):
    with pytest.raises(UserError, match="--gguf: expected one of f16, q8_0, q4_k_m, got q5; correct it"):
        export_model(ExportRequest(str(merged), "q5"))
    with pytest.raises(UserError, match="expected a folder or a recipe for --gguf, got owner/name of the Hub; down"):
        export_model(ExportRequest("owner/name", "f16"))
    with pytest.raises(UserError, match=r"expected a model folder, got .*nowhere, which is not there"):
        export_model(ExportRequest(str(tmp_path / "nowhere"), "f16"))


def test_what_lies_in_the_files_place_is_not_replaced(installed, merged):
    own = merged.parent / "gguf" / "merged-q8_0"
    own.mkdir(parents=True)
    (own / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"that the stage gguf made, got .*merged-q8_0 with notes\.txt"):
        export_model(ExportRequest(str(merged), "q8_0"))
    assert (own / "notes.txt").read_text() == "mine"


def test_a_file_is_up_to_date_while_model_and_request_are_the_same(installed, merged, capsys):
    folder = merged.parent / "gguf" / "merged-q8_0"
    request = ExportRequest(str(merged), "q8_0")
    stage = export_stage(request, merged, folder)
    stage.begin()
    result = stage.result_folder()
    (result / "mine-merged.gguf").write_bytes(b"GGUF")
    stage.finish(result, {})
    export_model(request)
    assert f"gguf: {folder} is up to date" in capsys.readouterr().out
    assert export_stage(ExportRequest(str(merged), "q8_0", ollama=True), merged, folder).stale()
    config = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    assert export_stage(request, merged, folder).stale()


def test_a_file_that_is_another_model_or_loses_too_much_is_refused():
    near = LogprobGap.of("think", [-1.0, -2.0], [-1.01, -1.99])
    far = LogprobGap.of("no_think", [-1.0, -2.0], [-1.8, -1.2])
    require_same([near])
    assert far.lost == 0
    with pytest.raises(
        UserError, match=r"within 0\.03 of those in transformers, got 0\.800 a token \(no_think\); serve"
    ):
        require_same([near, far])
    with pytest.raises(UserError, match="got nan a token"):
        require_same([LogprobGap.of("think", [float("nan")], [-1.0])])
    require_bearable("q4_k_m", [near, far])
    with pytest.raises(UserError, match=r"a loss of at most 0\.2 .* got 0\.900 \(think\); choose f16"):
        require_bearable("q8_0", [LogprobGap.of("think", [-1.0, -2.0], [-1.9, -2.9])])


@needs_llama
@pytest.mark.parametrize("kind", ["f16", "q8_0", "q4_k_m"])
def test_the_toy_model_becomes_a_file_that_says_the_same(kind, tmp_path):
    shutil.copytree(ROOT / "recipes" / "tiny" / "base", tmp_path / "mine" / "merged")
    words = ("-m", "apo_soup", "export", "mine/merged", "--gguf", kind, "--ollama")
    output = run_ok(*words, cwd=tmp_path)
    folder = tmp_path / "mine" / "gguf" / f"merged-{kind}"
    assert {file.name for file in folder.iterdir()} == {"Modelfile", f"mine-merged-{kind}.gguf", "manifest.json"}
    assert "the same in llama.cpp" in output
    for mode in ("think", "no_think"):
        assert f"\n{mode}: a text" in output
    content = (folder / f"mine-merged-{kind}.gguf").read_bytes()
    for file in (content, (folder / "Modelfile").read_bytes()):
        assert str(tmp_path).encode() not in file
    assert b"endgeneration" not in content
    assert "is up to date" in run_ok(*words, cwd=tmp_path)
