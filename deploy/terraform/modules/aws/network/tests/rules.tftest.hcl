mock_provider "aws" {}

variables {
  region        = "eu-west"
  cidr          = "10.1.0.0/16"
  cluster_cidrs = ["10.1.0.0/16", "10.2.0.0/16"]
  zones         = ["eu-west-1a"]
}

run "only_dns_and_listeners_are_open_to_the_world" {
  command = apply

  assert {
    condition = toset([for name, rule in aws_security_group_rule.in : name if contains(rule.cidr_blocks, "0.0.0.0/0")]) == toset([
      "node-tcp-53", "node-udp-53", "node-tcp-80", "node-tcp-443", "node-udp-443",
    ])
    error_message = "Something else is open to the world."
  }

  assert {
    condition = alltrue([
      for name in ["node-peers", "etcd-clients", "etcd-peers", "etcd-authority"] : aws_security_group_rule.in[name].cidr_blocks == tolist(var.cluster_cidrs)
    ])
    error_message = "What machines say to each other comes from the cluster's networks only."
  }
}

run "operators_come_from_where_they_say" {
  command = apply
  variables { operator_cidrs = ["192.0.2.0/24"] }

  assert {
    condition     = aws_security_group_rule.in["node-admin"].cidr_blocks == tolist(["192.0.2.0/24"]) && aws_security_group_rule.in["etcd-ssh"].from_port == 22
    error_message = "SSH and the admin API for operators."
  }
}
