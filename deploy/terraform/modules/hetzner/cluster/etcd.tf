# Members of the cluster's etcd that stand in this region, each with the address that all others were told.
resource "hcloud_server" "member" {
  for_each = var.etcd_here

  name               = "${var.name}-${each.key}"
  server_type        = var.server_types.etcd
  image              = var.image
  location           = var.zones[each.value]
  ssh_keys           = var.ssh_keys
  firewall_ids       = [hcloud_firewall.this["etcd"].id]
  placement_group_id = hcloud_placement_group.this.id
  delete_protection  = true
  rebuild_protection = true
  user_data          = templatefile(local.template, local.etcd_machines[each.key])
  labels             = merge(local.labels, { role = "etcd" })

  network {
    network_id = var.network_id
    ip         = var.etcd_members[each.key]
    alias_ips  = [] # the provider says to: otherwise each apply detaches the network
  }

  lifecycle {
    # A newer image, or another token, is no reason to replace a member: that is done one by one, by hand (docs/deploy.md).
    ignore_changes = [image, user_data, ssh_keys]
  }

  depends_on = [hcloud_network_subnet.this]
}
