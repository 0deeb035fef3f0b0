# Three regions of Google Cloud: a member of etcd and two nodes or more in each. Survives the loss of any region.
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
  authority = "etcd-eu-west"
  nodes     = { min = 2, max = 4 } # all but one of the least number are name servers

  # No two networks may overlap.
  regions = {
    eu-west = {
      cloud_region = "europe-west1"
      cidr         = "10.1.0.0/16"
      zones        = ["b", "c"]
      etcd         = { etcd-eu-west = 0 }
    }
    us-east = {
      cloud_region = "us-east1"
      cidr         = "10.2.0.0/16"
      zones        = ["b", "c"]
      etcd         = { etcd-us-east = 0 }
    }
    ap-south = {
      cloud_region = "asia-south1"
      cidr         = "10.3.0.0/16"
      zones        = ["a", "b"]
      etcd         = { etcd-ap-south = 0 }
    }
  }

  # A member of etcd in each region, at an address that is known before it is there.
  etcd_members = { for region, one in local.regions : "etcd-${region}" => cidrhost(one.cidr, 10) }
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
