"""The bases of every value on the wire. Unknown fields are refused in what comes in, passed over in what goes out."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """A frozen value. Equality is by content; unknown fields and non-finite floats are refused."""

    # Validators are built when first used: a producer imports all events, and uses one or two.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=False, defer_build=True
    )


class OutgoingValue(Value):
    """A value that headrace tells: a reader of this version passes over what a later one adds."""

    model_config = ConfigDict(extra="ignore")
