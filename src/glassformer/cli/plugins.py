"""Modules of others that add families, formats or backends, which the command line imports before it runs a verb.

A plugin adds what it has when it is imported, by `models.register`, `checkpoints.formats.register` or
`nn.attend.register`; in Python, importing it is all. A package that is installed names its plugins as entry points of
the group `glassformer.plugins`; a module that is not goes into GLASSFORMER_PLUGINS.
"""

import os
import sys
from contextlib import redirect_stdout
from importlib.metadata import EntryPoint, entry_points

from glassformer.errors import ConfigError

GROUP = "glassformer.plugins"
VARIABLE = "GLASSFORMER_PLUGINS"  # names of modules, with commas between


def plugins() -> list[EntryPoint]:
    """The plugins of installed packages, and those of the environment."""
    modules = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    return [*entry_points(group=GROUP), *(EntryPoint(name, name, VARIABLE) for name in modules)]


def load_plugins() -> None:
    """Import every plugin; raises `ConfigError` for one that cannot be."""
    for plugin in plugins():
        if fault := fault_of(plugin):
            raise ConfigError(
                f"The plugin {plugin.value}, of {origin_of(plugin)}, {fault}: mend it, or take it out there."
            )


def report() -> dict[str, str]:
    """What each plugin came to, by its name."""
    return {plugin.value: f"{fault_of(plugin) or 'loaded'}, of {origin_of(plugin)}" for plugin in plugins()}


def fault_of(plugin: EntryPoint) -> str:
    """Import a plugin; returns why it cannot be, or nothing. What it prints is no result of ours."""
    if not all(part.isidentifier() for part in plugin.value.split(".")):
        return "is no name of a module, such as my_family or my_package.my_family"
    try:
        with redirect_stdout(sys.stderr):
            plugin.load()
    except (Exception, SystemExit) as error:  # whatever a module of others may raise
        return f"does not load ({type(error).__name__}: {error})"
    return ""


def origin_of(plugin: EntryPoint) -> str:
    """Where a plugin is named."""
    return VARIABLE if plugin.dist is None else f"the package {plugin.dist.name}"
