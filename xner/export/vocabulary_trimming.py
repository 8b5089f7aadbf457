"""Trim a model's vocabulary to a text: the pieces of the tokenizer, and their rows of the embedding.

A few languages use a small part of a multilingual vocabulary, whose embedding is most of a network's parameters
(Abdaoui et al. 2020).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xner.backbone.tokenizer import load_tokenizer
from xner.backbone.weights import load_network, save_network
from xner.errors import RunError, UserError, quoted
from xner.lineage import copy_history
from xner.words import split_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch.nn import Embedding
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_BLOCK = 4096
"""Number of texts that are encoded at once."""

_SPECIAL = ("pad", "bos", "eos", "cls", "sep", "mask", "unk")
"""Special tokens whose ids a network's configuration may have."""


class Trimmed(NamedTuple):
    """The size of a model before and after its vocabulary was trimmed.

    Attributes:
        pieces: Number of pieces that the embedding has, before and after.
        parameters: Number of parameters of the network, before and after.
    """

    pieces: tuple[int, int]
    parameters: tuple[int, int]


def texts_of(words: Sequence[str]) -> Iterator[str]:
    """Yield every text that a sentence is encoded as: its words, all of it, and the words that ``Tagger`` finds in it.

    >>> [*texts_of(["Ankara", "(1923)"])]
    ['Ankara', '(1923)', 'Ankara (1923)', 'Ankara', '(', '1923', ')']
    """
    text = " ".join(words)
    yield from words
    yield text
    yield from (word.text for word in split_words(text))


def check_trimmable(backbone: str) -> None:
    """Check that a backbone's tokenizer has a vocabulary of a type that can be trimmed.

    Raises:
        UserError: If it has another.
    """
    kind = _content_of(load_tokenizer(backbone))["model"]["type"]
    if kind not in ("Unigram", "WordPiece"):
        raise UserError(
            f"model.backbone={backbone!r} has a {kind} tokenizer, whose merges need all of its pieces; use a model "
            "with a Unigram or WordPiece tokenizer, such as XLM-R, mDeBERTa or mBERT, or leave its vocabulary as it is"
        )


def trim_vocabulary(backbone: str, texts: Iterable[str], folder: Path) -> Trimmed:
    """Write a model folder that has only the pieces of some texts, with its record of what it was trained on.

    Args:
        backbone: Hub name or folder of a token classifier.
        texts: The texts, as ``texts_of`` yields them; they are read twice.
        folder: The folder to write to, which exists.

    Raises:
        UserError: If the tokenizer is of a type that cannot be trimmed.
        RunError: If the trimmed tokenizer splits one of the texts otherwise, or does not load.
    """
    check_trimmable(backbone)
    tokenizer = load_tokenizer(backbone)
    network, _, _ = load_network(backbone)
    rows = _embedding_of(network).num_embeddings
    special = {getattr(network.config, f"{name}_token_id", None) for name in _SPECIAL}
    # The RoBERTa family counts positions from the padding id, which therefore stays as it is.
    special |= {*range((network.config.pad_token_id or 0) + 1)}
    kept = kept_pieces(tokenizer, texts)
    kept = sorted({*kept} | {each for each in special if each is not None and 0 <= each < rows})
    _write_tokenizer(tokenizer, kept, folder)
    _check_segmentation(backbone, kept, texts, folder)
    parameters = network.num_parameters()
    _slice_embedding(network, kept)
    save_network(network, folder)
    copy_history(backbone, folder)
    return Trimmed((rows, len(kept)), (parameters, network.num_parameters()))


def kept_pieces(tokenizer: "PreTrainedTokenizerFast", texts: Iterable[str]) -> list[int]:
    """Choose the pieces without which some texts would be split otherwise, so that a trimmed tokenizer is exact.

    These are the pieces of the texts, all added tokens, and the pieces of one character that the texts have, of which a
    new word can be built. Other text has the tokenizer's own unknown piece where no piece is left.

    *Unigram* takes the path of pieces with the highest sum of scores (Kudo 2018). Where no piece is the next character
    alone, an unknown piece may stand for it, whose score is 10 below the lowest one of the vocabulary; therefore a
    piece with the lowest score stays. Then the paths of the trimmed vocabulary are some of the paths of the whole one,
    with the same sums: a character of the texts that is a piece stays one, so that unknown pieces stand where they
    stood. The best path is among them, because its pieces stay, and of equal ones the same is taken, that whose last
    piece starts first.

    *WordPiece* takes the longest piece that matches, again and again, and the unknown piece for a word where none does.
    A text's pieces stay the longest ones, because the others are a part of those before. The pieces before the place
    where an unknown word fails are kept too, or it might be split in another way.

    Args:
        tokenizer: The whole tokenizer.
        texts: The texts.

    Returns:
        The ids of the pieces, ascending.
    """
    content = _content_of(tokenizer)
    model, ids = content["model"], tokenizer.get_vocab()
    kept = {token["id"] for token in content["added_tokens"]}
    unknown = tokenizer.unk_token_id
    fast = _plain(tokenizer)
    for text, pieces in _segmented(fast, texts):
        kept.update(pieces)
        if model["type"] == "WordPiece" and unknown in pieces:
            kept.update(_of_unknown_words(fast, text, unknown, model["continuing_subword_prefix"]))
    prefix = model.get("continuing_subword_prefix", "")
    names = tokenizer.convert_ids_to_tokens(sorted(kept))
    characters = {character for name in names for character in name.removeprefix(prefix)}
    kept.update(ids[form] for each in characters for form in (each, prefix + each) if form in ids)
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        kept.add(scores.index(min(scores)))
        if model.get("byte_fallback"):
            kept.update(ids[name] for byte in range(256) if (name := f"<0x{byte:02X}>") in ids)
    return sorted(kept)


