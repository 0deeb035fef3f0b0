# The region's part of the cluster's network, and who may reach which machines from the world. Hetzner's firewalls do not
# see the private network: there mutual TLS is the only line, as it is the first one everywhere.
locals {
  prefix = "${var.name}-${var.region}"
  labels = merge(var.labels, { cluster = var.name, region = var.region, managed-by = "terraform" })
}

resource "hcloud_network_subnet" "this" {
  network_id   = var.network_id
  type         = "cloud"
  network_zone = var.network_zone
  ip_range     = var.cidr
}

resource "hcloud_firewall" "this" {
  for_each = toset(["node", "etcd"])

  name   = "${local.prefix}-${each.key}"
  labels = local.labels

  dynamic "rule" {
    # What comes from the cluster's own network passes no firewall, so it needs no rule.
    for_each = { for name, one in local.rules : name => one if one.role == each.key && toset(one.from) != toset(values(var.regions)) }

    content {
      description = rule.key
      direction   = "in"
      protocol    = rule.value.protocol
      port        = tostring(rule.value.port)
      source_ips  = rule.value.from
    }
  }
}

resource "hcloud_placement_group" "this" {
  name   = local.prefix
  type   = "spread"
  labels = local.labels

  lifecycle {
    precondition {
      condition     = var.nodes.min + length(var.etcd_here) <= 10
      error_message = "Hetzner keeps ten machines apart at most: nodes.min and members of etcd of a region are ten together."
    }
  }
}
