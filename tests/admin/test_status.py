"""What is concluded from a status."""

import pytest

from meridian.admin.status import NodeStatus, RegionStatus, Standing, Status, StoreStatus, WorkerStatus, why_not_ready


def status(standing: Standing, *, version: int, kind: str = "gateway") -> Status:
    return Status(
        cluster="test",
        node="a",
        store=StoreStatus(reachable=False),
        nodes=(NodeStatus(name="a", region="eu", standing=standing), NodeStatus(name="b", region="us")),
        workers=(WorkerStatus(kind=kind, slot=0, config_version=version),),
    )


@pytest.mark.parametrize("standing", ["serving", "suspect", "unknown"])
def test_a_node_that_serves_is_ready_whatever_the_store_does(standing: Standing) -> None:
    assert why_not_ready(status(standing, version=3)) is None


@pytest.mark.parametrize("standing", ["draining", "withdrawn"])
def test_a_node_that_leaves_is_not(standing: Standing) -> None:
    assert why_not_ready(status(standing, version=3)) == f"this node is {standing}"


def test_a_node_that_leaves_in_steps_is_until_it_is_gone() -> None:
    leaving = status("draining", version=3)
    for share, why in ((0.25, None), (0.0, "this node is draining")):
        region = RegionStatus(name="eu", standing="draining", share=share)
        assert why_not_ready(leaving.model_copy(update={"regions": (region,)})) == why
    alone = RegionStatus(name="eu", standing="serving")  # others of its region stay
    assert why_not_ready(leaving.model_copy(update={"regions": (alone,)})) is not None


def test_a_node_without_a_document_is_not() -> None:
    assert why_not_ready(status("serving", version=0)) is not None
    assert why_not_ready(status("serving", version=3, kind="dns")) is not None
