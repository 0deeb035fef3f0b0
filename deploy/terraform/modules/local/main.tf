# A cluster on this machine, by the command that people use for it. Two resources: one is the cluster's life, from the
# first start to the last trace of it; the other its shape, which `meridian local up` brings about, however it was before.
locals {
  home  = abspath("${var.home == "" ? "${path.root}/.meridian" : var.home}/${var.name}")
  nodes = join(",", [for region, value in var.regions : "${region}=${value.nodes}"])
}

resource "terraform_data" "cluster" {
  input            = { home = local.home, command = var.command }
  triggers_replace = [local.home]

  provisioner "local-exec" {
    when        = destroy
    command     = "\"$MERIDIAN\" local down --forget"
    environment = { MERIDIAN = self.output.command, MERIDIAN_LOCAL = self.output.home }
  }
}

resource "terraform_data" "shape" {
  # Replaced when it changes, which stops nothing: `up` starts nodes that are missing and drains those that are too many.
  triggers_replace = [
    terraform_data.cluster.id,
    local.nodes,
    var.workers,
    var.document == "" ? "" : filesha256(var.document),
  ]

  provisioner "local-exec" {
    command = join(" ", concat(
      ["\"$MERIDIAN\" local up --nodes \"$NODES\" --limit-nodes \"$LIMIT_NODES\" --workers \"$WORKERS\""],
      var.document == "" ? [] : ["--document \"$DOCUMENT\""],
    ))
    environment = {
      MERIDIAN       = var.command
      MERIDIAN_LOCAL = local.home
      NODES          = local.nodes
      LIMIT_NODES    = var.nodes_max
      WORKERS        = var.workers
      DOCUMENT       = var.document == "" ? "" : abspath(var.document)
    }
  }
}
