"""The cluster's private authority: certificates for agents and etcd members, handed out for tokens, renewed in time."""
