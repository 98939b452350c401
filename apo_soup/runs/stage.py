"""A stage's folder: absent or whole, with a manifest that says what made it.

A stage works in a hidden sibling (`.sft.partial`) and renames the finished folder into place. The sibling remembers
the fingerprint it was begun with, so a killed run goes on from its last checkpoint and a changed one starts anew.
"""

import contextlib
import glob
import os
import platform
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from apo_soup.config.cosmetic import with_cosmetic_of, without_cosmetic
from apo_soup.config.kinds import kind_of_stage
from apo_soup.config.load import file_model
from apo_soup.errors import UserError, told_by_disk
from apo_soup.hashing import hash_value
from apo_soup.progress import say, warn
from apo_soup.runs.durable import files_below, give_rights_of, sync_tree
from apo_soup.runs.manifest import (
    BEGUN,
    MANIFEST,
    RESULT,
    StageManifest,
    begun_mark,
    differences,
    git_commit,
    holds_work,
    other_versions,
    peak_memory_mb,
    process_count,
    read_manifest,
    versions,
    write_begun_mark,
    write_json,
)
from apo_soup.runs.model_files import (
    NOBODYS,
    REWRITTEN,
    changed_file,
    file_name,
    file_record,
    model_files,
    strange_files,
)
from apo_soup.runs.put_in_place import hidden_sibling, replace_folder
from apo_soup.runs.renamed_rows import with_names_of
from apo_soup.runs.secrets import redacted, without_secrets
from apo_soup.runs.split import with_product, with_split_of
from apo_soup.stops import STOPS


