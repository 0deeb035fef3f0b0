output "endpoints" {
  description = "Client addresses of all members, for nodes."
  value       = [for address in values(var.members) : "https://${address}:2379"]
}

output "instance_ids" {
  description = "Machines of the members that stand here, by name."
  value       = { for name, instance in aws_instance.member : name => instance.id }
}

output "public_addresses" {
  description = "Where operators reach them by SSH, by name."
  value       = { for name, instance in aws_instance.member : name => instance.public_ip }
}
