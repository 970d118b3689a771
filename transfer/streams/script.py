"""What is sent to the far side, and the one command line that takes it."""

from __future__ import annotations

import json
from pathlib import Path

from transfer.streams import far_files, far_group, far_line, far_listener, far_side

_MODULES = (far_files, far_group, far_line, far_listener, far_side)
_NAMES = [*(module.__name__ for module in _MODULES[:-1]), "__main__"]
_TEXTS = json.dumps([(name, Path(str(m.__file__)).read_text()) for name, m in zip(_NAMES, _MODULES, strict=True)])
_ASSEMBLER = """\
import json, sys, types
for name, text in json.loads(sys.stdin.buffer.read(%d).decode()):
    module = sys.modules[name] if name == "__main__" else types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, name, "exec"), module.__dict__)
"""

_TEXT_BYTES = _TEXTS.encode()
_FIRST = (_ASSEMBLER % len(_TEXT_BYTES)).encode()
COMMAND = (
    'exec env "PATH=/usr/bin:/bin:$PATH" python3 -I -S -c '
    f"'import sys; exec(sys.stdin.buffer.read({len(_FIRST)}).decode())'"
)
"""A constant of one line that every shell takes; no file name and no secret is ever in it. The system's own Python
goes before the account's, which is often a slow wrapper around others."""
SCRIPT = _FIRST + _TEXT_BYTES
"""What `COMMAND` reads from its standard input before the frames."""
