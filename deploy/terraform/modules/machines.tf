# What user-data says on every machine, for templatefile of deploy/cloud-init/machine.yaml.tftpl; each kind of machine adds
# its own. Cluster modules that start machines themselves have a link to this file.
locals {
  template = "${path.module}/../../../../cloud-init/machine.yaml.tftpl"

  machine = {
    address_flag  = "--address"
    bundle_url    = var.bundle_url
    bundle_sha256 = var.bundle_sha256
    authority     = var.authority
    join_token    = var.join_token
    node_args     = ""
    etcd_cluster  = ""
    etcd_token    = ""
  }

  etcd_machines = {
    for name, zone in var.etcd_here : name => merge(local.machine, {
      roles          = name == var.authority_member ? ["pki", "etcd"] : ["etcd"]
      name           = name
      address        = "echo ${var.etcd_members[name]}"
      public_address = "true"
      etcd_cluster   = join(",", [for member, address in var.etcd_members : "${member}=https://${address}:2380"])
      etcd_token     = var.name
    })
  }

  node_flags = join(" ", compact([
    "--region=${var.region}",
    "--cluster=${var.name}",
    "--etcd=${join(",", [for address in values(var.etcd_members) : "https://${address}:2379"])}",
    "--limit-nodes=${var.limit_nodes}",
    var.node_args,
  ]))

  # Who may reach which port of which kind of machine, by the rule's name.
  world   = ["0.0.0.0/0"]
  clients = concat(var.listeners, [{ port = 53, protocol = "udp" }, { port = 53, protocol = "tcp" }])
  rules = merge(
    { for one in local.clients : "node-${one.protocol}-${one.port}" => merge(one, { role = "node", from = local.world }) },
    {
      node-peers     = { role = "node", port = 9901, protocol = "tcp", from = values(var.regions) }
      etcd-clients   = { role = "etcd", port = 2379, protocol = "tcp", from = values(var.regions) }
      etcd-peers     = { role = "etcd", port = 2380, protocol = "tcp", from = values(var.regions) }
      etcd-authority = { role = "etcd", port = 9902, protocol = "tcp", from = values(var.regions) }
    },
    length(var.operator_cidrs) == 0 ? {} : {
      node-ssh   = { role = "node", port = 22, protocol = "tcp", from = var.operator_cidrs }
      node-admin = { role = "node", port = 9900, protocol = "tcp", from = var.operator_cidrs }
      etcd-ssh   = { role = "etcd", port = 22, protocol = "tcp", from = var.operator_cidrs }
    },
  )
}
