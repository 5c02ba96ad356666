"""A baseline: Castro and Liskov's PBFT (OSDI 1999; TOCS 20(4), 2002), its normal case only.

Theory of operation.  ``n = 3f+1`` replicas execute the same sequence of requests.  The primary, replica 0, gives each
*batch* of requests a sequence number and sends it around (PRE-PREPARE); a replica that accepts it says so to all others
(PREPARE); one that has heard this from 2f backups is *prepared* and says that (COMMIT); with 2f+1 of those the batch is
*committed*.  There is no view change and no state transfer: **failure-free runs only**.  A dead backup is tolerated, a
dead primary ends the run with an error.

What the papers call optimisations, and what is done here:

* batching with a sliding window: the primary orders what has come when fewer than ``window`` batches are on their way;
* authenticators: a MAC per receiver.  One keyed BLAKE2b per pair of replicas and batch gives all four MACs that the two
  exchange about it (:mod:`core.macs`).  Connections are from one to one, so everybody gets only the MAC meant for it;
* tentative execution: a batch is executed as soon as it is prepared and everything before it is committed, which takes
  a message delay off; the client then waits for 2f+1 replies that agree instead of f+1;
* commits travel with the next prepare or pre-prepare where one follows soon, since nobody waits for them;
* read-only requests go to all replicas at once and are executed in the state of the moment, but answered only when
  that is committed; the client needs 2f+1 that agree, and has the request ordered when it cannot get them;
* digest replies: of a long result one replica sends all and the others a digest;
* separate transmission: a client sends long requests to all replicas, and the primary orders their digests.  Short
  ones it sends to the primary only, at first;
* checkpoints: every so many batches the replicas compare digests of their states, kept up incrementally; when 2f+1
  agree, the log before goes, and the water marks move.

Beyond the papers, because our own client does likewise: requests that one client process has at the same moment travel
as one *bundle* under one authenticator.

Modules: :mod:`core` is the protocol, free of I/O and clocks: :mod:`core.tuning` (every number), :mod:`core.macs`,
:mod:`core.messages`, :mod:`core.slots` (the log), :mod:`core.agreement` (the three phases), :mod:`core.state`
(execution and what is durable), :mod:`core.ordering` (the replica's state machine) and :mod:`core.client`.  :mod:`keys`
makes clusters, :mod:`service` and :mod:`driver` join the core to our reactor and our client's driver, and
:mod:`runner` measures.
"""

import qunfs as qunfs  # which makes compiled code known, before any of it is imported from here
