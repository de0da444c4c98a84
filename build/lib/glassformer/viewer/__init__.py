"""The 3D viewer: a trace placed in space, the page that draws it, and the server behind the page."""
