output "name_servers" {
  description = "Names and addresses of this region's name servers: what the parent's NS records and glue say."
  value       = { for name, address in hcloud_primary_ip.node : "${name}.${var.zone}" => address.ip_address }
}

output "etcd_addresses" {
  description = "Where operators reach the members of etcd by SSH, by name; the authority's folder is brought to authority_member."
  value       = { for name, member in hcloud_server.member : name => member.ipv4_address }
}

output "nodes" {
  description = "Ids of the nodes' servers, by the name of the name server that they are."
  value       = { for name, server in hcloud_server.node : name => server.id }
}
