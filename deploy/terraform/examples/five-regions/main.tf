# Five regions: a member of etcd and two nodes or more in each. Survives the loss of any two regions.
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
  alias  = "eu_west"
  region = "eu-west-1"
}

provider "aws" {
  alias  = "us_east"
  region = "us-east-1"
}

provider "aws" {
  alias  = "ap_south"
  region = "ap-south-1"
}

provider "aws" {
  alias  = "us_west"
  region = "us-west-2"
}

provider "aws" {
  alias  = "sa_east"
  region = "sa-east-1"
}

locals {
  # Networks of all regions; no two may overlap, as they are joined.
  regions = {
    eu-west  = "10.1.0.0/16"
    us-east  = "10.2.0.0/16"
    ap-south = "10.3.0.0/16"
    us-west  = "10.4.0.0/16"
    sa-east  = "10.5.0.0/16"
  }

  # A member of etcd in each region, at an address that is known before it is there.
  etcd_members = {
    etcd-eu-west  = cidrhost(local.regions["eu-west"], 10)
    etcd-us-east  = cidrhost(local.regions["us-east"], 10)
    etcd-ap-south = cidrhost(local.regions["ap-south"], 10)
    etcd-us-west  = cidrhost(local.regions["us-west"], 10)
    etcd-sa-east  = cidrhost(local.regions["sa-east"], 10)
  }

  # What every region is told alike.
  nodes = { min = 2, max = 4 }
  common = {
    limit_nodes = 5 * local.nodes.max
    authority   = "https://${local.etcd_members["etcd-eu-west"]}:9902"
  }
}

module "eu_west" {
  source = "../../modules/aws/cluster"

  providers = { aws = aws.eu_west }

  name             = var.name
  region           = "eu-west"
  cidr             = local.regions["eu-west"]
  regions          = local.regions
  zones            = ["eu-west-1a", "eu-west-1b"]
  etcd_members     = local.etcd_members
  etcd_here        = { etcd-eu-west = 0 }
  authority_member = "etcd-eu-west"
  peerings = {
    (local.regions["us-east"])  = aws_vpc_peering_connection.eu_west_us_east.id
    (local.regions["ap-south"]) = aws_vpc_peering_connection.eu_west_ap_south.id
    (local.regions["us-west"])  = aws_vpc_peering_connection.eu_west_us_west.id
    (local.regions["sa-east"])  = aws_vpc_peering_connection.eu_west_sa_east.id
  }
  nodes          = local.nodes
  limit_nodes    = local.common.limit_nodes
  zone           = var.zone
  authority      = local.common.authority
  join_token     = var.join_token
  bundle_url     = var.bundle_url
  bundle_sha256  = var.bundle_sha256
  operator_cidrs = var.operator_cidrs
  key_name       = var.key_name
  emails         = var.emails
}

module "us_east" {
  source = "../../modules/aws/cluster"

  providers = { aws = aws.us_east }

  name         = var.name
  region       = "us-east"
  cidr         = local.regions["us-east"]
  regions      = local.regions
  zones        = ["us-east-1a", "us-east-1b"]
  etcd_members = local.etcd_members
  etcd_here    = { etcd-us-east = 0 }
  peerings = {
    (local.regions["eu-west"])  = aws_vpc_peering_connection.eu_west_us_east.id
    (local.regions["ap-south"]) = aws_vpc_peering_connection.us_east_ap_south.id
    (local.regions["us-west"])  = aws_vpc_peering_connection.us_east_us_west.id
    (local.regions["sa-east"])  = aws_vpc_peering_connection.us_east_sa_east.id
  }
  nodes          = local.nodes
  limit_nodes    = local.common.limit_nodes
  zone           = var.zone
  authority      = local.common.authority
  join_token     = var.join_token
  bundle_url     = var.bundle_url
  bundle_sha256  = var.bundle_sha256
  operator_cidrs = var.operator_cidrs
  key_name       = var.key_name
  emails         = var.emails
}

module "ap_south" {
  source = "../../modules/aws/cluster"

  providers = { aws = aws.ap_south }

  name         = var.name
  region       = "ap-south"
  cidr         = local.regions["ap-south"]
  regions      = local.regions
  zones        = ["ap-south-1a", "ap-south-1b"]
  etcd_members = local.etcd_members
  etcd_here    = { etcd-ap-south = 0 }
  peerings = {
    (local.regions["eu-west"]) = aws_vpc_peering_connection.eu_west_ap_south.id
    (local.regions["us-east"]) = aws_vpc_peering_connection.us_east_ap_south.id
    (local.regions["us-west"]) = aws_vpc_peering_connection.ap_south_us_west.id
    (local.regions["sa-east"]) = aws_vpc_peering_connection.ap_south_sa_east.id
  }
  nodes          = local.nodes
  limit_nodes    = local.common.limit_nodes
  zone           = var.zone
  authority      = local.common.authority
  join_token     = var.join_token
  bundle_url     = var.bundle_url
  bundle_sha256  = var.bundle_sha256
  operator_cidrs = var.operator_cidrs
  key_name       = var.key_name
  emails         = var.emails
}

