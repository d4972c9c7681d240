"""The command line, with a judge that hangs on some outputs and short bounds: what test_process_hung.py runs.

`hang` waits for ever. `spin` is a pattern that backtracks for ever: it computes, and lets no other thread compute.
"""

import re
import time
from dataclasses import replace

from headrace_schemas import EvaluationJob
from headrace_workers.features.judging import stage
from headrace_workers.features.judging.stage import judge
from headrace_workers.runtime.health import watched
from headrace_workers.runtime.worker import runs


def _hanging_judge(tasks, **known):
    words = {task.job.output for task in tasks if isinstance(task.job, EvaluationJob)}
    if "hang" in words:
        time.sleep(1e6)
    if "spin" in words:
        re.match("(a+)+b", "a" * 64)
    return judge(tasks, **known)


stage.STAGES = tuple(  # the pipeline is built later
    replace(item, step=_hanging_judge) if item.step is judge else item for item in stage.STAGES
)
runs.MODEL = runs.LIGHT
watched.available_cores = lambda: 0.4  # two fifths of its bound in CPU time, of which each spin takes all

if __name__ == "__main__":
    from headrace_workers.__main__ import main

    main()
