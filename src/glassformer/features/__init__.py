"""What a model reads in place of tokens: images as patches, sound as log-mel frames, and their processors."""
