"""The control room: what an agent does so that all nodes agree, and go on without agreement when it cannot be had.

`driver` composes the parts, each of which does one thing on the store or on the wire and decides nothing itself
(decisions are in core): `membership` keeps this node's record, `census` knows all members, `leadership` runs the
election, `prober` looks at others, `reporter` and `peers` tell everyone what was seen, `inbox` keeps what was told,
`aggregator` judges while this node leads, `board` holds the verdict in force, `grants` this node's seats for limits and
`limit_values` what limits allow, `config_watch` the document, `stores` the health of etcd.

Invariant: nothing here is waited for by a request. Every part survives the store's absence, and says so.
"""
