"""Data: token files on disk, the sorting task, and public corpora."""
