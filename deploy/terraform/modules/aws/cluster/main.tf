# A cluster's part in one region: its network, its members of etcd, its nodes, its name servers, its alarms. A cluster of
# several regions is this module once for each, with that region's provider; what they must agree on (networks, members
# of etcd, the authority) they are all told alike, so that none waits for another (examples/three-regions).
module "network" {
  source = "../network"

  name           = var.name
  region         = var.region
  cidr           = var.cidr
  cluster_cidrs  = values(var.regions)
  zones          = var.zones
  operator_cidrs = var.operator_cidrs
  listeners      = var.listeners
  peerings       = var.peerings
  tags           = var.tags
}

module "etcd" {
  source = "../etcd"

  name              = var.name
  region            = var.region
  members           = var.etcd_members
  here              = var.etcd_here
  authority_member  = var.authority_member
  subnet_ids        = module.network.subnet_ids
  security_group_id = module.network.etcd_group_id
  instance_type     = var.instance_types.etcd
  bundle_url        = var.bundle_url
  bundle_sha256     = var.bundle_sha256
  authority         = var.authority
  join_token        = var.join_token
  ami_id            = var.ami_id
  key_name          = var.key_name
  tags              = var.tags
}

module "dns" {
  source = "../dns"

  name           = var.name
  region         = var.region
  vpc_id         = module.network.vpc_id
  subnet_ids     = module.network.subnet_ids
  zone           = var.zone
  parent_zone_id = var.parent_zone_id
  tags           = var.tags
}

module "gateway" {
  source = "../gateway"

  name              = var.name
  region            = var.region
  nodes             = var.nodes
  limit_nodes       = var.limit_nodes
  etcd_endpoints    = module.etcd.endpoints
  subnet_ids        = module.network.subnet_ids
  security_group_id = module.network.node_group_id
  target_group_arns = [module.dns.target_group_arn]
  instance_type     = var.instance_types.node
  node_args         = var.node_args
  bundle_url        = var.bundle_url
  bundle_sha256     = var.bundle_sha256
  authority         = var.authority
  join_token        = var.join_token
  ami_id            = var.ami_id
  key_name          = var.key_name
  tags              = var.tags
}

module "observability" {
  source = "../observability"

  name              = var.name
  region            = var.region
  autoscaling_group = module.gateway.autoscaling_group
  etcd_instances    = module.etcd.instance_ids
  dns_load_balancer = module.dns.load_balancer
  emails            = var.emails
  tags              = var.tags
}
