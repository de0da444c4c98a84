"""Drafts by prompt lookup beside plain decoding: a model repeats a text with a small change, as when it sums one up.

Run: python benchmarks/speculative.py MODEL [--pairs N], of one that is tuned to chat, such as SmolLM2-135M-Instruct.
Text is greedy, and both runs must write the same.
"""

import argparse
from functools import partial

from paired import compare, save

import glassformer as gf
from glassformer.inference.chat import ChatPrompt
from glassformer.inference.logits import Sampling
from glassformer.inference.speculative import Drafter

TEXT = """Rivers shape the land that they cross. In the mountains, fast water cuts narrow valleys and carries stones,
sand and clay downhill. Where the land is flat, the water slows, and what it carried sinks to the ground. After many
floods the valley floor is covered with fertile soil, which is why the first farmers settled beside large rivers. Their
villages grew into towns, and the river that watered the fields also carried their boats."""
TASKS = {
    "copy": "Write down the following text once more, word for word:",
    "summary": "Summarize the following text in two sentences, in its own words:",
}


def write(model: gf.Model, prompt: ChatPrompt, n: int, drafter: Drafter | None, texts: list[list[int]]) -> None:
    """One answer, greedily, which is put behind the others."""
    ends = model.stop_tokens | prompt.end_ids
    greedy = Sampling(temperature=0)
    news = model.tokens([prompt.tokens], n, greedy, "full", stop_tokens=ends, drafter=drafter)
    texts.append([new.token for new in news])


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    arguments = parser.parse_args()
    model = gf.load(arguments.model)
    rows = {}
    for task, instruction in TASKS.items():
        prompt = model.chat_prompt([{"role": "user", "content": f"{instruction}\n\n{TEXT}"}])
        drafter = model.drafter(lookup=True)
        texts: list[list[int]] = []
        row = compare(
            partial(write, model, prompt, arguments.tokens, drafter, texts),
            partial(write, model, prompt, arguments.tokens, None, texts),
            pairs=arguments.pairs,
        )
        assert drafter is not None
        share = drafter.speculation.accepted / max(drafter.speculation.drafted, 1)
        assert all(text == texts[0] for text in texts), "drafts have changed the text"
        rows[task] = row
        print(f"{task:8} {row} times as fast; {len(texts[0])} tokens, {share:.0%} of those drafted were accepted")
    save("speculative", rows)


if __name__ == "__main__":
    main()
