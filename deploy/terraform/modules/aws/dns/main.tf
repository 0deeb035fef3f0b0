# What a delegation needs: addresses of name servers that never change, while nodes come and go. A network load balancer
# has them, keeps clients' addresses (geography needs those), and gives queries to whatever nodes run. Only DNS goes by
# it; clients of the gateway go to the nodes that DNS names.
locals {
  tags = merge(var.tags, { Cluster = var.name, Region = var.region, Role = "dns", ManagedBy = "terraform" })
  # ns-eu-west-1.gw.example.com and so on: below the zone itself, therefore glue in the parent.
  servers = [for number in range(length(var.subnet_ids)) : "ns-${var.region}-${number + 1}.${var.zone}"]
}

resource "aws_eip" "server" {
  count = length(var.subnet_ids)

  domain = "vpc"
  tags   = merge(local.tags, { Name = local.servers[count.index] })
}

resource "aws_lb" "dns" {
  name                             = "${var.name}-dns"
  load_balancer_type               = "network"
  internal                         = false
  enable_cross_zone_load_balancing = true
  tags                             = local.tags

  dynamic "subnet_mapping" {
    for_each = var.subnet_ids

    content {
      subnet_id     = subnet_mapping.value
      allocation_id = aws_eip.server[subnet_mapping.key].id
    }
  }
}

resource "aws_lb_target_group" "dns" {
  name                 = "${var.name}-dns"
  port                 = 53
  protocol             = "TCP_UDP"
  vpc_id               = var.vpc_id
  preserve_client_ip   = true
  deregistration_delay = 30 # a drain takes 25 s at most
  tags                 = local.tags

  # Whether DNS is served, over TCP on the same port. Whom DNS names is decided by the cluster, and not here.
  health_check {
    protocol            = "TCP"
    interval            = 10
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "dns" {
  load_balancer_arn = aws_lb.dns.arn
  port              = 53
  protocol          = "TCP_UDP"

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.dns.arn
  }
}

# The glue. The NS record set names the servers of all regions, so it is written once, by who knows them all: the example
# of three regions shows it.
resource "aws_route53_record" "glue" {
  count = var.parent_zone_id == "" ? 0 : length(var.subnet_ids)

  zone_id = var.parent_zone_id
  name    = local.servers[count.index]
  type    = "A"
  ttl     = 3600
  records = [aws_eip.server[count.index].public_ip]
}
