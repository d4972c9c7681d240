from tests.costs import COLLECTION, SERVICES, Costs


def test_a_run_ends_with_the_files_that_take_most() -> None:
    costs = Costs()
    costs.seconds.update({COLLECTION: 10.0, SERVICES: 100.0, **{f"test_{n}.py": float(n) for n in range(12)}})
    total, first, second, *_ = lines = costs.told()
    assert total == "176 CPU seconds, 10 of them for collection, 100 for services"
    assert (first.split(), second.split()) == (["11.0", "test_11.py"], ["10.0", "test_10.py"])
    assert len(lines) == 11


def test_a_few_files_are_not_listed() -> None:
    costs = Costs()
    costs.charge("test_a.py")
    assert costs.told() == []
