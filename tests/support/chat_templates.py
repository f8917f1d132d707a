"""Chat templates in the shapes that releases of 2025 and 2026 have, made anew for these tests."""

from __future__ import annotations

CHATML = """{% for m in messages %}{% if m['role']=='assistant' %}{{ '<|im_start|>assistant
' }}{{ m['content'] + '<|im_end|>' }}{{ '
' }}{% else %}{{ '<|im_start|>' + m['role'] + '
' + m['content'] + '<|im_end|>
' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

_QWEN = """{% set ns=namespace(last=-1) %}{% for m in messages %}{% if m['role']=='user' %}\
{% set ns.last=loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}\
{% if m['role']=='assistant' %}{% set c=m['content'] %}{% set r='' %}\
{% if '</think>' in c %}{% set r=c.split('</think>')[0].split('<think>')[-1].strip('
') %}{% set c=c.split('</think>')[-1].lstrip('
') %}{% endif %}{{ '<|im_start|>assistant
' }}{% if loop.index0 > ns.last and (loop.last or r) %}{{ '<think>
' + r + '
</think>

' + c + '<|im_end|>' }}{% else %}{{ c + '<|im_end|>' }}{% endif %}{{ '
' }}{% else %}{{ '<|im_start|>' + m['role'] + '
' + m['content'] + '<|im_end|>
' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}OPENING{% endif %}"""

QWEN3 = _QWEN.replace(
    "OPENING",
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}",
)

# The prompt opens the thoughts.
QWEN35 = _QWEN.replace("OPENING", "{{ '<think>\n' }}")

# The same with other names, as nobody has released them.
REFLECT = QWEN35.replace("think>", "reflection>")

# The prompt has closed the thoughts already: a model that is not to think.
NEVER_THINKS = _QWEN.replace("OPENING", "{{ '<think>\n\n</think>\n\n' }}")

R1 = """{{ bos_token }}{% for m in messages %}{% if m['role']=='system' %}{{ m['content'] }}\
{% elif m['role']=='user' %}{{ '<|User|>' + m['content'] }}{% else %}{% set c=m['content'] %}\
{% if '</think>' in c %}{% set c=c.split('</think>')[-1] %}{% endif %}\
{{ '<|Assistant|>' }}{{ c + eos_token }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"""

# Its first release opened no thoughts in the prompt.
R1_FIRST = R1.replace("<|Assistant|><think>\n", "<|Assistant|>")

# With token-like marks and without a line break behind them.
R1_TOKENS = R1.replace("</think>", "<|end_of_thought|>").replace(
    "<think>\n", "<|begin_of_thought|>"
)

# The end differs between history and the last turn; thoughts are not known.
HARMONY = """{% for m in messages %}{% if m['role']=='assistant' %}\
{{ '<|start|>assistant<|channel|>final<|message|>' }}{{ m['content'] }}\
{{ '<|return|>' if loop.last else '<|end|>' }}{% else %}\
{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""

# As gpt-oss has it: thoughts under a key of their own, in another channel, of the last turn alone.
HARMONY_THINKING = """{% for m in messages %}{% if m['role']=='assistant' %}\
{% if loop.last and not add_generation_prompt and m['thinking'] %}\
{{ '<|start|>assistant<|channel|>analysis<|message|>' + m['thinking'] + '<|end|>' }}{% endif %}\
{{ '<|start|>assistant<|channel|>final<|message|>' }}{{ m['content'] }}\
{{ '<|return|>' if loop.last else '<|end|>' }}{% else %}\
{{ '<|start|>' + m['role'] + '<|message|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""

# As GLM and Nemotron have it: `reasoning_content`, brackets, kept in every turn.
BRACKETS = """{% for m in messages %}{% if m['role']=='assistant' %}{{ '<|Assistant|>' }}\
{% if m.reasoning_content %}{{ '[THINK]' + m.reasoning_content + '[/THINK]' }}{% endif %}\
{{ m['content'] + '</s>' }}{% else %}{{ '<|User|>' + m['content'] }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}"""

# As Mistral's releases have it: the system text stands in the last turn, if that is a user's.
LATE_SYSTEM = """{{ bos_token }}{% if messages[0]['role']=='system' %}\
{% set said=messages[0]['content'] %}{% set turns=messages[1:] %}{% else %}\
{% set turns=messages %}{% endif %}{% for m in turns %}\
{% if m['role']=='user' %}{{ '[INST] ' }}{% if loop.last and said is defined %}\
{{ said + '\n\n' }}{% endif %}{{ m['content'] + '[/INST]' }}\
{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"""

# As Cohere's have it: the response is closed, then the turn.
TWO_ENDS = """{% for m in messages %}{% if m['role']=='assistant' %}{{ '<|Assistant|>' }}\
{{ '<|im_start|>' + m['content'] + '<|im_end|></s>' }}{% else %}\
{{ '<|User|>' + m['content'] + '</s>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|Assistant|>' }}{% endif %}"""

# Blank lines close a turn before its end token does.
ALPACA = """{% for m in messages %}{% if m['role']=='user' %}{{ '### Instruction:
' + m['content'] + '

' }}{% else %}{{ '### Response:
' }}{{ m['content'] + '

' + eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:
' }}{% endif %}"""

DATED = "{{ 'Today is ' + strftime_now('%d %B %Y') + '.\n' }}" + CHATML

SPECIAL = [
    "<|endoftext|>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|User|>",
    "<|Assistant|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|channel|>",
    "<|return|>",
    "<s>",
]
