from tests.workers.features.files.stores import s3, store  # noqa: F401 - fixtures
