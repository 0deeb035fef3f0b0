output "vpc_id" {
  description = "The VPC, for peering with other regions."
  value       = aws_vpc.this.id
}

output "subnet_ids" {
  description = "Public subnets, one for each availability zone, in their order."
  value       = aws_subnet.public[*].id
}

output "subnet_cidrs" {
  description = "Their networks, in the same order."
  value       = aws_subnet.public[*].cidr_block
}

output "node_group_id" {
  description = "Security group of nodes."
  value       = aws_security_group.node.id
}

output "etcd_group_id" {
  description = "Security group of etcd members and the authority."
  value       = aws_security_group.etcd.id
}
