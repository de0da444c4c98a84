"""What models are trained on and read: token files, pairs of texts, images, sound, the sorting task, public corpora."""