def trim_tokenizer(content: dict[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Remove pieces from the content of a ``tokenizer.json``; scores and the order of the others stay the same.

    Args:
        content: The content, which is changed.
        kept: The ids that are kept, ascending; each becomes its place in them.

    Returns:
        The content.
    """
    places = {old: new for new, old in enumerate(kept)}
    model = content["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in kept if old < len(model["vocab"])]
        model["unk_id"] = places.get(model["unk_id"])
    else:
        model["vocab"] = {name: places[old] for name, old in model["vocab"].items() if old in places}
    for token in content["added_tokens"]:
        token["id"] = places[token["id"]]
    content["post_processor"] = _renumbered(content["post_processor"], places)
    content["truncation"] = content["padding"] = None
    return content


def _renumbered(processor: Any, places: dict[int, int]) -> Any:  # noqa: ANN401 - a part of tokenizer.json
    """Renumber the special tokens of a post-processor."""
    if not processor:
        return processor
    if "processors" in processor:
        return {**processor, "processors": [_renumbered(each, places) for each in processor["processors"]]}
    changed = dict(processor)
    for name in ("sep", "cls"):
        if name in processor:
            changed[name] = [processor[name][0], places[processor[name][1]]]
    if "special_tokens" in processor:
        changed["special_tokens"] = {
            name: {**token, "ids": [places[old] for old in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    return changed


def _content_of(tokenizer: "PreTrainedTokenizerFast") -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return content


def _plain(tokenizer: "PreTrainedTokenizerFast") -> "Tokenizer":
    fast = tokenizer.backend_tokenizer
    fast.no_truncation()
    fast.no_padding()
    return fast


def _segmented(fast: "Tokenizer", texts: Iterable[str]) -> Iterator[tuple[str, list[int]]]:
    """Yield texts and the pieces of each."""
    remaining = iter(texts)
    while block := [*islice(remaining, _BLOCK)]:
        encodings = fast.encode_batch_fast(block, add_special_tokens=False)
        yield from zip(block, (encoding.ids for encoding in encodings), strict=True)


def _of_unknown_words(fast: "Tokenizer", text: str, unknown: int, prefix: str) -> Iterator[int]:
    """Yield the pieces that WordPiece finds in the unknown words of a text before it fails."""
    encoding = fast.encode(text, add_special_tokens=False)
    for piece, (first, last) in zip(encoding.ids, encoding.offsets, strict=True):
        if piece != unknown:
            continue
        word = text[first:last]
        if fast.normalizer:
            word = fast.normalizer.normalize_str(word)
        start = 0
        while start < len(word):
            ends = range(len(word), start, -1)
            found = ((end, fast.token_to_id((prefix if start else "") + word[start:end])) for end in ends)
            start, matched = next(((end, match) for end, match in found if match is not None), (len(word), None))
            if matched is not None:
                yield matched


def _write_tokenizer(tokenizer: "PreTrainedTokenizerFast", kept: Sequence[int], folder: Path) -> None:
    content = trim_tokenizer(_content_of(tokenizer), kept)
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    config = {
        # A class of its own, such as XLMRobertaTokenizer, would build a tokenizer with the vocabulary of the whole one.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": tokenizer.model_max_length,
        "model_input_names": tokenizer.model_input_names,
        "clean_up_tokenization_spaces": False,
        **{name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")


def _check_segmentation(backbone: str, kept: Sequence[int], texts: Iterable[str], folder: Path) -> None:
    """Check that a trimmed tokenizer splits texts as the whole one does."""
    whole, trimmed = (_segmented(_plain(load_tokenizer(each)), texts) for each in (backbone, str(folder)))
    for (text, before), (_, after) in zip(whole, trimmed, strict=True):
        if before != [kept[piece] for piece in after]:
            raise RunError(f"model.backbone={backbone!r} cannot be trimmed: {quoted(text)} would be split otherwise")


def _embedding_of(network: "PreTrainedModel") -> "Embedding":
    from torch.nn import Embedding

    embedding = network.get_input_embeddings()
    assert isinstance(embedding, Embedding)
    return embedding


def _slice_embedding(network: "PreTrainedModel", kept: Sequence[int]) -> None:
    """Keep some rows of a network's embedding, and renumber the special tokens of its configuration."""
    from torch import nn

    places = {old: new for new, old in enumerate(kept)}
    embedding = _embedding_of(network)
    padding = None if embedding.padding_idx is None else places[embedding.padding_idx]
    trimmed = nn.Embedding(len(kept), embedding.embedding_dim, padding)
    trimmed.weight.data = embedding.weight.data[[*kept]]
    network.set_input_embeddings(trimmed)
    network.config.vocab_size = len(kept)
    for name in _SPECIAL:
        old = getattr(network.config, f"{name}_token_id", None)
        if old is not None:
            setattr(network.config, f"{name}_token_id", places.get(old))
