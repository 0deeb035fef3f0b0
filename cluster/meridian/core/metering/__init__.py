"""Limits that count: windows, quotas and what is under way; never more than N per key, cluster-wide.

They need no rate, so they have no level that accrues: a **meter** is one worker's part of one limit, and counts. Its
**portion** is the whole numbers that its slices give it; the portions of a key sum to exactly N. So N is kept if every
meter keeps its own part, by its own clock, with nobody asked (escrow: O'Neil, The Escrow Transactional Method, 1986).

Every meter has `look` (takes nothing) and `admit` (takes one), with no I/O and no clock of its own, so that several
limits can be looked at and then taken in one step.

Modules in reading order: `portions` (the cut), `windows` (so many in any window; may lend), `calendar` and `quotas` (so
many in a day or month; survive a restart), `concurrency` (so many at a time).
"""
