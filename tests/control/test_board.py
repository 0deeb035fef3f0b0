from meridian.control.board import Board
from meridian.core.verdicts import Verdict


def test_only_a_greater_verdict_is_posted() -> None:
    posted: list[Verdict] = []
    board = Board(posted.append)
    for fence, version in ((5, 1), (5, 1), (4, 9), (5, 2), (9, 2)):
        board.post(Verdict(fence, version))
    assert [(v.fence, v.version) for v in posted] == [(5, 1), (5, 2), (9, 2)]
    assert board.verdict == Verdict(9, 2)
