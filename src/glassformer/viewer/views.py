"""How a decoder's tensors are seen: which axis runs along x and which along y, by head, and long ones in panels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from glassformer.viewer.roles import Item
from glassformer.viewer.scene import Block
from glassformer.viewer.windows import Window, heads, panels

AXES: dict[str, tuple[str, str]] = {  # the letters of docs/notation.md along x and y
    **dict.fromkeys(["tokens", "positions", "mean", "variance", "mean_square", "highest", "total"], ("T", "")),
    "sees_any": ("T", ""),
    **dict.fromkeys(["token_embedded", "position_embedded", "x", "centred", "normalised", "norm"], ("T", "C")),
    **dict.fromkeys(["final_norm", "attn_out", "mlp_out", "heads", "summed"], ("T", "C")),
    **dict.fromkeys(["source", "memory", "vectors", "encoding", "position_encoding", "source_embedded"], ("T", "C")),
    **dict.fromkeys(["norm_weight", "norm_bias", "o_bias", "down_bias", "patch_bias"], ("", "C")),
    **dict.fromkeys(["q_weight", "k_weight", "v_weight"], ("C", "D")),
    **dict.fromkeys(["q_bias", "k_bias", "v_bias"], ("", "D")),
    **dict.fromkeys(["q", "q_rotated", "out"], ("T", "D")),
    **dict.fromkeys(["k", "v", "k_rotated", "k_shared", "v_shared", "k_kept", "v_kept"], ("S", "D")),
    **dict.fromkeys(["allowed", "allowed_all", "scores", "weights"], ("T", "S")),
    "o_weight": ("", "C"),
    **dict.fromkeys(["up_weight", "gate_weight", "down_weight"], ("F", "C")),
    "up_bias": ("F", ""),
    **dict.fromkeys(["up", "gate", "opened", "inner", "below", "activated"], ("F", "T")),
    **dict.fromkeys(["token_embedding", "source_embedding"], ("V", "C")),
    "source_tokens": ("T", ""),
    "lm_head_bias": ("", "V"),
    **dict.fromkeys(["angles", "cos", "sin", "cos_read", "sin_read"], ("T", "R")),
    **dict.fromkeys(["pair", "frequency"], ("", "R")),
    **dict.fromkeys(["waveform", "frames", "windowed"], ("U", "W")),
    **dict.fromkeys(["spectrum", "power"], ("U", "K")),
    **dict.fromkeys(["mel", "log_mel", "first_conv_padded"], ("U", "M")),
    **dict.fromkeys(["first_conv", "entering", "second_conv_padded"], ("U", "C")),
    "second_conv": ("T", "C"),
    **dict.fromkeys(
        ["first_conv_weight", "second_conv_weight", "first_conv_bias", "second_conv_bias", "conv_below"], ("", "C")
    ),
    **dict.fromkeys(
        ["type_embedded", "place_embedded", "head_proj", "head_below", "head_bent", "head_norm"], ("T", "C")
    ),
    **dict.fromkeys(["type_embedding", "head_proj_weight", "head_proj_bias"], ("", "C")),
    "token_types": ("T", ""),
    **dict.fromkeys(["guesses", "guess_probs"], ("T", "V")),
    "image": ("X", "Y"),
    "patches": ("P", "I"),
    "patch_weight": ("I", "C"),
    "patch_vectors": ("P", "C"),
    **dict.fromkeys(["class_token", "distillation_token"], ("", "C")),
    "head_in_weight": ("C", "F"),
    **dict.fromkeys(["head_in_bias", "head_hidden", "head_activated"], ("", "F")),
    **dict.fromkeys(["head_weight", "head_bias"], ("", "V")),
    "position_embedding": ("T", "C"),
    "lm_head": ("C", "V"),
    **dict.fromkeys(["logits", "probs"], ("T", "V")),
}
TURNED = {  # seen the other way round than tensors of their kind are
    *("up", "gate", "opened", "inner", "below", "activated", "up_weight", "gate_weight", "up_bias"),
    *("token_embedding", "position_embedding", "type_embedding", "source_embedding", "image"),
    *("tokens", "token_types", "source_tokens"),
    *("class_token", "distillation_token", "pair", "frequency"),
}
PER_QUERY_HEAD = {
    *("q_weight", "q_bias", "q", "q_rotated", "k_shared", "v_shared"),
    *("scores", "highest", "exponentials", "total", "weights", "out"),
}
PER_KEY_HEAD = {"k_weight", "k_bias", "k", "k_rotated", "k_kept", "v_weight", "v_bias", "v", "v_kept"}
STRIPS = {"mean", "variance", "mean_square", "highest", "total", "sees_any", "positions"}
SHORTEST_PANEL = 256


class View:
    """The windows of a model's tensors, given the lengths of its axes."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.panel = max(SHORTEST_PANEL, sizes["F"])
        self._known: dict[Item, list[Window]] = {}

    def axes(self, item: Item) -> tuple[str, str]:
        """The letters along x and y; the exponentials of the last softmax run over the vocabulary."""
        if item.role == "exponentials":
            return ("T", "S") if item.layer is not None else ("T", "V")
        return AXES.get(item.role, ("", ""))

    def windows(self, item: Item) -> list[Window]:
        """What is shown of a tensor, in the order of its heads or panels."""
        if item not in self._known:
            self._known[item] = self._windows(item)
        return self._known[item]

    def _windows(self, item: Item) -> list[Window]:
        found = [window.turned() for window in item.windows] if item.role in TURNED else item.windows
        if item.role in PER_QUERY_HEAD and item.layer is not None:
            return heads(found, self.sizes["H"], 1)
        if item.role in PER_KEY_HEAD:
            return heads(found, self.sizes["G"], 1)
        axes = self.axes(item)
        return panels(found[0], axes.index("V"), self.panel) if "V" in axes else list(found)

    def size(self, item: Item) -> tuple[int, int]:
        """How much of the plane it takes."""
        sizes = [window.size for window in self.windows(item)]
        return max(size[0] for size in sizes), max(size[1] for size in sizes)

    def pairs(self, step: Item, targets: Sequence[Block]) -> Iterator[tuple[Window, Block]]:
        """Each window of a step with the block that it is a step of: of its head, of its panel, or the first."""
        assert step.step_of is not None
        turned = step.step_of.role in TURNED
        found = [window.turned() for window in step.windows] if turned else list(step.windows)
        if len(targets) > 1 and targets[0].head is not None:
            found = heads(found, len(targets), 1)
        elif len(targets) > 1 and len(found) == 1 and "V" in self.axes(step.step_of):
            found = panels(found[0], self.axes(step.step_of).index("V"), self.panel)
        for n, window in enumerate(found):
            target = targets[n] if len(found) == len(targets) else targets[0]
            yield replace(window, head=target.head), target
