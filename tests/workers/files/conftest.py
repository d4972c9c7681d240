from tests.workers.files.stores import s3, store  # noqa: F401 - fixtures
