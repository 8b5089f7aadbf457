"""Pretrain the tiny backbone of the embedded sample: ``python -m tests.make_sample.backbone``.

A small XLM-R (Conneau et al. 2020) in Hugging Face layout: a Unigram vocabulary and a Transformer trained by masked
language modelling on English and Turkish text from the grammar of ``sentences``. The text has no tags and contains no
sentence of the embedded sample.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from tests.make_sample import sentences
from xner.data.sources import SAMPLE

FOLDER = SAMPLE / "backbone"
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
"""The first pieces of XLM-R's vocabulary, in its order; the last piece is ``MASK``."""

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
"""Characters that have a piece even if the text does not contain them."""

PAD = SPECIALS.index("<pad>")
UNSCORED = -100
VOCABULARY = 1800
SENTENCES = 20_000
"""Sentences per language in the pretraining text."""

EPOCHS = 16
BATCH = 64
LEARNING_RATE = 3e-3
MASKED = 0.2
SEED = 7


def texts(language: str, number: int = SENTENCES) -> list[str]:
    """Generate the pretraining text of a language, without the sentences of the embedded sample."""
    sample = {
        sentence.words
        for sampled in sentences.LANGUAGES
        for split in sentences.splits(sampled).values()
        for sentence in split
    }
    drawn = (sentence.words for sentence in sentences.stream(language, SEED))
    return [" ".join(words) for words in islice((words for words in drawn if words not in sample), number)]


def learn_pieces(corpus: Sequence[str]) -> list[tuple[str, float]]:
    """Learn the pieces of a vocabulary and their log-probabilities.

    The pieces are those of byte-pair encoding, because the Unigram trainer never proposes a frequent word that has only
    one form. No piece contains an apostrophe inside.

    Args:
        corpus: Sentences, with words separated by spaces.
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
    """Build a tokenizer with the pipeline of XLM-R from a vocabulary."""
    specials = [(piece, 0.0) for piece in SPECIALS]
    vocabulary = [*specials, *pieces, (MASK, 0.0)]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=SPECIALS.index("<unk>"), byte_fallback=False))
    # XLM-R's own normalizer is a table of 300 kB, which sentencepiece generated from these rules.
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


def masked(pieces: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mask pieces as BERT does: of the chosen ones, 80 % become ``<mask>``, 10 % a random piece, 10 % stay.

    Args:
        pieces: Piece ids. *Shape:* ``(sentences, pieces)``.
        generator: Random number generator.

    Returns:
        The masked pieces and the labels, ``UNSCORED`` where no piece was chosen. *Shape:* that of ``pieces``.
    """
    chosen = (torch.rand(pieces.shape, generator=generator) < MASKED) & (pieces >= len(SPECIALS))
    draw = torch.rand(pieces.shape, generator=generator)
    other = torch.randint(len(SPECIALS), VOCABULARY - 1, pieces.shape, generator=generator)
    shown = pieces.masked_fill(chosen & (draw < 0.8), VOCABULARY - 1)
    shown = torch.where(chosen & (draw >= 0.9), other, shown)
    return shown, pieces.masked_fill(~chosen, UNSCORED)


def batches(encoded: Sequence[list[int]], order: random.Random) -> Iterator[Tensor]:
    """Yield padded batches in random order; sentences are sorted by length within chunks of 50 batches."""
    shuffled = order.sample(encoded, len(encoded))
    chunks = [sorted(shuffled[start : start + 50 * BATCH], key=len) for start in range(0, len(shuffled), 50 * BATCH)]
    made = [chunk[start : start + BATCH] for chunk in chunks for start in range(0, len(chunk), BATCH)]
    for batch in order.sample(made, len(made)):
        width = max(map(len, batch))
        yield torch.tensor([row + [PAD] * (width - len(row)) for row in batch])


def pretrain(encoded: Sequence[list[int]]) -> XLMRobertaForMaskedLM:
    """Train a small XLM-R by masked language modelling.

    Args:
        encoded: The piece ids of each sentence, special tokens included.
    """
    torch.manual_seed(SEED)
    generator, order = torch.Generator().manual_seed(SEED), random.Random(SEED)
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
    model.train(mode=False)  # No dropout: such a small model cannot overfit this much text.
    steps = EPOCHS * math.ceil(len(encoded) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1, pct_start=0.05)
    for epoch in range(EPOCHS):
        losses = []
        for pieces in batches(encoded, order):
            shown, hidden = masked(pieces, generator)
            states = model.roberta(input_ids=shown, attention_mask=(pieces != PAD).long()).last_hidden_state
            scored = hidden != UNSCORED
            loss = cross_entropy(model.lm_head(states[scored]), hidden[scored])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1} of {EPOCHS}: loss {sum(losses) / len(losses):.3f}", flush=True)
    return model


def main() -> None:
    """Write the backbone's folder into the package."""
    torch.set_num_threads(1)
    corpus = [text for language in sentences.LANGUAGES for text in texts(language)]
    tokenizer = make_tokenizer(learn_pieces(corpus))
    model = pretrain([encoding.ids for encoding in tokenizer.encode_batch(corpus)])
    model.save_pretrained(FOLDER)
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
