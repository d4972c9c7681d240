import uuid

from hypothesis import given
from hypothesis import strategies as st

from headrace_schemas.uuids import Namespace


@given(st.uuids(), st.text(st.characters(exclude_categories=["Cs"])))
def test_ids_are_those_of_the_standard_library(namespace: uuid.UUID, name: str) -> None:
    assert Namespace(namespace).id_of(name) == str(uuid.uuid5(namespace, name))
