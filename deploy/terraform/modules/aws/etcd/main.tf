# Members of the cluster's etcd that stand in this region. Each has the address that all others were told, and a disk that
# outlives a reboot. A member is a machine of its own and not a scaling group's: who replaces it by itself loses its data.
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
  tags     = merge(var.tags, { Cluster = var.name, Region = var.region, Role = "etcd", ManagedBy = "terraform" })
  template = "${path.module}/../../../../cloud-init/machine.yaml.tftpl"
  cluster  = join(",", [for name, address in var.members : "${name}=https://${address}:2380"])
}

resource "aws_instance" "member" {
  for_each = var.here

  ami                    = var.ami_id == "" ? data.aws_ami.debian[0].id : var.ami_id
  instance_type          = var.instance_type
  key_name               = var.key_name == "" ? null : var.key_name
  subnet_id              = var.subnet_ids[each.value]
  private_ip             = var.members[each.key]
  vpc_security_group_ids = [var.security_group_id]
  # It fetches the bundle and packages; nobody comes in from there (see the group's rules).
  associate_public_ip_address = true
  disable_api_termination     = true

  user_data = templatefile(local.template, {
    roles          = each.key == var.authority_member ? ["pki", "etcd"] : ["etcd"]
    name           = each.key
    address_flag   = "--address"
    address        = "echo ${var.members[each.key]}"
    public_address = "true"
    bundle_url     = var.bundle_url
    bundle_sha256  = var.bundle_sha256
    authority      = var.authority
    join_token     = var.join_token
    node_args      = ""
    etcd_cluster   = local.cluster
    etcd_token     = var.name
  })

  root_block_device {
    volume_type           = "gp3"
    volume_size           = var.disk_gb
    encrypted             = true
    delete_on_termination = false
  }

  # Only who speaks version 2 learns what user-data says: no request that a program was tricked into can.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  lifecycle {
    # A newer image, or another token, is no reason to replace a member: that is done one by one, by hand (docs/deploy.md).
    ignore_changes = [ami, user_data]
  }

  tags        = merge(local.tags, { Name = "${var.name}-${each.key}" })
  volume_tags = merge(local.tags, { Name = "${var.name}-${each.key}" })
}
