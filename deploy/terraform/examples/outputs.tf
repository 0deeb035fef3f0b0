# What the examples for Google Cloud and Hetzner tell alike; each has a link to this file.
locals {
  name_servers = merge([for one in module.region : one.name_servers]...)
}

output "delegation" {
  description = "What the parent zone says: NS records, and the glue of their names."
  value = concat(
    [for name in sort(keys(local.name_servers)) : "${var.zone}. NS ${name}."],
    [for name in sort(keys(local.name_servers)) : "${name}. A ${local.name_servers[name]}"],
  )
}

output "bring_authority_to" {
  description = "Where the authority's folder goes, to /var/lib/meridian-pki (docs/deploy.md)."
  value       = merge([for one in module.region : one.etcd_addresses]...)[local.authority]
}
