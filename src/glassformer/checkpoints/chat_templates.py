"""The chat templates that a checkpoint's files hold, by name, and the special tokens that they may write.

    chat_template.jinja                   the usual one, "default"
    additional_chat_templates/NAME.jinja  others, such as "tool_use"
    tokenizer_config.json                 chat_template, where there are no such files: one, or a list of named ones
    chat_template.json                    the same in folders of processors

Those in the metadata of a GGUF file become files of these names (`gguf_tokenizer.py`). A template is a program of a
stranger's: nothing here runs it. Next to read: `inference/chat_template.py`.
"""

import re
from collections.abc import Mapping
from typing import Any

from glassformer import strict_json
from glassformer.errors import CheckpointCorrupt
from glassformer.tokenizers.base import Tokenizer
from glassformer.tokenizers.tokenizer_config import SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG

DEFAULT, TOOL_USE = "default", "tool_use"
FILE, SETTING = "chat_template.jinja", "chat_template"
ADDITIONAL = re.compile(r"additional_chat_templates/([^/]+)\.jinja")
MAX_CHARACTERS = 1 << 20  # of a template; the longest that are published have some 20,000


def file_of(name: str) -> str:
    """The file that has the template of this name in a folder."""
    return FILE if name == DEFAULT else f"additional_chat_templates/{name}.jinja"


def templates_of(contents: Mapping[str, bytes]) -> dict[str, str]:
    """The templates in the files of a folder, by name; raises where what stands for one is none."""
    places = {FILE: DEFAULT} | {file: match[1] for file in contents if (match := ADDITIONAL.fullmatch(file))}
    templates: dict[str, Any] = {}
    for file, name in places.items():
        if file in contents:
            try:
                templates[name] = contents[file].decode()
            except UnicodeDecodeError:
                raise CheckpointCorrupt(f"{file} is not UTF-8 text.") from None
    for file in (TOKENIZER_CONFIG, "chat_template.json"):
        templates = templates or _named(_settings(contents, file).get(SETTING), file)
    for name, template in templates.items():
        if len(template) > MAX_CHARACTERS:
            raise CheckpointCorrupt(
                f"The chat template {name[:40]!r} has {len(template):,} characters; {MAX_CHARACTERS:,} are the most."
            )
    return templates


def _named(setting: object, file: str) -> dict[str, str]:
    """A template, or a list of objects with a name and a template each."""
    entries = (
        setting if isinstance(setting, list) else [] if setting is None else [{"name": DEFAULT, "template": setting}]
    )
    templates: dict[str, str] = {}
    for entry in entries:
        match entry:
            case {"name": str(name), "template": str(template)}:
                templates[name] = template
            case _:
                raise CheckpointCorrupt(f"{file}: chat_template must be a text, or a list of texts with their names.")
    return templates


def special_tokens_of(contents: Mapping[str, bytes], tokenizer: Tokenizer) -> dict[str, str]:
    """bos_token, eos_token and the like, as the files of a folder declare them, or else the tokenizer."""
    settings = {**_settings(contents, SPECIAL_TOKENS_MAP), **_settings(contents, TOKENIZER_CONFIG)}
    tokens: dict[str, str] = {}
    for name, value in settings.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    names = {id: text for text, id in tokenizer.special_tokens.items()}
    for name, id in (("bos_token", tokenizer.bos_id), ("eos_token", tokenizer.eos_id)):
        if id in names:
            tokens.setdefault(name, names[id])
    return tokens


def _settings(contents: Mapping[str, bytes], file: str) -> Mapping[str, Any]:
    return strict_json.parse(contents[file], file) if file in contents else {}
