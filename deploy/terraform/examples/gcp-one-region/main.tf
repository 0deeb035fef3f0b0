# One region of Google Cloud: three members of etcd in three zones, three nodes or more.
terraform {
  required_version = ">= 1.9, < 2.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 7.0"
    }
  }
}

provider "google" {
  project = var.project
}

locals {
  authority = "etcd-1"
  nodes     = { min = 3, max = 6 } # all but one of the least number are name servers

  regions = {
    eu-west = {
      cloud_region = "europe-west1"
      cidr         = "10.1.0.0/16"
      zones        = ["b", "c", "d"]
      etcd         = { etcd-1 = 0, etcd-2 = 1, etcd-3 = 2 }
    }
  }

  # Members of etcd have addresses that are known before they are there.
  etcd_members = {
    for number in [1, 2, 3] : "etcd-${number}" => cidrhost(local.regions["eu-west"].cidr, 9 + number)
  }
}

# One network for all regions: Google's reach around the world, so nothing has to be joined.
resource "google_compute_network" "cluster" {
  name                    = var.name
  auto_create_subnetworks = false
}

module "region" {
  source   = "../../modules/gcp/cluster"
  for_each = local.regions

  name             = var.name
  region           = each.key
  cloud_region     = each.value.cloud_region
  network          = google_compute_network.cluster.id
  cidr             = each.value.cidr
  regions          = { for name, one in local.regions : name => one.cidr }
  zones            = [for zone in each.value.zones : "${each.value.cloud_region}-${zone}"]
  etcd_members     = local.etcd_members
  etcd_here        = each.value.etcd
  authority_member = contains(keys(each.value.etcd), local.authority) ? local.authority : ""
  nodes            = local.nodes
  limit_nodes      = length(local.regions) * local.nodes.max
  zone             = var.zone
  authority        = "https://${local.etcd_members[local.authority]}:9902"
  join_token       = var.join_token
  bundle_url       = var.bundle_url
  bundle_sha256    = var.bundle_sha256
  operator_cidrs   = var.operator_cidrs
  emails           = var.emails
}
