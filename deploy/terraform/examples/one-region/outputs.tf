output "delegation" {
  description = "What the parent zone says: NS records, and the glue of their names."
  value = concat(
    [for name in sort(keys(local.name_servers)) : "${var.zone}. NS ${name}."],
    [for name in sort(keys(local.name_servers)) : "${name}. A ${local.name_servers[name]}"],
  )
}

output "bring_authority_to" {
  description = "Where the authority's folder goes, to /var/lib/meridian-pki (docs/deploy.md)."
  value       = module.eu_west.etcd_addresses["etcd-1"]
}

locals {
  name_servers = module.eu_west.name_servers
}
