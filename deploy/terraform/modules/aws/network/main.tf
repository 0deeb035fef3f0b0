# The network of one region: public subnets, since clients come straight to the nodes, and two groups of rules. Between
# machines of the cluster everything speaks mutual TLS; the rules are the second line.
locals {
  tags = merge(var.tags, { Cluster = var.name, Region = var.region, ManagedBy = "terraform" })
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = var.name })
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_subnet" "public" {
  count = length(var.zones)

  vpc_id            = aws_vpc.this.id
  availability_zone = var.zones[count.index]
  cidr_block        = cidrsubnet(var.cidr, 4, count.index)
  tags              = merge(local.tags, { Name = "${var.name}-${var.zones[count.index]}" })
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_route" "world" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route" "region" {
  for_each = var.peerings

  route_table_id            = aws_route_table.public.id
  destination_cidr_block    = each.key
  vpc_peering_connection_id = each.value
}

resource "aws_route_table_association" "public" {
  count = length(var.zones)

  subnet_id      = aws_subnet.public[count.index].id
  route_table_id = aws_route_table.public.id
}

resource "aws_security_group" "node" {
  name_prefix = "${var.name}-node-"
  description = "Gateway nodes of ${var.name}"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-node" })

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_security_group" "etcd" {
  name_prefix = "${var.name}-etcd-"
  description = "etcd members and the authority of ${var.name}"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-etcd" })

  lifecycle {
    create_before_destroy = true
  }
}

locals {
  world   = ["0.0.0.0/0"]
  clients = concat(var.listeners, [{ port = 53, protocol = "udp" }, { port = 53, protocol = "tcp" }])

  # Who may reach which port of which group. A rule's name is its identity, so that a change of one touches no other.
  rules = merge(
    { for one in local.clients : "node-${one.protocol}-${one.port}" => merge(one, { group = aws_security_group.node.id, from = local.world }) },
    {
      node-peers     = { group = aws_security_group.node.id, port = 9901, protocol = "tcp", from = var.cluster_cidrs }
      etcd-clients   = { group = aws_security_group.etcd.id, port = 2379, protocol = "tcp", from = var.cluster_cidrs }
      etcd-peers     = { group = aws_security_group.etcd.id, port = 2380, protocol = "tcp", from = var.cluster_cidrs }
      etcd-authority = { group = aws_security_group.etcd.id, port = 9902, protocol = "tcp", from = var.cluster_cidrs }
    },
    length(var.operator_cidrs) == 0 ? {} : {
      node-ssh   = { group = aws_security_group.node.id, port = 22, protocol = "tcp", from = var.operator_cidrs }
      node-admin = { group = aws_security_group.node.id, port = 9900, protocol = "tcp", from = var.operator_cidrs }
      etcd-ssh   = { group = aws_security_group.etcd.id, port = 22, protocol = "tcp", from = var.operator_cidrs }
    },
  )
}

resource "aws_security_group_rule" "in" {
  for_each = local.rules

  type              = "ingress"
  security_group_id = each.value.group
  from_port         = each.value.port
  to_port           = each.value.port
  protocol          = each.value.protocol
  cidr_blocks       = each.value.from
  description       = each.key
}

resource "aws_security_group_rule" "out" {
  for_each = { node = aws_security_group.node.id, etcd = aws_security_group.etcd.id }

  type              = "egress"
  security_group_id = each.value
  from_port         = 0
  to_port           = 0
  protocol          = "-1"
  cidr_blocks       = local.world
  description       = "upstreams, packages, other regions"
}
