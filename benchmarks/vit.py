"""ViT-B/16's shape by us and by transformers, with the same random weights. Run: python benchmarks/vit.py

One thread each, float32, seconds of the processor.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import torch
import transformers
from paired import compare, save

from glassformer.checkpoints.huggingface import load_directory

PAIRS = {1: 15, 8: 5}  # by the number of images at once


@torch.inference_mode()
def main() -> None:
    """Print and save the table."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000))  # type: ignore[call-arg]
    theirs.train(False)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = load_directory(Path(folder))[1]
        rows = {}
        for n_images, pairs in PAIRS.items():
            images = torch.randn(n_images, 3, 224, 224)
            torch.testing.assert_close(ours(images), theirs(images).logits, atol=1e-4, rtol=1e-4)
            row = compare(partial(ours, images), partial(theirs, images), pairs=pairs, clock=time.process_time)
            rows[f"batch {n_images}"] = row
            print(f"batch {n_images}: {row} times as fast; ours {row.ours * 1e3:.0f} ms", flush=True)
    save("vit", rows)


if __name__ == "__main__":
    main()
