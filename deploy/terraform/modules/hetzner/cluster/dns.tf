# Addresses that stay when a machine is replaced: every node is a name server at its own.
resource "hcloud_primary_ip" "node" {
  for_each = local.nodes

  name              = "${var.name}-${each.key}"
  type              = "ipv4"
  assignee_type     = "server"
  location          = var.zones[(each.value - 1) % length(var.zones)]
  auto_delete       = false
  delete_protection = true
  labels            = merge(local.labels, { role = "dns" })
}
