"""Who may take a name: what one module has registered under it, no other replaces."""

from glassformer.errors import ConfigError


def check_free(kind: str, name: str, owner: str | None, module: str) -> None:
    """Raise where a name of this kind of things has an owner that is another module than the one that asks for it.

    The same module may register again, as a notebook does whose cell runs twice.
    """
    if owner not in (None, module):
        raise ConfigError(f"There is {kind} {name!r} already, of {owner}; that of {module} needs a name of its own.")
