"""How good a model is: loss and perplexity on text, and right answers where there are some."""
