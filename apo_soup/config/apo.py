"""The file of preference training: `apo.yaml`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import MinLen
from pydantic import BeforeValidator

from apo_soup.config.in_words import as_written
from apo_soup.config.keys import AboveZero, Flag, Table, in_list, key
from apo_soup.config.library_keys import with_library_keys
from apo_soup.config.loss_keys import COUPLING, loss_faults
from apo_soup.config.stage_file import Fault, Remark
from apo_soup.config.training import TrainingFile

LossName = Literal[
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
]  # fmt: skip
# YAML's own types: a step is a whole number, a share is a fraction.
Checkpoints = Annotated[list[Any], BeforeValidator(in_list, json_schema_input_type=Any)]
# The highest scale that anybody gives on purpose.
HIGHEST_BETA = 10


@with_library_keys("DPOConfig", "ModelConfig")
class ApoFile(TrainingFile):
    """Preference training of the members of a soup."""

    kind: ClassVar[str] = "apo"

    members: Annotated[list[Table], MinLen(1)] | None = key(None, "overrides of this file, a mapping a soup member")
    checkpoints: Checkpoints | None = key(
        None, "steps (`50`) or shares of the steps (`0.5`) kept as soup members of their own, in `apo/1-at-50`"
    )
    packed_pairs: Flag | None = key(
        None, "`false` trains on TRL's stock trainer; without the key that happens only where it must"
    )
    loss_type: Annotated[
        list[LossName], MinLen(1), BeforeValidator(in_list, json_schema_input_type=LossName | list[LossName])
    ] = key(["sigmoid"], "loss, or losses", main=True)
    beta: AboveZero = key(0.1, "scale of the log-ratios to the reference", main=True)
    learning_rate: AboveZero = key(1e-6, "peak learning rate", main=True)

    if TYPE_CHECKING:
        # As in TrainingFile.
        discopop_tau: float
        f_alpha_divergence_coef: float
        f_divergence_type: str
        label_smoothing: float
        label_smoothing_factor: float
        loss_weights: list[Any] | None
        precompute_ref_log_probs: bool
        ref_model_mixup_alpha: float
        ref_model_sync_steps: int
        sync_ref_model: bool
        use_weighting: bool

    def deciding_values(self) -> dict[str, Any]:
        """As `StageFile.deciding_values`: members and kept steps are stages with fingerprints of their own."""
        return {k: v for k, v in super().deciding_values().items() if k not in ("members", "checkpoints")}

    @property
    def packs(self) -> bool:
        return self.packed_pairs is not False

    @property
    def settled_elsewhere(self) -> frozenset[str]:
        settled = super().settled_elsewhere
        return settled - {"per_device_train_batch_size"} if COUPLING & set(self.loss_type) else settled

    def remarks(self) -> Iterator[Remark]:
        yield from super().remarks()
        if self.beta > HIGHEST_BETA:
            told = f"{self.beta:g} is above {HIGHEST_BETA}, which holds answers to the reference; usual are 0.01 to 1"
            yield Remark("beta", told)

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.overflow == "split":
            yield Fault("overflow", "expected truncate or drop, since a pair cannot be split, got split; write drop")
        yield from loss_faults(self)
        for number, at in enumerate(self.checkpoints or []):
            whole = isinstance(at, int) and not isinstance(at, bool) and at >= 1
            if not whole and not (isinstance(at, float) and 0 < at < 1):
                told = f"expected a step's number, or a share of the steps between 0 and 1, got {as_written(at)}"
                yield Fault(f"checkpoints.{number}", f"{told}; write one such as 50 or 0.5, or remove it")
            elif at in (self.checkpoints or [])[:number]:
                yield Fault(f"checkpoints.{number}", f"expected each checkpoint once, got {at} twice; keep one")
            elif self.max_steps and 0 < self.max_steps <= (
                at if isinstance(at, int) else round(at * self.max_steps) or 1
            ):
                told = f"expected steps before the last one, {self.max_steps}, got {at}; leave it out, the end is a "
                yield Fault("checkpoints", f"{told}member anyway", ("max_steps",))
