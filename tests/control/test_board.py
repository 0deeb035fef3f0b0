from meridian.control.board import Board
from meridian.core.verdicts import NodeVerdict, Standing, Verdict


def test_only_a_greater_verdict_is_posted() -> None:
    posted: list[Verdict] = []
    board = Board(posted.append)
    for fence, version in ((5, 1), (5, 1), (4, 9), (5, 2), (9, 2)):
        board.post(Verdict(fence, version))
    assert [(v.fence, v.version) for v in posted] == [(5, 1), (5, 2), (9, 2)]
    assert board.verdict == Verdict(9, 2)


def test_a_merge_is_in_force_until_a_greater_verdict_or_the_same_one_again() -> None:
    posted: list[Verdict] = []
    board = Board(posted.append)
    base = Verdict(5, 1, {"a": NodeVerdict("a", "eu", (), Standing.SERVING)})
    merged = Verdict(5, 1, {"a": NodeVerdict("a", "eu", (), Standing.WITHDRAWN)}, fallback=1)
    board.post(base)
    assert board.withdrawn_here() == frozenset()
    board.fall_back(merged)
    assert (board.verdict, board.fenced) == (merged, base)
    assert board.withdrawn_here() == {"a"}
    board.come_back()
    board.come_back()
    board.fall_back(merged)
    assert board.post(Verdict(5, 2))
    assert posted == [base, merged, base, merged, Verdict(5, 2)]
    assert board.withdrawn_here() == frozenset()
