"""How good a model is: perplexity, accuracy, BLEU and chrF, word errors."""
