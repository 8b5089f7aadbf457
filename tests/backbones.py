"""Tiny mBERT and mDeBERTa with random weights, in the files that the hub has of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from sentencepiece import SentencePieceTrainer
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    DebertaV2Config,
    DebertaV2Model,
    DebertaV2Tokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from xner.data.sources import Split

FAMILIES = ("mbert", "mdeberta", "mdeberta of the hub")
"""mBERT; mDeBERTa; and mDeBERTa as the hub has it, with a SentencePiece model alone and weights of half precision."""

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
# Weights so large that every piece matters, and no dropout.
PLAIN = {"initializer_range": 0.2, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def make(family: str, folder: Path) -> Path:
    """Write one of the families; its tokenizer is trained on the embedded sample."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    if family == "mbert":
        config: PreTrainedConfig = BertConfig(vocab_size=1000, pad_token_id=0, **SIZES, **PLAIN)
        _train(BertTokenizer(do_lower_case=False), folder)
        BertModel(config, add_pooling_layer=False).save_pretrained(folder)
        return folder
    # Options as microsoft/mdeberta-v3-base has them; the vocabulary is larger than the tokenizer's.
    config = DebertaV2Config(  # type: ignore[call-arg] # older options, which it keeps
        vocab_size=1024,
        pad_token_id=0,
        type_vocab_size=0,
        relative_attention=True,
        max_relative_positions=-1,
        position_buckets=32,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type="p2c|c2p",
        position_biased_input=False,
        **SIZES,
        **PLAIN,
    )
    network = DebertaV2Model(config)
    if family == "mdeberta":
        _train(DebertaV2Tokenizer(), folder)
        network.save_pretrained(folder)
        return folder
    SentencePieceTrainer.train(
        sentence_iterator=_texts(),
        model_prefix=str(folder / "spm"),
        vocab_size=1000,
        **{f"{name}_id": number for number, name in enumerate(("pad", "bos", "eos", "unk"))},
        **{f"{name}_piece": f"[{piece}]" for name, piece in zip(("pad", "bos", "eos", "unk"), PIECES, strict=True)},
        minloglevel=2,
    )
    (folder / "spm.vocab").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    config.save_pretrained(folder)
    weights = {f"deberta.{name}": weight.half() for name, weight in network.state_dict().items()}
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


PIECES = ("PAD", "CLS", "SEP", "UNK")
"""The first pieces of mDeBERTa's vocabulary; [MASK] is behind all others."""


def _texts() -> Iterator[str]:
    for language in ("en", "tr"):
        yield from map(" ".join, Split("sample", language, "train").sentences.words)


def _train(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    tokenizer.train_new_from_iterator(_texts(), vocab_size=1000).save_pretrained(folder)
