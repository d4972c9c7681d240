"""The command line, with a model whose answers are held to two capitals, and which waits where a stopped row goes on.

It makes the file `going-on` in its home, and waits until somebody kills it: what test_killed_in_a_rerun.py runs.
"""

import os
import time
from pathlib import Path

from headrace_schemas.output_format import RegexFormat
from headrace_workers.models.engines import ctranslate2_generator
from headrace_workers.models.structured.grammar import grammar_of


class _Waiting(ctranslate2_generator.CTranslate2Generator):
    def _go_on(self, prompts):
        if os.environ.get("WAITS"):
            Path(os.environ["HEADRACE_HOME"], "going-on").touch()
            time.sleep(1e6)
        return super()._go_on(prompts)


ctranslate2_generator.grammar_for = lambda *_: grammar_of(RegexFormat(pattern="[A-Z]{2}"))
ctranslate2_generator.CTranslate2Generator = _Waiting

if __name__ == "__main__":
    from headrace_workers.__main__ import main

    main()
