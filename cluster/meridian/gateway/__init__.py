"""The data plane: listeners, the walk of one request, upstream pools. One `Snapshot` at a time; never waits for
etcd, the agent, the leader or another node (invariant 1)."""
