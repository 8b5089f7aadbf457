"""Pretrain the tiny backbone of the embedded sample: ``python -m tests.make_sample.backbone``.

An XLM-R (Conneau et al. 2020) in miniature, in Hugging Face layout: a Unigram vocabulary and a Transformer trained by
masked-language modelling on English and Turkish text from the grammar of ``sentences``. It reads words alone, never
tags, and no sentence of the embedded sample.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from tests.make_sample import sentences

FOLDER = Path(__file__).parent / "backbone"
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
"""The first pieces of XLM-R's vocabulary, in its order; ``MASK`` is the last piece."""

MASK = "<mask>"
TOKENIZER_CONFIG = {
    # Not XLMRobertaTokenizer: transformers 5 rebuilds that one and drops every normalizer but XLM-R's table.
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_max_length": 512,
    "model_input_names": ["input_ids", "attention_mask"],
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": MASK,
}
ALPHABET = "".join(map(chr, range(0x21, 0x7F))) + "ÂÇÉÎÖÛÜâáàãçéèêëíîïñóôõöúùûüÄäåøæßĞğİıŞşčšžńłćř–—’‘“”…«»·"
"""Letters and signs that have a piece even where no text holds them."""

PAD = SPECIALS.index("<pad>")
UNSCORED = -100
VOCABULARY = 1800
SENTENCES = 20_000
"""Sentences a language to read."""

EPOCHS = 16
BATCH = 64
LEARNING_RATE = 3e-3
MASKED = 0.2
SEED = 7


def texts(language: str, number: int = SENTENCES) -> list[str]:
    """Draw text to read, without the sentences of the embedded sample, whichever their language."""
    sample = {
        sentence.words
        for sampled in sentences.LANGUAGES
        for split in sentences.splits(sampled).values()
        for sentence in split
    }
    drawn = (sentence.words for sentence in sentences.stream(language, SEED))
    return [" ".join(words) for words in islice((words for words in drawn if words not in sample), number)]


def learn_pieces(corpus: Sequence[str]) -> list[tuple[str, float]]:
    """Find the pieces of a vocabulary and the logarithm of how often each occurs.

    The pieces are those of byte-pair encoding, for the trainer of Unigram never proposes a word that has but one form,
    however often it occurs. No piece reaches over an apostrophe.

    Args:
        corpus: Text, a sentence each; words stand between spaces.
    """
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(), pre_tokenizers.Split("'", "isolated")]
    )
    size = VOCABULARY - len(SPECIALS) - 1
    learner.train_from_iterator(
        corpus, BpeTrainer(vocab_size=size, initial_alphabet=list(ALPHABET), show_progress=False)
    )
    counts = Counter(dict.fromkeys(learner.get_vocab(), 1))
    for encoding in learner.encode_batch(corpus):
        counts.update(encoding.tokens)
    pieces = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(piece, math.log(count / counts.total())) for piece, count in pieces]


def make_tokenizer(pieces: Sequence[tuple[str, float]]) -> Tokenizer:
    """Put a vocabulary into the pipeline of XLM-R's tokenizer."""
    specials = [(piece, 0.0) for piece in SPECIALS]
    vocabulary = [*specials, *pieces, (MASK, 0.0)]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=SPECIALS.index("<unk>"), byte_fallback=False))
    # XLM-R's own normalizer is a table of 300 kB; these are the rules that sentencepiece made it from.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens([*SPECIALS, AddedToken(MASK, lstrip=True, special=True)])
    return tokenizer


def masked(pieces: Tensor, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Hide pieces as BERT does: of those chosen 80 % become ``<mask>``, 10 % another piece, 10 % stay.

    Args:
        pieces: Piece ids. *Shape:* ``(sentences, pieces)``.
        chance: The source of chance.

    Returns:
        The pieces to read and the pieces to find, ``UNSCORED`` where nothing is hidden. *Shape:* that of ``pieces``.
    """
    chosen = (torch.rand(pieces.shape, generator=chance) < MASKED) & (pieces >= len(SPECIALS))
    fate = torch.rand(pieces.shape, generator=chance)
    other = torch.randint(len(SPECIALS), VOCABULARY - 1, pieces.shape, generator=chance)
    shown = pieces.masked_fill(chosen & (fate < 0.8), VOCABULARY - 1)
    shown = torch.where(chosen & (fate >= 0.9), other, shown)
    return shown, pieces.masked_fill(~chosen, UNSCORED)


def batches(encoded: Sequence[list[int]], order: random.Random) -> Iterator[Tensor]:
    """Cut sentences, sorted by length within ranges of 50 batches, into padded batches in random order."""
    shuffled = order.sample(encoded, len(encoded))
    ranges = [sorted(shuffled[start : start + 50 * BATCH], key=len) for start in range(0, len(shuffled), 50 * BATCH)]
    cut = [stretch[start : start + BATCH] for stretch in ranges for start in range(0, len(stretch), BATCH)]
    for batch in order.sample(cut, len(cut)):
        width = max(map(len, batch))
        yield torch.tensor([row + [PAD] * (width - len(row)) for row in batch])


def pretrain(encoded: Sequence[list[int]]) -> XLMRobertaForMaskedLM:
    """Train an XLM-R in miniature to find hidden pieces.

    Args:
        encoded: The pieces of each sentence, specials included.
    """
    torch.manual_seed(SEED)
    chance, order = torch.Generator().manual_seed(SEED), random.Random(SEED)
    config = XLMRobertaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        bos_token_id=SPECIALS.index("<s>"),
        pad_token_id=PAD,
        eos_token_id=SPECIALS.index("</s>"),
    )
    model = XLMRobertaForMaskedLM(config)
    model.train(mode=False)  # No dropout: so small a model cannot learn so much text by heart.
    steps = EPOCHS * math.ceil(len(encoded) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=0.05)
    for epoch in range(EPOCHS):
        losses = []
        for pieces in batches(encoded, order):
            shown, hidden = masked(pieces, chance)
            states = model.roberta(input_ids=shown, attention_mask=(pieces != PAD).long()).last_hidden_state
            scored = hidden != UNSCORED
            loss = cross_entropy(model.lm_head(states[scored]), hidden[scored])
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {sum(losses) / len(losses):.3f}", flush=True)
    return model


def main() -> None:
    """Write the backbone's folder beside this file."""
    torch.set_num_threads(1)
    corpus = [text for language in sentences.LANGUAGES for text in texts(language)]
    tokenizer = make_tokenizer(learn_pieces(corpus))
    model = pretrain([encoding.ids for encoding in tokenizer.encode_batch(corpus)])
    model.save_pretrained(FOLDER)
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
