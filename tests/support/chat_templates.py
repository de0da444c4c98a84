"""Chat templates in the manner of those that are published, and random conversations."""

import random
from typing import Any

CHATML = """{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA2 = """{% if messages[0]['role'] == 'system' %}
{% set rest = messages[1:] %}{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}
{% else %}{% set rest = messages %}{% set system = '' %}{% endif %}
{% for m in rest %}
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('user and assistant take turns') }}
{% endif %}
{% if m.role == 'user' %}
{{ bos_token + '[INST] ' + (system if loop.index0 == 0 else '') + m['content'] | trim + ' [/INST]' }}
{%- else %}
{{ ' ' + m['content'].strip() + ' ' + eos_token }}
{%- endif %}
{% endfor %}"""

LLAMA3 = """{{- bos_token }}
{%- if messages[0].role == "system" %}
    {%- set told = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set told = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Year: " + strftime_now("%Y") + "\\n" + told + "<|eot_id|>" }}
{%- for message in messages %}
    {{- "<|start_header_id|>" + message.role + "<|end_header_id|>\\n\\n" + message.content | trim + "<|eot_id|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif %}
"""

MISTRAL = """{%- set ns = namespace(count=0, last=-1) -%}
{%- for m in messages -%}{% if m.role == "user" %}{% set ns.last = loop.index0 %}{% endif %}{%- endfor -%}
{{ bos_token }}
{%- for m in messages %}
  {%- if m.role == "user" %}
    {%- if tools and loop.index0 == ns.last %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}
    {%- set ns.count = ns.count + 1 %}
    {{- "[INST] " ~ m.content ~ "[/INST]" }}
  {%- elif m.role == "assistant" %}{{ " " + m.content + eos_token }}
  {%- elif m.role == "tool" %}{{ '[TOOL_RESULTS]{"content": ' ~ m.content | tojson ~ "}[/TOOL_RESULTS]" }}
  {%- else %}{{ raise_exception("no role " + m.role) }}
  {%- endif %}
{%- endfor %}"""

GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}
{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] in ['user', 'system', 'assistant'] %}
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

PHI = """{% for m in messages %}{% if m.role == 'user' %}{{'<|user|>\n' + m.content + '<|end|>\n'}}\
{% elif m.role == 'assistant' %}{% generation %}{{'<|assistant|>\n' + m.content + '<|end|>\n'}}{% endgeneration %}\
{% else %}{{ '<|' ~ m.role ~ '|>' ~ m.content ~ '<|end|>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"""

TOOLS_IN_XML = """{%- macro argument(name, kind) -%}
<{{ name }}>{{ kind.type | default("any") }}</{{ name }}>
{%- endmacro -%}
{%- if tools %}
<tools>
{% for tool in tools %}
{%- for name, kind in tool.function.parameters.properties | dictsort %}
{{ loop.index }}. {{ tool.function.name }}: {{ argument(name, kind) }}
{%- endfor %}
{{ tool | tojson(indent=2) }}
{{ tool.function | tojson(separators=(',', ':'), sort_keys=true) }}
{% endfor %}
</tools>
{%- endif %}
{%- for message in messages %}
{%- if message.tool_calls is defined and message.tool_calls %}
{% for call in message.tool_calls %}<call>{{ call.function.arguments | tojson }}</call>{% endfor %}
{%- endif %}
[{{ message.role | upper }}] {{ message.content if message.content is string else "" }}
{%- if message.content is iterable and message.content is not string %}
{%- for part in message.content %}{{ part.text if part.type == "text" else "<" ~ part.type ~ ">" }}{% endfor %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}

[ASSISTANT]{% endif %}"""

SKIPPING = """{% for m in messages -%}
    {% if m.role == 'system' %}{% continue %}{% endif %}
    {%- if loop.index > 3 %}{% break %}{% endif -%}
    {{ loop.index }}/{{ messages | length }} {{ m.content.split('</think>')[-1].lstrip('\\n') }}
{% endfor %}"""

ALPACA = """{% set roles = {'user': '### Instruction', 'assistant': '### Response', 'system': '###'} %}
{% for m in messages | selectattr('role', 'in', roles) | list %}
    {{ roles[m.role] }}:
{{ m.content | replace('###', '#') }}

{% endfor %}
{%- if add_generation_prompt -%}
    {{- roles['assistant'] + ':' -}}
{% endif %}"""

DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}\
{% set ns = namespace(is_first=true, told='') %}{% for m in messages %}{% if m['role'] == 'system' %}\
{% set ns.told = ns.told + m['content'] %}{% endif %}{% endfor %}{{ bos_token }}{{ ns.told }}\
{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}{% set ns.is_first = false %}\
{% elif m['role'] == 'assistant' and m['content'] is not none %}{{ '<｜Assistant｜>' + m['content'] + eos_token }}\
{% endif %}{% endfor %}{% if add_generation_prompt and not ns.is_first %}{{ '<｜Assistant｜>' }}{% endif %}"""

ODDS = """{{- pad_token ~ unk_token ~ missing }}{% set x = dict(a=1) %}{{ x | tojson }}{{ none | tojson }}
{% for n in range(3) %}{{ n }}{% endfor %}\t  {# a remark #}
   {% raw %}{{ raw }}{% endraw %}
{% if messages | length > 1 and messages[1].name is undefined %}{{ messages[-1]['content'][:3] | e }}{% endif %}
{{ (messages | map(attribute='role') | join(',')) ~ (2 ** 5) ~ ('-' * 4) ~ ([1] * 2) ~ 'é' | title }}
{{ "{:>6}|{}".format("a", messages[0].content) }}{{ "%s=%05.1f" | format("x", 2.25) }}
"""

TEMPLATES = {
    "chatml": CHATML,
    "llama2": LLAMA2,
    "llama3": LLAMA3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "zephyr": ZEPHYR,
    "phi": PHI,
    "tools in xml": TOOLS_IN_XML,
    "skipping": SKIPPING,
    "alpaca": ALPACA,
    "deepseek": DEEPSEEK,
    "odds": ODDS,
}

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather at a place: <warm> & 'dry'?",
            "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "día": {}}},
        },
    }
]
PIECES = [
    "Hello",
    " ",
    "\n",
    "¿Qué?",
    "你好",
    "{{ x }}",
    "{% if %}",
    "<|im_end|>",
    "</s>",
    "### ",
    "a < b & c",
    "\t",
    "👍🏽",
]


def conversation(rng: random.Random, *, plain: bool = False) -> list[dict[str, Any]]:
    """Messages of usual and unusual orders; `plain` ones have texts alone."""

    def text() -> str:
        return "".join(rng.choices(PIECES, k=rng.randrange(6)))

    first = [{"role": "system", "content": text()}] if rng.random() < 0.4 else []
    turns: list[dict[str, Any]] = []
    for number in range(rng.randrange(1, 6)):
        turns.append({"role": ("user", "assistant")[number % 2], "content": text()})
    if plain:
        return [*first, *turns]
    if rng.random() < 0.2:
        turns.append({"role": rng.choice(["tool", "user", "critic"]), "content": text(), "name": "weather"})
    if rng.random() < 0.2:
        call = {"type": "function", "function": {"name": "weather", "arguments": {"place": text()}}}
        turns.append({"role": "assistant", "content": None, "tool_calls": [call]})
    if rng.random() < 0.2:
        turns[0]["content"] = [{"type": "text", "text": text()}, {"type": "image"}]
    return [*first, *turns]
