"""The shapes in the adapters' signatures are checked too."""

import jaxtyping

jaxtyping.install_import_hook("cs336", "beartype.beartype")
