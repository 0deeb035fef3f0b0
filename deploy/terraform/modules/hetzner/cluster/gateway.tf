# Nodes: as many machines as nodes.min says, since Hetzner has no groups that grow. Each has an address that outlives it.
# One that is taken away is shut down first, and its shutdown stops the unit, which lets the node leave. It serves on all
# its addresses, the world's too, and other nodes reach it on the private one.
locals {
  nodes = { for number in range(1, var.nodes.min + 1) : "ns-${var.region}-${number}" => number }
}

resource "hcloud_server" "node" {
  for_each = local.nodes

  name                     = "${var.name}-${var.region}-${each.value}"
  server_type              = var.server_types.node
  image                    = var.image
  location                 = var.zones[(each.value - 1) % length(var.zones)]
  ssh_keys                 = var.ssh_keys
  firewall_ids             = [hcloud_firewall.this["node"].id]
  placement_group_id       = hcloud_placement_group.this.id
  shutdown_before_deletion = true
  labels                   = merge(local.labels, { role = "node" })

  user_data = templatefile(local.template, merge(local.machine, {
    roles          = ["node"]
    name           = "${var.region}-${each.value}"
    address_flag   = "--peer-address"
    address        = "echo ${cidrhost(var.cidr, 100 + each.value)}"
    public_address = "echo ${hcloud_primary_ip.node[each.key].ip_address}"
    node_args      = local.node_flags
  }))

  network {
    network_id = var.network_id
    ip         = cidrhost(var.cidr, 100 + each.value)
    alias_ips  = []
  }

  public_net {
    ipv4 = hcloud_primary_ip.node[each.key].id
  }

  lifecycle {
    # A token that has run out is no reason to replace what runs: terraform apply -replace=... does that, one by one.
    ignore_changes = [user_data, ssh_keys]
  }

  depends_on = [hcloud_network_subnet.this]
}
