output "delegation" {
  description = "What the parent zone says: NS records, and the glue of their names."
  value = concat(
    [for name in sort(keys(local.name_servers)) : "${var.zone}. NS ${name}."],
    [for name in sort(keys(local.name_servers)) : "${name}. A ${local.name_servers[name]}"],
  )
}

output "bring_authority_to" {
  description = "Where the authority's folder goes, to /var/lib/meridian-pki (docs/deploy.md)."
  value       = merge(module.eu_west.etcd_addresses, module.us_east.etcd_addresses, module.ap_south.etcd_addresses, module.us_west.etcd_addresses, module.sa_east.etcd_addresses)["etcd-eu-west"]
}

locals {
  name_servers = merge(module.eu_west.name_servers, module.us_east.name_servers, module.ap_south.name_servers, module.us_west.name_servers, module.sa_east.name_servers)
}
