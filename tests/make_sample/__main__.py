"""Generate the embedded sample: ``python -m tests.make_sample`` writes its sentences, then pretrains its backbone."""

from tests.make_sample import backbone, sentences

if __name__ == "__main__":
    sentences.main()
    backbone.main()
