"""The command line, with Redis given a second for an answer: what test_process_redis.py runs where Redis is silent."""

from headrace_workers.core import redis
from headrace_workers.runtime.wire import celery_app

redis.redis_client.__defaults__ = celery_app.create_app.__defaults__ = (1.0,)

if __name__ == "__main__":
    from headrace_workers.__main__ import main

    main()
