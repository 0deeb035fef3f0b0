output "vpc_id" {
  description = "The VPC, for peering with other regions."
  value       = module.network.vpc_id
}

output "name_servers" {
  description = "Names and addresses of this region's name servers: what the parent's NS records and glue say."
  value       = module.dns.name_servers
}

output "etcd_addresses" {
  description = "Where operators reach the members of etcd by SSH, by name; the authority's folder is brought to authority_member."
  value       = module.etcd.public_addresses
}

output "autoscaling_group" {
  description = "Scaling group of the nodes."
  value       = module.gateway.autoscaling_group
}

output "alarms_topic_arn" {
  description = "Where alarms go."
  value       = module.observability.topic_arn
}
