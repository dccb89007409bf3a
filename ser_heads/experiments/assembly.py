"""What a run works with: the recordings in their parts, and the model for the labels that train."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_manifests.labels import order_labels
from fins.data.audit import audit, certificate, rows_of, verdict
from fins.data.gaps import find_gaps, find_strangers
from fins.data.protocols import divide
from fins.data.splits import Parts, evenly
from fins.data.table import UtteranceTable
from fins.progress import SILENT, Watch
from ser_heads.experiments.config import RunConfig, refuse_without_effect
from ser_heads.model import ModelEntry, SerModel
from ser_heads.models import build, get_entry
from ser_heads.training.cache import StoreCache
from ser_heads.training.datasets import StoreDataset

SETTLING = 64  # training recordings by which options are settled


@dataclass(frozen=True)
class Assembly:
    """What a run works with: all that its configuration leads to.

    parts : part → places in the table; cache : of frames, beside the stores
    """

    config: RunConfig
    entry: ModelEntry
    model: SerModel
    table: UtteranceTable
    parts: Parts
    cache: StoreCache
    device: torch.device

    def dataset(self, places: NDArray[np.int64]) -> StoreDataset:
        """Recordings at places of the table; those of words that the model doesn't know are no item."""
        emotions = self.table.rows["emotion"].to_numpy(dtype=object)[places]
        labels = (*self.model.labels, *sorted(set(emotions) - set(self.model.labels)))
        recipe = self.config.recipe
        return StoreDataset(self.table, places, labels, "voices" if recipe is None else recipe.copying)

    @property
    def gaps(self) -> list[str]:
        """A sentence for each emotion that a part lacks, and on unknown speakers, with what to do."""
        rows, parts = self.table.rows, self.parts
        return [*find_gaps(rows, parts, self.config.division.emotions), *find_strangers(rows, parts)]

    @property
    def title(self) -> str:
        config = self.config
        return f"{config.model}, {config.division.fold or config.division.protocol}, seed {config.seed}"


def assemble(config: RunConfig, table: UtteranceTable, watch: Watch = SILENT) -> Assembly:
    """Divide the recordings, and build the model for the labels that train."""
    entry = get_entry(config.model)
    parts = divide(table.rows, config.division, config.seed)
    labels = order_labels(table.rows["emotion"].iloc[parts["train"]])
    options = settle_options(config, table, parts["train"])
    torch.manual_seed(config.seed)
    model = build(entry, options, labels)
    refuse_without_effect(config, model)
    pretrained = any(True for _ in model.frontend.pretrained())
    assert config.recipe is not None
    if config.recipe.frozen_epochs == 0 and entry.fit is None and not pretrained:
        raise ValueError(f"{config.model} has no FINs to finetune: --frozen-epochs is at least 1")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Assembly(config, entry, model, table, parts, StoreCache(watch), device)


def settle_options(config: RunConfig, table: UtteranceTable, train: NDArray[np.int64]) -> Any:
    """The model's options, with what training recordings choose."""
    signals = (table.signal(place) for place in evenly(train, SETTLING))
    return get_entry(config.model).settle(config.options, signals)


def what_is_there(config: RunConfig, model: SerModel, table: UtteranceTable) -> dict[str, Any]:
    """What a run's paths lead to, by what is in the files: a run of before may have met others there."""
    split = config.division.split
    facts: dict[str, Any] = {
        "fin_weights": model.frontend.digest() if any(True for _ in model.frontend.pretrained()) else "",
        "stores_hold": table.facts(),
    }
    if split is not None:
        facts["split_holds"] = hashlib.sha256(split.read_bytes()).hexdigest()
    return facts


def certify(assembly: Assembly) -> dict[str, Any]:
    """The audit of the division; ValueError if it breaks what its protocol promises."""
    rows = rows_of(assembly.table.rows, assembly.parts)
    never_shares = assembly.config.division.never_shares()
    certified = certificate(rows, audit(rows, None, never_shares), False, never_shares)
    if certified["broken"]:
        raise ValueError(
            f"the division breaks what its protocol promises. {verdict(certified)} Choose another protocol, "
            "or mend the split"
        )
    return certified
