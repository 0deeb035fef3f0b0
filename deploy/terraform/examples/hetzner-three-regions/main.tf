# Three locations of Hetzner: a member of etcd and two nodes in each. Survives the loss of any location.
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
  authority = "etcd-falkenstein"
  nodes     = { min = 2, max = 4 } # two run in each; as many as max may come

  # No two networks may overlap. All three are in the network zone eu-central.
  regions = {
    falkenstein = {
      cidr      = "10.1.0.0/16"
      locations = ["fsn1"]
      etcd      = { etcd-falkenstein = 0 }
    }
    nuremberg = {
      cidr      = "10.2.0.0/16"
      locations = ["nbg1"]
      etcd      = { etcd-nuremberg = 0 }
    }
    helsinki = {
      cidr      = "10.3.0.0/16"
      locations = ["hel1"]
      etcd      = { etcd-helsinki = 0 }
    }
  }

  # A member of etcd in each region, at an address that is known before it is there.
  etcd_members = { for region, one in local.regions : "etcd-${region}" => cidrhost(one.cidr, 10) }
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
