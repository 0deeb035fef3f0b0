# Members of the cluster's etcd that stand in this region, each with the address that all others were told. A member is a
# machine of its own and not a group's: who replaces one by itself loses its data. Disks are encrypted, as all are there.
resource "google_compute_instance" "member" {
  for_each = var.etcd_here

  name                = "${var.name}-${each.key}"
  zone                = var.zones[each.value]
  machine_type        = var.machine_types.etcd
  tags                = ["${local.prefix}-etcd"]
  labels              = merge(local.labels, { role = "etcd" })
  deletion_protection = true

  boot_disk {
    auto_delete = false

    initialize_params {
      image = var.image
      size  = 16
      type  = "pd-ssd"
    }
  }

  network_interface {
    subnetwork = google_compute_subnetwork.this.id
    network_ip = var.etcd_members[each.key]
    # It fetches the bundle and packages; nobody comes in from there (see the rules).
    access_config {}
  }

  metadata = {
    user-data      = templatefile(local.template, local.etcd_machines[each.key])
    enable-oslogin = "TRUE"
  }

  shielded_instance_config {
    enable_secure_boot = true
  }

  lifecycle {
    # A newer image, or another token, is no reason to touch a member: that is done one by one, by hand (docs/deploy.md).
    ignore_changes = [boot_disk, metadata["user-data"]]
  }
}
