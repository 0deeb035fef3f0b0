# The region's subnet in the cluster's VPC, and who may reach which machines: those with the tag of their role. Between
# machines of the cluster everything speaks mutual TLS; the rules are the second line. What leaves is allowed by default.
locals {
  prefix = "${var.name}-${var.region}"
  labels = merge(var.labels, { cluster = var.name, region = var.region, managed-by = "terraform" })
}

resource "google_compute_subnetwork" "this" {
  name          = local.prefix
  region        = var.cloud_region
  network       = var.network
  ip_cidr_range = var.cidr
}

resource "google_compute_firewall" "in" {
  for_each = local.rules

  name          = "${local.prefix}-${each.key}"
  network       = var.network
  direction     = "INGRESS"
  source_ranges = each.value.from
  target_tags   = ["${local.prefix}-${each.value.role}"]

  allow {
    protocol = each.value.protocol
    ports    = [tostring(each.value.port)]
  }
}