@dataclass
class Stage:
    """One output folder and what should be in it.

    `config` holds the keys that were given and can change the result, never defaults, so that a key added later makes
    no folder stale; `inputs` are content hashes by label.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    inputs: dict[str, str]
    started: float = field(default_factory=time.monotonic)
    # Words of the command line that decide the result, for the manifest.
    arguments: list[str] = field(default_factory=list)
    # What it is made of, to be told of where it is no longer as its own stage made it.
    reads: Sequence[tuple[str, Path]] = ()
    # Packages of which it was begun with another version than it goes on with, and that version.
    _begun_with: dict[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of name, configuration and inputs; a folder is current while its manifest holds the same."""
        return self._fingerprint_with(self.config, self.inputs)

    def _fingerprint_with(self, config: dict[str, Any], inputs: dict[str, str]) -> str:
        return hash_value({"stage": self.name, "config": config, "inputs": inputs})

    def _is_of_this(self, record: dict[str, Any]) -> bool:
        """Whether a manifest or the mark of a begun folder is of this work. Earlier releases hashed the cosmetic keys
        that stand inside other keys too; earlier files may have told how the global batch comes about, and rows may
        have lain elsewhere.
        """
        if record["fingerprint"] == self.fingerprint:
            return True
        kind = kind_of_stage(self.name)
        if kind is None:
            return False
        model = file_model(kind)
        config, inputs = with_names_of(self.config, self.inputs, record)
        split = with_split_of(config, record, model)
        before = (config, split, with_cosmetic_of(split, record["config"], model))
        return any(record["fingerprint"] == self._fingerprint_with(one, inputs) for one in before)

    def _changes_since(self, record: dict[str, Any]) -> list[str]:
        """What changed since a manifest or a mark was written, without what decides nothing."""
        kind = kind_of_stage(self.name)
        config = record["config"]
        if kind is not None:
            config = without_cosmetic(config, file_model(kind))
            config = with_product(config, record, self.config, file_model(kind))
        return differences({**record, "config": config}, self.config, self.inputs)

    @property
    def partial(self) -> Path:
        """The folder that the stage works in until it is whole."""
        return hidden_sibling(self.folder, "partial")

    def stale(self) -> str | None:
        """Why the stage must run, in a few words, or None when its folder is whole and current.

        Raises:
            UserError: a manifest cannot be read; or the stage must run, and what its checkpoints are for is not known.
        """
        manifest = read_manifest(self.folder, StageManifest)
        if manifest is None:
            begun = self._begun_here()
            if begun is None:
                return "it has not run yet"
            if self._is_of_this(begun):
                return "it was begun and not finished"
            changes = "; ".join(self._changes_since(begun))
            begins = "goes on as it was before" if self._aside(self._mark).is_dir() else "starts anew"
            return f"it was begun otherwise ({changes}) and {begins}; its checkpoints move to {self._aside(begun)}"
        damaged = changed_file(self.folder, manifest)
        reasons = [f"{damaged} since it was made"] if damaged else []
        if not self._is_of_this(manifest):
            reasons += self._changes_since(manifest) or ["a setting that is not shown changed, or the stage's name"]
        if reasons:
            self._begun_here()
        return "; ".join(reasons) or None

    def processes_note(self) -> str | None:
        """What is to be said where the whole folder was made by another number of processes than this launch has, and
        the configuration leaves the global batch to that number; None elsewhere. It makes nothing stale: who asks for
        the state has no launch.

        Raises:
            UserError: the folder's manifest is cut, empty or of another form.
        """
        made = (read_manifest(self.folder) or {}).get("processes")
        if made in (None, process_count()) or self.config.get("global_batch_size") is not None:
            return None
        return (
            f"{self.name}: {self.folder} was made by a launch of {made} and this one has {process_count()} processes, "
            "whose global batch is another; give global_batch_size, or move that folder away to make it anew"
        )

    @property
    def _mark(self) -> dict[str, Any]:
        """What tells in a begun folder for which work it is."""
        return {"fingerprint": self.fingerprint, "arguments": self.arguments}

    def _aside(self, begun: dict[str, Any]) -> Path:
        """Where what was begun so steps aside for other work."""
        return hidden_sibling(self.folder, f"replaced-{begun['fingerprint'][:6]}")

    def _remove_superseded(self) -> None:
        """Remove what stepped aside for this work. A try with arguments of the command line supersedes nothing but
        other tries with the same: days of the training that the file asks for may lie there.
        """
        for aside in self.folder.parent.glob(f".{glob.escape(self.folder.name)}.replaced*"):
            if aside.name.endswith(".removed"):
                continue
            with self._told_if_unknown():
                if (begun_mark(aside) or {}).get("arguments", []) == self.arguments:
                    _remove_begun(aside)

    @contextlib.contextmanager
    def _told_if_unknown(self) -> Iterator[None]:
        """Leave what was begun for nobody knows what where it is, and say so."""
        try:
            yield
        except UserError as error:
            warn(f"{self.name}: {error}; nothing there was used or removed")

    def _begun_here(self) -> dict[str, Any] | None:
        """What the partial folder was begun with, or None; what stepped aside for this work must be known too.

        Raises:
            UserError: as `begun_mark`.
        """
        begun_mark(self._aside(self._mark))
        return begun_mark(self.partial)

    @property
    def begun_as(self) -> str:
        """What tells this training from an earlier one of the same stage: a few letters that stay when it goes on.

        Raises:
            UserError: work lies there whose mark cannot be read.
        """
        return str((begun_mark(self.partial) or {}).get("begun_as") or self.fingerprint[:6])

    def begin(self) -> Path:
        """The partial folder. What was begun with another fingerprint is moved aside, and back when it is asked for
        again.

        Raises:
            UserError: it was begun with another number of processes, which would change the global batch or has
                DeepSpeed's checkpoints, or it is not known with what; the stage's folder is a link, whose place a
                folder would take, or holds files that the stage did not make; or the disk refuses it.
        """
        self.started = time.monotonic()
        if self.folder.is_symlink():
            raise UserError(
                f"{self.folder}: expected a folder that can be replaced, got a link to {self.folder.resolve()}; give "
                "that one as output_dir, or link the folder above it"
            )
        with told_by_disk(self.name, self.partial):
            self._require_own_files()
            return self._begin()

    def _require_own_files(self) -> None:
        manifest = read_manifest(self.folder)
        strange = strange_files(self.folder, manifest) if manifest else []
        if strange:
            more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
            raise UserError(
                f"{self.folder}: expected to replace what the stage {self.name} made, got {strange[0]}{more} in it, "
                "which it did not make; move that elsewhere, or remove it"
            )

    def _keep_what_came(self) -> None:
        """Rename a folder into which somebody put files while this one was made, which may have taken days."""
        manifest = read_manifest(self.folder) if self.folder.is_dir() else None
        if manifest:
            found = strange_files(self.folder, manifest)
        elif self.folder.is_dir():
            found = [file_name(file, self.folder) for file in files_below(self.folder) if file.name not in NOBODYS]
        else:
            found = [self.folder.name] if self.folder.exists() else []
        if not found:
            return
        number = next(n for n in count(1) if not self.folder.with_name(f"{self.folder.name}.found-{n}").exists())
        kept = self.folder.rename(self.folder.with_name(f"{self.folder.name}.found-{number}"))
        warn(f"{self.name}: {found[0]} was put into {self.folder} while it was made; it is kept in {kept}")

    def _begin(self) -> Path:
        processes = process_count()
        begun = self._begun_here()
        if begun and not self._is_of_this(begun):
            aside = self._aside(begun)
            begun_mark(aside)
            shutil.rmtree(aside, ignore_errors=True)
            self.partial.rename(aside)
        before = self._aside(self._mark)
        if not self.partial.exists() and (begun_mark(before) or {}).get("fingerprint") == self.fingerprint:
            before.rename(self.partial)
        begun = begun_mark(self.partial)
        if begun and begun["processes"] != processes:
            self._take_over(begun["processes"], processes)
        self.partial.mkdir(parents=True, exist_ok=True)
        written = self._mark | {"config": redacted(self.config), "inputs": self.inputs, "processes": processes}
        written["begun_as"] = (begun or {}).get("begun_as") or uuid4().hex[:6]
        goes_on = begun if begun and holds_work(self.partial) else {}
        self._begun_with, now = other_versions(goes_on), versions()
        if self._begun_with:
            packages = self._begun_with.items()
            told = ", ".join(f"{name} {was} (now {now.get(name, 'not installed')})" for name, was in packages)
            warn(f"{self.name}: begun with {told}; what comes out may differ from what one version makes of it all")
        written["versions"] = goes_on.get("versions") or now
        write_begun_mark(self.partial, written)
        return self.partial

    def _take_over(self, before: int, now: int) -> None:
        """Say that work goes on which was begun on another number of processes, at the same global batch.

        Raises:
            UserError: the global batch would be another, or the checkpoints are of the processes that wrote them.
        """
        batch = self.config.get("global_batch_size")
        parts = next(self.partial.glob("checkpoint-*/global_step*"), None)
        if batch is not None and parts is None:
            say(f"{self.name}: begun on {before} processes, goes on on {now}, with the same global batch of {batch}")
            return
        why = (
            "launch with as many again, write global_batch_size into the file, which holds on any number,"
            if batch is None
            else f"launch with as many again, since DeepSpeed's {parts} is of as many,"
        )
        raise UserError(
            f"{self.partial}: {self.name}: expected {before} processes, as it was begun with, got {now}; {why} or "
            "remove that folder to start anew"
        )

    def result_folder(self) -> Path:
        """An empty folder in the partial one, for what `finish` is to put into place: what a killed run left of its own
        must not come with it.

        Raises:
            UserError: the disk refuses it.
        """
        with told_by_disk(self.name, self.partial):
            result = self.partial / RESULT
            if result.exists():
                shutil.rmtree(result)
            result.mkdir()
            return result

    def tidy(self) -> None:
        """Remove what a run left that was stopped when its folder already stood in its place; called for a folder that
        is up to date. What was begun otherwise stays: it may be days of another training.

        Raises:
            UserError: work lies there whose mark cannot be read.
        """
        with self._told_if_unknown():
            begun = begun_mark(self.partial)
            if begun is None or self._is_of_this(begun):
                _remove_begun(self.partial)
                self._remove_superseded()
        shutil.rmtree(hidden_sibling(self.folder, "old"), ignore_errors=True)

    def finish(
        self,
        result: Path,
        metrics: dict[str, Any],
        extra: dict[str, Any] | None = None,
        hashes: dict[str, str] | None = None,
    ) -> None:
        """Write the manifest into `result`, a folder inside the partial one, and rename it into place.

        Args:
            metrics: the stage's own figures.
            extra: further entries of the manifest, such as what the stage ran with.
            hashes: SHA-256 of weights that are known to be finite, by file name; they are not read again.

        Raises:
            StopAsked: a signal asked for it meanwhile; the folder is whole.
            UserError: the disk refuses a file, or an earlier manifest is damaged.
        """
        with told_by_disk(self.name, result), STOPS.deferred(f"{self.name} is put into its place"):
            self._put_into_place(result, metrics, extra or {}, hashes or {})
        STOPS.end_if_asked(f" when {self.name} was whole")

    def _put_into_place(
        self, result: Path, metrics: dict[str, Any], extra: dict[str, Any], known: dict[str, str]
    ) -> None:
        outputs = {(name := file_name(f, result)): file_record(f, known.get(name)) for f in model_files(result)}
        manifest = {
            "stage": self.name,
            "fingerprint": self.fingerprint,
            "config": redacted(self.config),
            "inputs": self.inputs,
            "arguments": self.arguments,
            "outputs": outputs,
            "files": {
                name: file_record(file)
                for file in files_below(result)
                if (name := file_name(file, result)) not in outputs and file.name not in REWRITTEN
            },
            "metrics": metrics,
            "seconds": round(time.monotonic() - self.started, 2),
            "peak_memory_mb": peak_memory_mb(),
            "processes": process_count(),
            "command": shlex.join(without_secrets([Path(sys.executable).name, *sys.orig_argv[1:]])),
            "versions": versions(),
            **({"begun_with_versions": self._begun_with} if self._begun_with else {}),
            "git_commit": git_commit(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            **extra,
        }
        write_json(result / MANIFEST, manifest)
        give_rights_of(result / MANIFEST, result)
        sync_tree(result)
        self._keep_what_came()
        replace_folder(result, self.folder)
        _remove_begun(self.partial)
        self._remove_superseded()


def _remove_begun(begun: Path) -> None:
    """Remove a begun folder, its mark last, so that what a kill leaves of it is known for what it is. Where the disk
    refuses, the rest stays.
    """
    with contextlib.suppress(OSError):
        for entry in begun.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != BEGUN:
                entry.unlink()
        shutil.rmtree(begun)
