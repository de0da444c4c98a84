"""A decoder's logits by the definition of its cache's policy: numpy float64, one query at a time.

One pass over the whole text in which, at every layer, query t sees exactly the keys that its policy holds at t, at
their slots' positions. It has the models' weights but none of their code.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from glassformer.models.cs336 import CS336
from glassformer.models.decoder import Decoder
from glassformer.models.gpt2 import GPT2
from support import oracles
from support.oracles import Array, array, kept

Kept = tuple[object, ...]  # ("full",), ("window", n) or ("sinks", first, recent)
Turn = Callable[[Array, Sequence[int], Sequence[int]], Array]  # vectors, their ranks, and which tokens they are of


def by_definition(
    model: GPT2 | Decoder | CS336,
    tokens: list[int],
    held: Kept,
    *,
    turning: Sequence[int] | None = None,
    rounded: bool = False,
) -> Array:
    """Logits of every token of the text.

    `turning` are the lengths by which each token turns, where frequencies go by one. With `rounded`, each matrix is
    multiplied with vectors of 8 bits, as those of a quantized model are.
    """
    w = {name: array(tensor) for name, tensor in model.state_dict().items()}

    def linear(x: Array, name: str) -> Array:
        product = (in_8_bits(x) if rounded else x) @ w[f"{name}.weight"].T
        return product + w[f"{name}.bias"] if f"{name}.bias" in w else product

    def norm(x: Array, name: str) -> Array:
        if f"{name}.bias" in w:
            return oracles.layer_norm(x, w[f"{name}.weight"], w[f"{name}.bias"], config.norm_eps)
        return oracles.rms_norm(x, w[f"{name}.weight"], config.norm_eps)

    config = model.config
    x, rotated = w["token_embedding.weight"][tokens], (False,) * config.n_layers
    if isinstance(model, GPT2):
        x = x + w["position_embedding.weight"][places(held, len(tokens))]
    else:
        rotated = model.rotated
        turn = turn_of(model, turning)
    for i in range(config.n_layers):
        p = f"blocks.{i}."
        normed = norm(x, f"{p}attn_norm")
        q, k, v = (in_heads(linear(normed, f"{p}attn.{name}_proj"), config.d_head) for name in "qkv")
        x = x + linear(seen_by_each(q, k, v, held, turn if rotated[i] else unturned), f"{p}attn.o_proj")
        normed = norm(x, f"{p}mlp_norm")
        hidden = linear(normed, f"{p}mlp.up_proj")
        if isinstance(model, GPT2):
            hidden = oracles.gelu_tanh(hidden)
        else:
            hidden = oracles.silu(linear(normed, f"{p}mlp.gate_proj")) * hidden
        x = x + linear(hidden, f"{p}mlp.down_proj")
    return linear(norm(x, "final_norm"), "lm_head")


def in_heads(x: Array, d_head: int) -> Array:
    """Features by heads, of no token too."""
    return x.reshape(len(x), x.shape[1] // d_head, d_head)


def places(held: Kept, n: int) -> list[int]:
    """The learned position of each token: its place when it came in, in a full cache the last one."""
    sizes = [size for size in held[1:] if isinstance(size, int)]
    return [min(t, sum(sizes) - 1) if sizes else t for t in range(n)]


def turn_of(model: Decoder | CS336, turning: Sequence[int] | None) -> Turn:
    """A key's angle is its rank among what the query holds, the query's its own rank."""
    if model.rope is None:
        return unturned
    lengths = None if turning is None else torch.tensor(turning)[:, None]
    by_token, style = array(model.rope.frequencies(lengths)), model.config.rope_style
    amplitude = 1.0 if model.rope.scaling is None else model.rope.scaling.amplitude
    n_turning = 2 * by_token.shape[-1]

    def turn(vectors: Array, ranks: Sequence[int], tokens: Sequence[int]) -> Array:
        frequencies = by_token if turning is None else by_token[tokens].reshape(len(tokens), -1)
        turned = amplitude * oracles.rope(vectors[..., :n_turning], ranks, frequencies, style)
        return np.concatenate([turned, vectors[..., n_turning:]], -1)

    return turn


def unturned(vectors: Array, ranks: Sequence[int], tokens: Sequence[int]) -> Array:
    """As they are."""
    return vectors


def seen_by_each(q: Array, k: Array, v: Array, held: Kept, turn: Turn) -> Array:
    """Attention of each query over the keys that its policy holds when it comes; (tokens, heads, features)."""
    out = np.zeros_like(q)
    n_tokens, n_heads, d_head = q.shape
    for t in range(n_tokens):
        slots = kept(held, t)
        queries = turn(q[t][:, None], [slots.index(t)], [t]).reshape(k.shape[1], -1, d_head)  # by heads of keys
        keys = turn(k[slots].swapaxes(0, 1), range(len(slots)), slots)
        weights = oracles.softmax(queries @ keys.swapaxes(1, 2) / np.sqrt(d_head))
        out[t] = (weights @ v[slots].swapaxes(0, 1)).reshape(n_heads, d_head)
    return out.reshape(n_tokens, n_heads * d_head)


def in_8_bits(x: Array) -> Array:
    """Each 32 neighbours as whole numbers from −127 to 127, times a scale of their own."""
    groups = np.pad(x, ((0, 0), (0, -x.shape[1] % 32))).reshape(len(x), -1, 32)
    steps = np.abs(groups).max(2, keepdims=True) / 127
    levels = np.rint(groups / np.where(steps == 0, 1, steps))
    return np.asarray((levels * steps).reshape(len(x), -1)[:, : x.shape[1]])
