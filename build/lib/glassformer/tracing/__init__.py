"""Recording any module's forward pass, and explaining every number in it.

`record.py` records into the plain records of `trace.py`, with names from `names.py`. `explain.py` derives a cell from
its operands by the rules of `rules/`, as a formula of `formula.py`, and checks it. `text.py` prints it, `format.py`
keeps traces on disk, and `intervene.py` runs the module again with changes.
"""
