"""Running a model: the decode engine and its filters, sampling, beam search, conversations, translation, transcription.

`engine.py` has the loop, `logits.py` the choice of a token.
"""
