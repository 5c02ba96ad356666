"""The paper's own results, to stand beside ours: other machines, other decade, C++ (section 4.1).

Six Pentium 4 servers and more, one for each replica, with clients on further ones.
"""

from collections.abc import Mapping
from typing import Final

THROUGHPUT: Final[Mapping[str, Mapping[int, float]]] = {
    "Q/U": {1: 25_660, 5: 16_420},
    "BFT": {1: 23_670, 5: 4_020},
}
"""Figure 4 at b=1 and b=5, in requests per second.  The figure has no numbers: these follow from the four of the text
(Q/U is ahead by 1990 and by 12400 and loses 36 % from b=1 to b=5, BFT loses 83 %; section 4.2)."""

LOST: Final[Mapping[str, float]] = {"Q/U": 0.36, "BFT": 0.83}
"""The share of the throughput that is lost from b=1 to b=5 (section 4.2)."""

RESPONSE_US: Final[Mapping[str, float]] = {"preferred": 402, "random": 598}
"""An increment by a single client at b=1, by quorum access policy (section 4.3)."""

CONTENTION_US: Final[Mapping[str, Mapping[str, Mapping[int, float]]]] = {
    "fetch": {"isolated": {0: 320, 1: 331, 2: 329, 3: 326}, "contending": {1: 348, 2: 336, 3: 339, 4: 361}},
    "increment": {"isolated": {0: 693, 1: 709, 2: 700, 3: 692}, "contending": {1: 1210, 2: 2690, 3: 4930, 4: 11400}},
}
"""Table 2: average response times by the number of contending clients, of which five run."""

NFS_US: Final[Mapping[str, float]] = {
    "getattr": 570, "lookup": 586, "readlink": 563, "readdir": 586,
    "setattr": 624, "create": 718, "link": 690, "remove": 686, "rename": 780,
}  # fmt: skip
"""Table 3: average response times at b=1 (where "remove" is called unlink)."""

POSTMARK_PER_S: Final[Mapping[int, float]] = {0: 129, 1: 114, 2: 102, 3: 93, 4: 84, 5: 76}
"""Table 4: transactions per second by b; 5000 files and 20000 transactions."""
