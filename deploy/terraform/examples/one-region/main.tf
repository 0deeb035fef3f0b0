# One region: three zones, a member of etcd and a node or more in each. Survives the loss of a zone.
terraform {
  required_version = ">= 1.9, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0, < 7.0"
    }
  }
}

provider "aws" {
  region = "eu-west-1"
}

locals {
  # Networks of all regions; no two may overlap, as they are joined.
  regions = {
    eu-west = "10.1.0.0/16"
  }

  # A member of etcd in each zone, at an address that is known before it is there.
  etcd_members = {
    etcd-1 = cidrhost(cidrsubnet(local.regions["eu-west"], 4, 0), 10)
    etcd-2 = cidrhost(cidrsubnet(local.regions["eu-west"], 4, 1), 10)
    etcd-3 = cidrhost(cidrsubnet(local.regions["eu-west"], 4, 2), 10)
  }

  # What every region is told alike.
  nodes = { min = 3, max = 6 }
  common = {
    limit_nodes = 1 * local.nodes.max
    authority   = "https://${local.etcd_members["etcd-1"]}:9902"
  }
}

module "eu_west" {
  source = "../../modules/aws/cluster"

  name             = var.name
  region           = "eu-west"
  cidr             = local.regions["eu-west"]
  regions          = local.regions
  zones            = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
  etcd_members     = local.etcd_members
  etcd_here        = { etcd-1 = 0, etcd-2 = 1, etcd-3 = 2 }
  authority_member = "etcd-1"
  nodes            = local.nodes
  limit_nodes      = local.common.limit_nodes
  zone             = var.zone
  authority        = local.common.authority
  join_token       = var.join_token
  bundle_url       = var.bundle_url
  bundle_sha256    = var.bundle_sha256
  operator_cidrs   = var.operator_cidrs
  key_name         = var.key_name
  emails           = var.emails
}
