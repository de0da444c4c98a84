"""Layers of a Transformer, written from tensors up: equations in `functional.py`, one idea in each other file."""
