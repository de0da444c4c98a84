"""What the axes of a tensor are called, where a variable has one of the names of our models."""

AXES: dict[str, str] = {
    **dict.fromkeys(["tokens", "targets"], "BT"),
    **dict.fromkeys(["x", "y", "centred", "normalised"], "BTC"),
    **dict.fromkeys(["hidden", "gate", "up", "activated", "gated"], "BTF"),
    "q": "BHTD",
    **dict.fromkeys(["k", "v"], "BGSD"),
    **dict.fromkeys(["scores", "weights"], "BHTS"),
    "out": "BHTD",
    "logits": "BTV",
}


def axes_of(name: str, n_axes: int) -> tuple[str, ...]:
    """The letters of docs/notation.md for the axes of a tensor that has a known name, else none."""
    letters = AXES.get(name.rpartition(".")[2].partition("#")[0], "")
    return tuple(letters) if len(letters) == n_axes else ()
