"""From what a test left in the model to scores and the evidence behind them."""

import numpy as np
import torch

from xner.data.datamodule import PanxDataModule
from xner.data.encode import Encoded
from xner.lineage.history import History, Int64
from xner.lineage.record import evaluation_splits, zero_shot
from xner.model.classifier import Tested, TokenClassifier
from xner.model.metrics import span_counts, span_scores
from xner.transfer.result import Counts, Evaluation


def evaluate(
    model: TokenClassifier, data: PanxDataModule, history: History
) -> tuple[list[Evaluation], dict[tuple[str, str], Counts]]:
    """Turn what a test left in the model into scores and their evidence, an evaluation a test language.

    Args:
        model: The model that was tested.
        data: The data module that it was tested on.
        history: What its weights have seen.

    Returns:
        The evaluations, and by (language, split) their evidence.
    """
    evaluations: list[Evaluation] = []
    counts: dict[tuple[str, str], Counts] = {}
    for language, tested in zip(data.test_languages, model.tested, strict=True):
        split = data.split(language, "test")
        encoded = data.encoded(split)
        sentences = np.unique(tested.sentences.numpy())
        evidence = counts[language, split.name] = _count(tested, encoded, sentences, history)
        seen = np.isin(encoded.sentence_hash[sentences], history.sentences)
        scores = {name: score for name, score in tested.scores.items() if name in Evaluation.__annotations__}
        evaluations.append(
            {
                "language": language,
                "split": split.name,
                "zero_shot": zero_shot(history.lineage, language),
                **scores,  # type: ignore[typeddict-item] # the names are SpanF1's
                "sentences": len(sentences),
                "words": len(evidence.word_gold),
                "entities": int(evidence.gold.sum()),
                "unscored_words": len(encoded.word_label) - len(tested.labels),
                "seen_sentences": int(seen.sum()),
                "f1_unseen": None if seen.all() else f1_of(evidence, ~seen),
                "contaminated": bool(seen.all() or evaluation_splits(history.lineage)),
            }
        )
    return evaluations, counts


def f1_of(counts: Counts, chosen: np.typing.NDArray[np.bool_]) -> float:
    """F1 on some of the sentences.

    Args:
        counts: The evidence.
        chosen: Which of its sentences. *Shape:* (sentences,)
    """
    sums = (torch.tensor(int(each[chosen].sum())) for each in (counts.correct, counts.predicted, counts.gold))
    return span_scores(*sums).f1.item()


def _count(tested: Tested, encoded: Encoded, sentences: Int64, history: History) -> Counts:
    words, sentence_words = encoded.words_of(sentences)
    sentence = torch.from_numpy(np.repeat(np.arange(len(sentences)), sentence_words))
    gold = torch.from_numpy(encoded.word_label[words].astype(np.int64))
    correct, predicted, there = span_counts(tested.labels, gold, sentence, len(sentences))
    return Counts(
        correct=correct.numpy().astype(np.int32),
        predicted=predicted.numpy().astype(np.int32),
        gold=there.numpy().astype(np.int32),
        sentence_words=sentence_words.astype(np.int32),
        word_gold=encoded.word_label[words],
        word_predicted=tested.labels.numpy().astype(np.int8),
        word_seen=np.isin(encoded.word_hash[words], history.words),
    )
