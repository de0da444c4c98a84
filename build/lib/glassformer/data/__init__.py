"""Data: token files on disk, the sorting task, sets of images, and public corpora."""
