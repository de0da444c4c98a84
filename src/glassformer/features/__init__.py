"""Numbers in, numbers out: images to pixels of one size and to patches, sound to log-mel frames."""