module "us_west" {
  source = "../../modules/aws/cluster"

  providers = { aws = aws.us_west }

  name         = var.name
  region       = "us-west"
  cidr         = local.regions["us-west"]
  regions      = local.regions
  zones        = ["us-west-2a", "us-west-2b"]
  etcd_members = local.etcd_members
  etcd_here    = { etcd-us-west = 0 }
  peerings = {
    (local.regions["eu-west"])  = aws_vpc_peering_connection.eu_west_us_west.id
    (local.regions["us-east"])  = aws_vpc_peering_connection.us_east_us_west.id
    (local.regions["ap-south"]) = aws_vpc_peering_connection.ap_south_us_west.id
    (local.regions["sa-east"])  = aws_vpc_peering_connection.us_west_sa_east.id
  }
  nodes          = local.nodes
  limit_nodes    = local.common.limit_nodes
  zone           = var.zone
  authority      = local.common.authority
  join_token     = var.join_token
  bundle_url     = var.bundle_url
  bundle_sha256  = var.bundle_sha256
  operator_cidrs = var.operator_cidrs
  key_name       = var.key_name
  emails         = var.emails
}

module "sa_east" {
  source = "../../modules/aws/cluster"

  providers = { aws = aws.sa_east }

  name         = var.name
  region       = "sa-east"
  cidr         = local.regions["sa-east"]
  regions      = local.regions
  zones        = ["sa-east-1a", "sa-east-1b"]
  etcd_members = local.etcd_members
  etcd_here    = { etcd-sa-east = 0 }
  peerings = {
    (local.regions["eu-west"])  = aws_vpc_peering_connection.eu_west_sa_east.id
    (local.regions["us-east"])  = aws_vpc_peering_connection.us_east_sa_east.id
    (local.regions["ap-south"]) = aws_vpc_peering_connection.ap_south_sa_east.id
    (local.regions["us-west"])  = aws_vpc_peering_connection.us_west_sa_east.id
  }
  nodes          = local.nodes
  limit_nodes    = local.common.limit_nodes
  zone           = var.zone
  authority      = local.common.authority
  join_token     = var.join_token
  bundle_url     = var.bundle_url
  bundle_sha256  = var.bundle_sha256
  operator_cidrs = var.operator_cidrs
  key_name       = var.key_name
  emails         = var.emails
}

# Every region reaches every other by its private addresses: etcd, peers and the authority speak that way.
resource "aws_vpc_peering_connection" "eu_west_us_east" {
  provider = aws.eu_west

  vpc_id      = module.eu_west.vpc_id
  peer_vpc_id = module.us_east.vpc_id
  peer_region = "us-east-1"
  tags        = { Name = "${var.name}-eu-west-us-east", Cluster = var.name }
}

resource "aws_vpc_peering_connection_accepter" "eu_west_us_east" {
  provider = aws.us_east

  vpc_peering_connection_id = aws_vpc_peering_connection.eu_west_us_east.id
  auto_accept               = true
  tags                      = { Name = "${var.name}-eu-west-us-east", Cluster = var.name }
}

resource "aws_vpc_peering_connection" "eu_west_ap_south" {
  provider = aws.eu_west

  vpc_id      = module.eu_west.vpc_id
  peer_vpc_id = module.ap_south.vpc_id
  peer_region = "ap-south-1"
  tags        = { Name = "${var.name}-eu-west-ap-south", Cluster = var.name }
}

resource "aws_vpc_peering_connection_accepter" "eu_west_ap_south" {
  provider = aws.ap_south

  vpc_peering_connection_id = aws_vpc_peering_connection.eu_west_ap_south.id
  auto_accept               = true
  tags                      = { Name = "${var.name}-eu-west-ap-south", Cluster = var.name }
}

resource "aws_vpc_peering_connection" "eu_west_us_west" {
  provider = aws.eu_west

  vpc_id      = module.eu_west.vpc_id
  peer_vpc_id = module.us_west.vpc_id
  peer_region = "us-west-2"
  tags        = { Name = "${var.name}-eu-west-us-west", Cluster = var.name }
}

resource "aws_vpc_peering_connection_accepter" "eu_west_us_west" {
  provider = aws.us_west

  vpc_peering_connection_id = aws_vpc_peering_connection.eu_west_us_west.id
  auto_accept               = true
  tags                      = { Name = "${var.name}-eu-west-us-west", Cluster = var.name }
}

