"""Recording any module's forward pass, and explaining every number in it.

`recorder.py` records into the plain records of `trace.py`: `storage_table.py` knows which tensors share memory,
`tensor_names.py` what they are called, in the words of the source that `source_names.py` reads. `explain.py` derives a
cell from its operands by the rules of `rules/`, as a formula of `formula.py`, and `check.py` does so for all.
`render.py` prints it, `trace_file.py` keeps traces on disk, and `intervene.py` runs the module again with changes.
`attribute.py` takes a logit apart into what was written into the residual stream, and `compare.py` finds where two
traces part, by the numbers that `content.py` finds in both.
"""
