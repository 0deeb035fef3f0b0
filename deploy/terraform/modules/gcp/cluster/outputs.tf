output "name_servers" {
  description = "Names and addresses of this region's name servers: what the parent's NS records and glue say."
  value       = { for name, address in google_compute_address.server : "${name}.${var.zone}" => address.address }
}

output "etcd_addresses" {
  description = "Where operators reach the members of etcd by SSH, by name; the authority's folder is brought to authority_member."
  value       = { for name, member in google_compute_instance.member : name => member.network_interface[0].access_config[0].nat_ip }
}

output "instance_group" {
  description = "Managed group of the nodes that come and go."
  value       = google_compute_region_instance_group_manager.node.instance_group
}

output "alarms" {
  description = "Names of the alert policies."
  value       = keys(google_monitoring_alert_policy.this)
}
