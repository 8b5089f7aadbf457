import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification

from tests.model.tiny import Fitted, fit, pretrained_backbone, quiet_trainer, write_split
from xner.data.datamodule import PanxDataModule
from xner.data.panx import Sentences, Split
from xner.model.classifier import TokenClassifier
from xner.model.vocabulary import CompactEmbedding, compact, mapped_matrix, restore
from xner.transfer.lineage import Lineage
from xner.transfer.run import write_model

EMBEDDING = "roberta.embeddings.word_embeddings.weight"

NO_LINEAGE: Lineage = {"start": "tests", "episodes": []}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's backbone with a head, without dropout."""
    return pretrained_backbone(tmp_path_factory.mktemp("backbone"))


def assert_same_training(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], used: Tensor) -> None:
    """Equal to the bit but for rows of pieces that are not in use, which are equal to 1e-6 of themselves."""
    assert found.keys() == expected.keys()
    absent = torch.ones(len(expected[EMBEDDING]), dtype=torch.bool)
    absent[used] = False
    assert absent.any()
    assert torch.equal(found[EMBEDDING][used], expected[EMBEDDING][used])
    torch.testing.assert_close(found[EMBEDDING][absent], expected[EMBEDDING][absent], rtol=1e-6, atol=0)
    others = expected.keys() - {EMBEDDING}
    assert [name for name in others if not torch.equal(found[name], expected[name])] == []


def test_plain_loop(backbone: Path) -> None:
    """A hundred clipped AdamW steps with decay leave the same network whether all rows are trained or those in use."""
    whole = AutoModelForTokenClassification.from_pretrained(backbone).train()
    compacted = copy.deepcopy(whole)
    used = torch.tensor([0, 1, 2, 3, *range(5, 1799, 7)])
    compact(compacted, used)
    generator = torch.Generator().manual_seed(0)
    losses: dict[str, list[float]] = {}
    batches = [used[4 + torch.randint(len(used) - 4, (8, 12), generator=generator)] for _ in range(100)]
    for name, network in {"whole": whole, "compacted": compacted}.items():
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.1)
        losses[name] = []
        for pieces in batches:
            loss = network(input_ids=pieces, labels=pieces % 7).loss
            loss.backward()
            assert nn.utils.clip_grad_norm_(network.parameters(), 1.0) > 0
            optimizer.step()
            optimizer.zero_grad()
            losses[name].append(loss.item())
    assert losses["whole"] == losses["compacted"]
    assert losses["whole"][-1] < losses["whole"][0] / 2
    before = AutoModelForTokenClassification.from_pretrained(backbone).get_input_embeddings().weight
    restore(compacted)
    assert_same_training(dict(compacted.named_parameters()), dict(whole.named_parameters()), used)
    after = compacted.get_input_embeddings().weight
    torch.testing.assert_close(after[4], before[4] * (1 - 1e-4) ** 100, rtol=1e-5, atol=0)
