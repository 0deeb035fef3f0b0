"""Meridian: a gateway cluster over several regions that stays up when any part of it dies.

Glossary, one word for one thing:

downstream  the client's side of the gateway.
upstream    a named set of endpoints that serve the same thing.
endpoint    one address (host and port) of an upstream.
listener    an address where a node accepts downstream connections.
route       a rule from host, path and method to an upstream.
stage       one step that a request passes on its route, in a visible order.
exchange    one request and its answer, from head to last byte.
document    what the operator writes; versioned and applied as a whole.
snapshot    the document compiled for workers: immutable, replaced whole.
node        one machine of a region; launcher, agent, gateway workers and DNS worker together.
region      a place where nodes stand; the unit of geography.
report      what one node saw of the others' health.
verdict     the leader's one judgement of all nodes and regions, versioned and fenced.
fallback    a node's own merge of the reports, while no leader's verdict is heard.
fence       the create revision of the leader's key; a lower one is refused.
grant       the share of a limit that a node may spend.
"""
