# Nodes. All but one of the least number are machines with addresses that stay: the region's name servers (dns.tf). The
# rest is a group that grows and shrinks by processors. A machine that is told to end gets 90 s from Google (30 s if it was
# spot): its shutdown stops the unit, which lets the node leave in 25 s at most. No machine has a service account.
locals {
  metadata = "curl -fsS -H Metadata-Flavor:Google http://169.254.169.254/computeMetadata/v1/instance"
  servers  = { for number in range(1, var.nodes.min) : "ns-${var.region}-${number}" => var.zones[(number - 1) % length(var.zones)] }
}

resource "google_compute_instance_template" "node" {
  name_prefix  = "${local.prefix}-node-"
  region       = var.cloud_region
  machine_type = var.machine_types.node
  tags         = ["${local.prefix}-node"]
  labels       = merge(local.labels, { role = "node" })

  disk {
    source_image = var.image
    disk_size_gb = 10
    disk_type    = "pd-balanced"
  }

  network_interface {
    subnetwork = google_compute_subnetwork.this.id
    access_config {}
  }

  metadata = {
    user-data = templatefile(local.template, merge(local.machine, {
      roles          = ["node"]
      name           = "$(hostname)"
      address        = "${local.metadata}/network-interfaces/0/ip"
      public_address = "${local.metadata}/network-interfaces/0/access-configs/0/external-ip"
      node_args      = local.node_flags
    }))
    enable-oslogin = "TRUE"
  }

  shielded_instance_config {
    enable_secure_boot = true
  }

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = var.nodes.min >= 2
      error_message = "nodes.min is 2 at least: one name server with an address that stays, and the group's first."
    }
  }
}

resource "google_compute_instance_from_template" "server" {
  for_each = local.servers

  name                     = "${var.name}-${each.key}"
  zone                     = each.value
  source_instance_template = google_compute_instance_template.node.self_link_unique

  network_interface {
    subnetwork = google_compute_subnetwork.this.id

    access_config {
      nat_ip = google_compute_address.server[each.key].address
    }
  }
}

resource "google_compute_region_instance_group_manager" "node" {
  name                      = "${local.prefix}-node"
  region                    = var.cloud_region
  base_instance_name        = "${local.prefix}-node"
  distribution_policy_zones = var.zones
  wait_for_instances        = false # machines wait for the authority, which an operator brings

  version {
    instance_template = google_compute_instance_template.node.self_link_unique
  }

  # A new bundle or image goes out one machine after the other; the old one leaves when the new one runs.
  update_policy {
    type                         = "PROACTIVE"
    minimal_action               = "REPLACE"
    instance_redistribution_type = "NONE"
    max_surge_fixed              = length(var.zones)
    max_unavailable_fixed        = 0
  }
}

resource "google_compute_region_autoscaler" "node" {
  name   = "${local.prefix}-node"
  region = var.cloud_region
  target = google_compute_region_instance_group_manager.node.id

  autoscaling_policy {
    min_replicas    = 1
    max_replicas    = var.nodes.max - length(local.servers)
    cooldown_period = 180

    cpu_utilization {
      target = var.nodes.cpu_percent / 100
    }
  }
}
