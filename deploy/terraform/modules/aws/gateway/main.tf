# Nodes of one region, in a scaling group behind nothing but our own DNS. A machine that is told to end drains
# (docs/deploy.md); clients are elsewhere before its address is gone.
data "aws_ami" "debian" {
  count = var.ami_id == "" ? 1 : 0

  owners      = ["136693071363"] # Debian, see wiki.debian.org/Cloud/AmazonEC2Image
  most_recent = true

  filter {
    name   = "name"
    values = ["debian-12-amd64-*"]
  }
}

locals {
  tags     = merge(var.tags, { Cluster = var.name, Region = var.region, Role = "node", ManagedBy = "terraform" })
  template = "${path.module}/../../../../cloud-init/machine.yaml.tftpl"
  metadata = "curl -fsS -H \"X-aws-ec2-metadata-token: $(curl -fsS -X PUT -H X-aws-ec2-metadata-token-ttl-seconds:60 http://169.254.169.254/latest/api/token)\" http://169.254.169.254/latest/meta-data"
  flags = join(" ", compact([
    "--region=${var.region}",
    "--cluster=${var.name}",
    "--etcd=${join(",", var.etcd_endpoints)}",
    "--limit-nodes=${var.limit_nodes}",
    var.node_args,
  ]))
}

resource "aws_launch_template" "node" {
  name_prefix            = "${var.name}-node-"
  image_id               = var.ami_id == "" ? data.aws_ami.debian[0].id : var.ami_id
  instance_type          = var.instance_type
  key_name               = var.key_name == "" ? null : var.key_name
  update_default_version = true

  user_data = base64encode(templatefile(local.template, {
    roles          = ["node"]
    name           = "${var.region}-$(${local.metadata}/instance-id)"
    address_flag   = "--address"
    address        = "${local.metadata}/local-ipv4"
    public_address = "${local.metadata}/public-ipv4"
    bundle_url     = var.bundle_url
    bundle_sha256  = var.bundle_sha256
    authority      = var.authority
    join_token     = var.join_token
    node_args      = local.flags
    etcd_cluster   = ""
    etcd_token     = ""
  }))

  network_interfaces {
    associate_public_ip_address = true
    delete_on_termination       = true
    security_groups             = [var.security_group_id]
  }

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      volume_size           = 8
      encrypted             = true
      delete_on_termination = true
    }
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]

    content {
      resource_type = tag_specifications.value
      tags          = merge(local.tags, { Name = "${var.name}-node" })
    }
  }

  tags = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_autoscaling_group" "node" {
  name_prefix         = "${var.name}-node-"
  min_size            = var.nodes.min
  max_size            = var.nodes.max
  vpc_zone_identifier = var.subnet_ids
  target_group_arns   = var.target_group_arns
  # Of the load balancer's health nothing is replaced: it would restart nodes whose etcd is away, and they serve.
  health_check_type         = "EC2"
  health_check_grace_period = 300
  wait_for_capacity_timeout = "0" # machines wait for the authority, which an operator brings
  termination_policies      = ["OldestLaunchTemplate", "OldestInstance"]

  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }

  # A new bundle or image goes out one machine after the other; the old one leaves when the new one serves.
  instance_refresh {
    strategy = "Rolling"

    preferences {
      min_healthy_percentage = 90
      instance_warmup        = "180"
    }
  }

  dynamic "tag" {
    for_each = merge(local.tags, { Name = "${var.name}-node" })

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = false # the launch template's tags do
    }
  }

  lifecycle {
    create_before_destroy = true
    ignore_changes        = [desired_capacity]
  }
}

# A machine that shall end is held for a minute, in which it learns so from its metadata and drains (meridian-notice.service,
# 5 s and 25 s). Then the group goes on by itself: a machine that had to say so would need a role in IAM.
resource "aws_autoscaling_lifecycle_hook" "leave" {
  name                   = "leave"
  autoscaling_group_name = aws_autoscaling_group.node.name
  lifecycle_transition   = "autoscaling:EC2_INSTANCE_TERMINATING"
  heartbeat_timeout      = 60
  default_result         = "CONTINUE"
}

resource "aws_autoscaling_policy" "cpu" {
  name                      = "cpu"
  autoscaling_group_name    = aws_autoscaling_group.node.name
  policy_type               = "TargetTrackingScaling"
  estimated_instance_warmup = 180

  target_tracking_configuration {
    target_value = var.nodes.cpu_percent

    predefined_metric_specification {
      predefined_metric_type = "ASGAverageCPUUtilization"
    }
  }
}
