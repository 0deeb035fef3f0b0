# One location of Hetzner: three members of etcd, three nodes.
terraform {
  required_version = ">= 1.9, < 2.0"

  required_providers {
    hcloud = {
      source  = "hetznercloud/hcloud"
      version = ">= 1.58, < 2.0"
    }
  }
}

provider "hcloud" {} # HCLOUD_TOKEN says who asks

locals {
  authority = "etcd-1"
  nodes     = { min = 3, max = 6 } # three run; as many as max may come

  regions = {
    falkenstein = {
      cidr      = "10.1.0.0/16"
      locations = ["fsn1"]
      etcd      = { etcd-1 = 0, etcd-2 = 0, etcd-3 = 0 }
    }
  }

  # Members of etcd have addresses that are known before they are there.
  etcd_members = {
    for number in [1, 2, 3] : "etcd-${number}" => cidrhost(local.regions["falkenstein"].cidr, 9 + number)
  }
}

# One network for all regions. It does not leave its network zone, so neither does a cluster.
resource "hcloud_network" "cluster" {
  name     = var.name
  ip_range = "10.0.0.0/8"
}

module "region" {
  source   = "../../modules/hetzner/cluster"
  for_each = local.regions

  name             = var.name
  region           = each.key
  network_id       = hcloud_network.cluster.id
  cidr             = each.value.cidr
  regions          = { for name, one in local.regions : name => one.cidr }
  zones            = each.value.locations
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
  ssh_keys         = var.ssh_keys
}
