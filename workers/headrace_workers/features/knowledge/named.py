"""The knowledge base that a job names: whether it exists is asked before the job is taken in."""

Base = tuple[str, str]  # the tenant, and the name of the base


def no_such_base(base: Base) -> str:
    """Say that a tenant has no base of this name, and how it gets one."""
    tenant, name = base
    return (
        f"{tenant} has no knowledge base {name!r}: `headrace knowledge add {name} PATH --tenant {tenant}` makes it; "
        "then ask again, or `headrace dead replay` this job"
    )
