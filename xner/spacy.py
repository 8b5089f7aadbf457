"""The spaCy component ``xner``, which sets the entities of a document (``pip install '.[spacy]'``)."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from xner.errors import UserError
from xner.tagger import Tagged, Tagger

try:
    from spacy.language import Language
    from spacy.tokens import Doc
    from spacy.util import filter_spans
except ImportError as error:
    raise UserError("the spaCy component needs spaCy; install it with pip install '.[spacy]'") from error


@Language.factory("xner", assigns=["doc.ents", "token.ent_type", "token.ent_iob"])
class EntityComponent:
    """Set ``doc.ents`` to the entities that a ``Tagger`` finds in a document's text.

    The text is split into the words that the network was trained on, whatever spaCy's tokens are. An entity that starts
    or ends within a token takes the whole token; of entities that overlap for this reason, the longest is kept.

    Args:
        nlp: The pipeline; given by spaCy.
        name: The name of the component in it; given by spaCy.
        model: Model folder, or hub name.
        precision: Precision of matrix products, ``float32`` or ``bfloat16``.
        decoding: ``greedy`` or ``viterbi``, as of ``Tagger.from_pretrained``.

    ::

        nlp = spacy.blank("tr")
        nlp.add_pipe("xner", config={"model": "runs/tr-250/model"})
    """

    def __init__(
        self, nlp: Language, name: str, model: str, precision: str = "float32", decoding: str = "greedy"
    ) -> None:
        self.name = name
        self.model = model
        self.tagger = Tagger.from_pretrained(model, precision=precision, decoding=decoding)  # type: ignore[arg-type] # it checks the values

    def __call__(self, doc: Doc) -> Doc:
        """Set the entities of a document."""
        return _set_entities(doc, self.tagger(doc.text))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Set the entities of documents, a batch at once.

        Args:
            stream: The documents.
            batch_size: Number of documents that are tagged at once.
        """
        documents = iter(stream)
        while batch := [*islice(documents, batch_size)]:
            yield from map(_set_entities, batch, self.tagger([doc.text for doc in batch]))

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Write nothing: the pipeline's configuration names the model folder."""

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "EntityComponent":
        """Read nothing: the model is loaded from the folder that the configuration names."""
        return self


def _set_entities(doc: Doc, tagged: Tagged) -> Doc:
    found = (doc.char_span(each.start, each.end, label=each.type, alignment_mode="expand") for each in tagged.entities)
    doc.ents = filter_spans(span for span in found if span is not None)
    return doc
