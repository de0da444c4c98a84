"""How each architecture stands in published files: one table beside a model's page, of its settings and its tensors.

`published/NAME.py` belongs to `models/NAME.py`, and defines `PUBLISHED`. Next to read: `gpt2.py`, then `fields.py` and
`tensors.py` for what its rows mean.
"""
