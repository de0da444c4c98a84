"""The page in a notebook: a frame in the output of a cell, with the recording inside, so that it stays when saved."""

import html
import importlib.util
from typing import Any

HEIGHT = 640  # pixels

WIDGET = """
export function render({ model, el }) {
  const frame = document.createElement("iframe");
  frame.sandbox = "allow-scripts";
  frame.srcdoc = model.get("page");
  frame.style.cssText = `width: 100%; height: ${model.get("height")}px; border: 0`;
  el.append(frame);
}
"""


def in_notebook() -> bool:
    """Whether somebody's notebook runs this; a terminal's IPython is none."""
    if importlib.util.find_spec("IPython") is None:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"


def shown(page: str, height: int = HEIGHT) -> Any:
    """An object that a notebook displays as the page: a widget with the extra `notebook`, else plain HTML."""
    if importlib.util.find_spec("anywidget") is None:
        return Frame(page, height)
    import anywidget
    import traitlets

    class View(anywidget.AnyWidget):
        _esm = WIDGET
        page = traitlets.Unicode().tag(sync=True)
        height = traitlets.Int().tag(sync=True)

    return View(page=page, height=height)


class Frame:
    """A page within a page. It may run its scripts, and reach nothing of the notebook around it."""

    def __init__(self, page: str, height: int) -> None:
        self.page, self.height = page, height

    def _repr_html_(self) -> str:
        return (
            f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(self.page)}" '
            f'style="width: 100%; height: {self.height}px; border: 0"></iframe>'
        )
