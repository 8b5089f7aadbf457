"""From the tests of a model to scores and the evidence behind them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from xner.data.datamodule import PanxDataModule
from xner.lineage.record import History, evaluation_splits, zero_shot
from xner.model.evaluation import Tested
from xner.model.metrics import span_scores
from xner.transfer.result import Counts, Evaluation


def evaluate(
    tests: Sequence[Tested], data: PanxDataModule, history: History
) -> tuple[list[Evaluation], dict[tuple[str, str], Counts]]:
    """Turn the tests of a model into evaluations and their evidence, one per test language.

    Args:
        tests: The results of the tests, in the order of the data module's test languages.
        data: The data module.
        history: What the model's weights were trained on.

    Returns:
        The evaluations, and their evidence by (language, split).
    """
    evaluations: list[Evaluation] = []
    counts: dict[tuple[str, str], Counts] = {}
    for language, tested in zip(data.test_languages, tests, strict=True):
        split = data.split(language, "test")
        encoded = data.encoded(split)
        sentences = tested.sentences.numpy()
        words, _ = encoded.words_of(sentences)
        evidence = counts[language, split.name] = Counts(
            correct=tested.counts.correct.numpy().astype(np.int32),
            predicted=tested.counts.predicted.numpy().astype(np.int32),
            gold=tested.counts.gold.numpy().astype(np.int32),
            sentence_words=tested.sentence_words.numpy().astype(np.int32),
            word_gold=tested.words.gold.numpy().astype(np.int8),
            word_predicted=tested.words.predicted.numpy().astype(np.int8),
            word_seen=np.isin(encoded.word_hash[words], history.words),
        )
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
                "unscored_words": len(encoded.word_label) - len(evidence.word_gold),
                "seen_sentences": int(seen.sum()),
                "f1_unseen": None if seen.all() else f1_of(evidence, ~seen),
                "contaminated": bool(seen.all() or evaluation_splits(history.lineage)),
            }
        )
    return evaluations, counts


def f1_of(counts: Counts, chosen: npt.NDArray[np.bool_]) -> float:
    """Compute the F1 of a subset of the sentences.

    Args:
        counts: The evidence.
        chosen: Whether each of its sentences is in the subset. *Shape:* (sentences,)
    """
    sums = (torch.tensor(int(each[chosen].sum())) for each in (counts.correct, counts.predicted, counts.gold))
    return span_scores(*sums).f1.item()
