"""Modules of others that add families, formats or backends, which the command line imports before it runs a verb.

A plugin adds what it has when it is imported, by `models.register`, `checkpoints.formats.register` or
`nn.attend.register`; in Python, importing it is all. A package that is installed names its plugins as entry points of
the group `glassformer.plugins`; a module that is not goes into GLASSFORMER_PLUGINS.
"""

import os
from importlib.metadata import EntryPoint, entry_points

from glassformer.errors import ConfigError

GROUP = "glassformer.plugins"
VARIABLE = "GLASSFORMER_PLUGINS"  # names of modules, with commas between


def load_plugins() -> None:
    """Import every plugin; raises `ConfigError` for one that cannot be."""
    modules = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    for plugin in (*entry_points(group=GROUP), *(EntryPoint(name, name, VARIABLE) for name in modules)):
        try:
            plugin.load()
        except Exception as error:  # whatever a module of others may raise
            origin = VARIABLE if plugin.dist is None else f"the package {plugin.dist.name}"
            raise ConfigError(
                f"The plugin {plugin.value}, of {origin}, does not load ({type(error).__name__}: {error}): mend it, or "
                "take it out there."
            ) from error