resource "aws_vpc_peering_connection" "eu_west_sa_east" {
  provider = aws.eu_west

  vpc_id      = module.eu_west.vpc_id
  peer_vpc_id = module.sa_east.vpc_id
  peer_region = "sa-east-1"
  tags        = { Name = "${var.name}-eu-west-sa-east", Cluster = var.name }
}

resource "aws_vpc_peering_connection_accepter" "eu_west_sa_east" {
  provider = aws.sa_east

  vpc_peering_connection_id = aws_vpc_peering_connection.eu_west_sa_east.id
  auto_accept               = true
  tags                      = { Name = "${var.name}-eu-west-sa-east", Cluster = var.name }
}

resource "aws_vpc_peering_connection" "us_east_ap_south" {
  provider = aws.us_east

  vpc_id      = module.us_east.vpc_id
  peer_vpc_id = module.ap_south.vpc_id
  peer_region = "ap-south-1"
  tags        = { Name = "${var.name}-us-east-ap-south", Cluster = var.name }
}

resource "aws_vpc_peering_connection_accepter" "us_east_ap_south" {
  provider = aws.ap_south

  vpc_peering_connection_id = aws_vpc_peering_connection.us_east_ap_south.id
  auto_accept               = true
  tags                      = { Name = "${var.name}-us-east-ap-south", Cluster = var.name }
}

resource "aws_vpc_peering_connection" "us_east_us_west" {
  provider = aws.us_east

  vpc_id      = module.us_east.vpc_id
  peer_vpc_id = module.us_west.vpc_id
  peer_region = "us-west-2"
  tags        = { Name = "${var.name}-us-east-us-west", Cluster = var.name }
}

resource "aws_vpc_peering_connection_accepter" "us_east_us_west" {
  provider = aws.us_west

  vpc_peering_connection_id = aws_vpc_peering_connection.us_east_us_west.id
  auto_accept               = true
  tags                      = { Name = "${var.name}-us-east-us-west", Cluster = var.name }
}

resource "aws_vpc_peering_connection" "us_east_sa_east" {
  provider = aws.us_east

  vpc_id      = module.us_east.vpc_id
  peer_vpc_id = module.sa_east.vpc_id
  peer_region = "sa-east-1"
  tags        = { Name = "${var.name}-us-east-sa-east", Cluster = var.name }
}

resource "aws_vpc_peering_connection_accepter" "us_east_sa_east" {
  provider = aws.sa_east

  vpc_peering_connection_id = aws_vpc_peering_connection.us_east_sa_east.id
  auto_accept               = true
  tags                      = { Name = "${var.name}-us-east-sa-east", Cluster = var.name }
}

resource "aws_vpc_peering_connection" "ap_south_us_west" {
  provider = aws.ap_south

  vpc_id      = module.ap_south.vpc_id
  peer_vpc_id = module.us_west.vpc_id
  peer_region = "us-west-2"
  tags        = { Name = "${var.name}-ap-south-us-west", Cluster = var.name }
}

resource "aws_vpc_peering_connection_accepter" "ap_south_us_west" {
  provider = aws.us_west

  vpc_peering_connection_id = aws_vpc_peering_connection.ap_south_us_west.id
  auto_accept               = true
  tags                      = { Name = "${var.name}-ap-south-us-west", Cluster = var.name }
}

resource "aws_vpc_peering_connection" "ap_south_sa_east" {
  provider = aws.ap_south

  vpc_id      = module.ap_south.vpc_id
  peer_vpc_id = module.sa_east.vpc_id
  peer_region = "sa-east-1"
  tags        = { Name = "${var.name}-ap-south-sa-east", Cluster = var.name }
}

resource "aws_vpc_peering_connection_accepter" "ap_south_sa_east" {
  provider = aws.sa_east

  vpc_peering_connection_id = aws_vpc_peering_connection.ap_south_sa_east.id
  auto_accept               = true
  tags                      = { Name = "${var.name}-ap-south-sa-east", Cluster = var.name }
}

resource "aws_vpc_peering_connection" "us_west_sa_east" {
  provider = aws.us_west

  vpc_id      = module.us_west.vpc_id
  peer_vpc_id = module.sa_east.vpc_id
  peer_region = "sa-east-1"
  tags        = { Name = "${var.name}-us-west-sa-east", Cluster = var.name }
}

resource "aws_vpc_peering_connection_accepter" "us_west_sa_east" {
  provider = aws.sa_east

  vpc_peering_connection_id = aws_vpc_peering_connection.us_west_sa_east.id
  auto_accept               = true
  tags                      = { Name = "${var.name}-us-west-sa-east", Cluster = var.name }
}
