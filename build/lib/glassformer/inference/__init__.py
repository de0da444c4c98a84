"""Running a model: from logits to tokens, from tokens to text. `generate.py` is the loop, `logits.py` the choice."""
