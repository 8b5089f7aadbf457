"""Turn the tests of a stage's model into evaluations and the counts behind them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from xner.data.datamodule import PanxDataModule
from xner.data.hashes import span_hashes
from xner.lineage import History, evaluation_splits, label_free, zero_shot
from xner.model.calibration import calibrate, calibration_error
from xner.model.evaluation import Tested
from xner.model.metrics import span_scores
from xner.tags import find_spans
from xner.transfer.result import Counts, Evaluation


def evaluate(
    tests: Sequence[Tested], data: PanxDataModule, history: History
) -> tuple[list[Evaluation], dict[tuple[str, str], Counts]]:
    """Turn the tests of a model into evaluations and their counts, one per test language.

    Args:
        tests: The results of the tests, in the order of the data module's test languages.
        data: The data module.
        history: What the model's weights were trained on.

    Returns:
        The evaluations, and their counts by (language, split).
    """
    evaluations: list[Evaluation] = []
    counts: dict[tuple[str, str], Counts] = {}
    for language, tested in zip(data.test_languages, tests, strict=True):
        split = data.test_split_of(language)
        encoded = data.encoded(split)
        sentences = tested.sentences.numpy()
        words, _ = encoded.words_of(sentences)
        calibration = calibrate(tested.words.score.numpy(), (tested.words.predicted == tested.words.gold).numpy())
        counted = counts[language, split.name] = Counts(
            correct=tested.counts.correct.numpy().astype(np.int32),
            predicted=tested.counts.predicted.numpy().astype(np.int32),
            gold=tested.counts.gold.numpy().astype(np.int32),
            sentence_words=tested.sentence_words.numpy().astype(np.int32),
            word_gold=tested.words.gold.numpy().astype(np.int8),
            word_predicted=tested.words.predicted.numpy().astype(np.int8),
            word_seen=np.isin(encoded.word_hash[words], history.words),
            bin_words=calibration.words,
            bin_probability=calibration.probability,
            bin_right=calibration.right,
        )
        seen = np.isin(encoded.sentence_hash[sentences], history.sentences)
        near = np.isin(encoded.normal_hash[sentences], history.normal)
        # What unrecorded weights have not seen is unknown.
        recorded = not history.lineage.get("unrecorded")
        by_seen = f1_by_seen(counted, encoded.word_hash[words], history.entities) if recorded else (None, None)
        scores = {name: score for name, score in tested.scores.items() if name in Evaluation.__annotations__}
        evaluations.append(
            {
                "language": language,
                "split": split.name,
                "zero_shot": zero_shot(history.lineage, language),
                **scores,  # type: ignore[typeddict-item] # the names are SpanF1's
                "f1_by_type": {each: tested.scores[f"f1_{each}"] for each in data.tag_set.types},
                "sentences": len(sentences),
                "words": len(counted.word_gold),
                "entities": int(counted.gold.sum()),
                "unscored_words": len(encoded.word_label) - len(counted.word_gold),
                "seen_sentences": int(seen.sum()) if recorded else None,
                "f1_unseen": f1_of(counted, ~seen) if recorded and not seen.all() else None,
                "contaminated": bool(seen.all() or evaluation_splits(history.lineage)),
                "f1_seen_entities": by_seen[0],
                "f1_unseen_entities": by_seen[1],
                "near_duplicates": int(near.sum()) if recorded else None,
                "ece": round(calibration_error(calibration), 4),
                "oracle": history.lineage.get("oracle", False),
                "label_free": label_free(history.lineage, language),
            }
        )
    return evaluations, counts


def f1_of(counts: Counts, chosen: npt.NDArray[np.bool_]) -> float:
    """Compute the F1 of a subset of the sentences.

    Args:
        counts: The counts of an evaluation.
        chosen: Whether each of its sentences is in the subset. *Shape:* (sentences,)
    """
    return _f1(*(int(each[chosen].sum()) for each in (counts.correct, counts.predicted, counts.gold)))


def f1_by_seen(
    counts: Counts, word_hash: npt.NDArray[np.int64], entities: npt.NDArray[np.int64]
) -> tuple[float | None, float | None]:
    """Compute the F1 of the spans whose words are an entity of the training data, and that of the others.

    Args:
        counts: The counts of an evaluation.
        word_hash: The hash of each of its words. *Shape:* (words,)
        entities: Hashes of the entities of the training data, as ``span_hashes`` computes them. *Shape:* (entities,)

    Returns:
        Both scores as ``Evaluation`` defines them; ``None`` where no gold entity is in the group.
    """
    gold, predicted = (
        find_spans(labels, counts.sentence_words) for labels in (counts.word_gold, counts.word_predicted)
    )
    seen_gold, seen_predicted = (np.isin(span_hashes(word_hash, each), entities) for each in (gold, predicted))
    # Spans do not overlap, so that their first words are unique.
    _, own, its = np.intersect1d(gold.first, predicted.first, assume_unique=True, return_indices=True)
    right = (gold.last[own] == predicted.last[its]) & (gold.type[own] == predicted.type[its])
    seen_right = seen_gold[own[right]]
    return tuple(  # type: ignore[return-value] # two
        _f1(*(int((each == seen).sum()) for each in (seen_right, seen_predicted, seen_gold)))
        if (seen_gold == seen).any()
        else None
        for seen in (True, False)
    )


def _f1(correct: int, predicted: int, gold: int) -> float:
    return span_scores(torch.tensor(correct), torch.tensor(predicted), torch.tensor(gold)).f1.item()
