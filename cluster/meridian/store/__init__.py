"""The store: the few things that all nodes agree on, behind one narrow port.

`port` says what a store is; `etcd` and `embedded` are the two there are, and one contract suite holds both to it.
`keys` spells every key, `documents` keeps the operator's versions, `mirror` keeps a consumer's view of a prefix true.

Words: a *revision* counts the store's changes and only rises. A *lease* is a promise to stay in touch; when it ends,
the keys bound to it go. To *compact* is to forget the history below a revision. A *member* is one etcd server.
"""
